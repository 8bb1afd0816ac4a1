"""Access tokens: of one kind, one algorithm, one key and one time, or nothing."""

import json
from datetime import timedelta
from typing import Any

import jwt
import pytest

from cliniq.platform.signing import Keyring, to_text
from cliniq.platform.tokens import ALGORITHM, AUDIENCE, LIFE, LONGEST, TYPE, AccessTokens
from tests.support import NOON, SECRET, Hands

KEY = Keyring(SECRET).key("access-token")
CLAIMS: dict[str, Any] = {
    "iss": AUDIENCE,
    "aud": AUDIENCE,
    "sub": "somebody",
    "sid": "a sign-in",
    "iat": NOON,
    "nbf": NOON,
    "exp": NOON + LIFE,
}


def tokens(hands: Hands) -> AccessTokens:
    return AccessTokens(Keyring(SECRET), lambda: hands.wall)


def forged(
    key: bytes = KEY, algorithm: str = ALGORITHM, kind: str | None = TYPE, **claims: object
) -> str:
    wanted = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(wanted, key, algorithm, headers={"typ": kind} if kind else None)


def test_token_forged_with_our_own_key_and_shape_would_work(hands: Hands) -> None:
    assert tokens(hands).read(forged()) is not None


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\u00fc.\u00fc.\u00fc",
        "\x00",
        forged(key=b"x" * 32),
        forged(key=Keyring(SECRET).key("refresh-token")),
        forged(key=Keyring(SECRET + "x").key("access-token")),
        forged(algorithm="HS384", key=KEY + KEY),
        forged(kind=None),
        forged(kind="JWT"),
        forged(kind="rt+jwt"),
        forged(aud="somebody else"),
        forged(aud=None),
        forged(iss="somebody else"),
        forged(iss=None),
        forged(sub=None),
        forged(sid=None),
        forged(exp=None),
        forged(nbf=None),
        forged(more="x" * LONGEST),
        forged() + ".",
        forged()[:-1],
        " " + forged(),
    ],
)
def test_token_that_is_not_ours_is_nothing(hands: Hands, token: str) -> None:
    assert tokens(hands).read(token) is None


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS512", "RS256"])
def test_token_that_names_its_own_algorithm_is_nothing(hands: Hands, algorithm: str) -> None:
    header = {"alg": algorithm, "typ": TYPE}
    times = {"iat": 0, "nbf": 0, "exp": 2**33}
    head, body = (to_text(json.dumps(each).encode()) for each in (header, CLAIMS | times))
    for signature in ("", to_text(b"x" * 32), forged().rpartition(".")[2]):
        assert tokens(hands).read(f"{head}.{body}.{signature}") is None


def test_token_with_any_letter_changed_is_nothing(hands: Hands) -> None:
    reader, token = tokens(hands), forged()
    for place, letter in enumerate(token):
        changed = token[:place] + ("A" if letter != "A" else "B") + token[place + 1 :]
        assert reader.read(changed) is None, place
    assert reader.read(token) is not None


def test_token_works_from_its_first_second_for_fifteen_minutes(hands: Hands) -> None:
    reader = tokens(hands)
    token = reader.issue({"sub": "somebody", "sid": "a sign-in"})
    for after, works in (
        (timedelta(), True),
        (LIFE - timedelta(seconds=1), True),
        (LIFE, False),
        (timedelta(days=1), False),
        (timedelta(seconds=-1), False),
        (timedelta(seconds=1), True),  # what was read once is judged by the time again
    ):
        hands.wall = NOON + after
        assert (reader.read(token) is not None) is works, after
    assert timedelta(minutes=15) >= LIFE


def test_claims_cannot_replace_what_every_token_says(hands: Hands) -> None:
    token = tokens(hands).issue({"sub": "somebody", "sid": "a sign-in"})
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "HS256", "typ": "at+jwt"}
    claims = tokens(hands).read(token)
    assert claims is not None
    assert claims.keys() == {"iss", "aud", "iat", "nbf", "exp", "sub", "sid"}
    assert len(token) < LONGEST
