"""Access tokens: short-lived, of one type and algorithm, refused undecoded when too long."""

from datetime import timedelta
from functools import lru_cache
from typing import Any

import jwt

from cliniq.platform.clock import Clock
from cliniq.platform.signing import Keyring

LIFE = timedelta(minutes=15)
LONGEST = 1024
ALGORITHM = "HS256"
TYPE = "at+jwt"  # RFC 9068
AUDIENCE = "cliniq"
KNOWN = 16_384  # tokens that need not be read again: more than there are sockets


class AccessTokens:
    """Issues and reads access tokens (RFC 9068 shape, HS256 under a derived key)."""

    def __init__(self, keyring: Keyring, wall: Clock) -> None:
        self._key = keyring.key("access-token")
        self._wall = wall
        self._claims = lru_cache(maxsize=KNOWN)(self._read)

    def issue(self, claims: dict[str, Any]) -> str:
        """Sign claims; adds issuer, audience, and the times."""
        now = self._wall()
        times = {"iat": now, "nbf": now, "exp": now + LIFE}
        return jwt.encode(
            {"iss": AUDIENCE, "aud": AUDIENCE, **times, **claims},
            self._key,
            ALGORITHM,
            headers={"typ": TYPE},
        )

    def read(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token that is ours and current; nothing otherwise."""
        if len(token) > LONGEST:
            return None
        claims = self._claims(token)
        if claims is None:
            return None
        now = self._wall().timestamp()
        return claims if claims["nbf"] <= now < claims["exp"] else None

    def _read(self, token: str) -> dict[str, Any] | None:
        """Check everything that does not change with time."""
        try:
            opened = jwt.decode_complete(
                token,
                self._key,
                [ALGORITHM],
                audience=AUDIENCE,
                issuer=AUDIENCE,
                options={
                    "require": ["exp", "nbf", "sub", "sid"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        claims: dict[str, Any] = opened["payload"]
        return claims if opened["header"].get("typ") == TYPE else None
