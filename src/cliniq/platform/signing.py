"""Keys derived from the one master secret, and what is signed with them."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256

MAC_BYTES = 16  # 128 bits: the least that security.md Q1 allows


class Keyring:
    """Derives a key for every purpose, so that a MAC made for one is worthless for another."""

    def __init__(self, master: str) -> None:
        self._master = master.encode()
        self.key = lru_cache(maxsize=65536)(self._derive)

    def _derive(self, purpose: str, context: bytes = b"") -> bytes:
        """Derive the key of a purpose and context. Shape: 32 bytes."""
        return hmac.digest(self._master, b"%s\x00%s" % (purpose.encode(), context), sha256)

    def mac(self, purpose: str, payload: bytes, context: bytes = b"") -> bytes:
        """Sign a payload. Shape: `MAC_BYTES` bytes."""
        return hmac.digest(self.key(purpose, context), payload, sha256)[:MAC_BYTES]

    def seal(self, purpose: str, payload: bytes, context: bytes = b"") -> str:
        """Put payload and MAC into URL-safe text. It is signed, not secret."""
        return to_text(payload + self.mac(purpose, payload, context))

    def open(self, purpose: str, text: str, context: bytes = b"") -> bytes | None:
        """Return the payload of a sealed text, or nothing where it is not ours."""
        signed = from_text(text)
        if signed is None or len(signed) <= MAC_BYTES:
            return None
        payload, mac = signed[:-MAC_BYTES], signed[-MAC_BYTES:]
        return payload if hmac.compare_digest(mac, self.mac(purpose, payload, context)) else None


def to_text(raw: bytes) -> str:
    """Write bytes as URL-safe base64 without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def from_text(text: str) -> bytes | None:
    """Read URL-safe base64 without padding, in its one canonical spelling; nothing otherwise."""
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        return None
    return raw if to_text(raw) == text else None
