"""What is kept secret at rest: a dump of the database tells nothing of it, and cannot move it.

Each record has a data key of its own, derived from its purpose's key and a salt; so no key is used
twice, and no counter has to be kept. See docs/decisions/0035.
"""

from secrets import token_bytes

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from typing_extensions import override

from cliniq.platform.signing import Keyring

VERSION = b"\x01"
SALT_BYTES, KEY_BYTES, NONCE_BYTES = 16, 32, 12


class Sealer:
    """Seals and opens: AES-256-GCM, where purpose and context are part of what is authenticated."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @override
    def __repr__(self) -> str:
        return "Sealer()"

    def seal(self, purpose: str, payload: bytes, context: bytes = b"") -> bytes:
        """Seal a payload. Whoever opens it must name the same purpose and context."""
        salt = token_bytes(SALT_BYTES)
        cipher, nonce = self._cipher(purpose, salt)
        return VERSION + salt + cipher.encrypt(nonce, payload, _bound(purpose, context))

    def open(self, purpose: str, sealed: bytes, context: bytes = b"") -> bytes | None:
        """Return the payload; nothing, whatever is wrong: key, place, or a single flipped bit."""
        head, salt, body = sealed[:1], sealed[1 : 1 + SALT_BYTES], sealed[1 + SALT_BYTES :]
        if head != VERSION or len(salt) != SALT_BYTES:
            return None
        cipher, nonce = self._cipher(purpose, salt)
        try:
            return cipher.decrypt(nonce, body, _bound(purpose, context))
        except InvalidTag:
            return None

    def _cipher(self, purpose: str, salt: bytes) -> tuple[AESGCM, bytes]:
        """Derive the key and nonce of one record."""
        derive = HKDF(SHA256(), KEY_BYTES + NONCE_BYTES, salt, b"cliniq record")
        derived = derive.derive(self._keyring.key(f"seal:{purpose}"))
        return AESGCM(derived[:KEY_BYTES]), derived[KEY_BYTES:]


def _bound(purpose: str, context: bytes) -> bytes:
    return VERSION + purpose.encode() + b"\x00" + context
