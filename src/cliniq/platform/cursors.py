"""Keyset pages: a cursor is where the last page ended, signed and bound to its clinic and list."""

from typing import TypeVar

import msgspec

from cliniq.kernel.problem import RequestInvalid
from cliniq.kernel.record import Record
from cliniq.kernel.scope import ClinicScope, PatientScope, Scope
from cliniq.platform.signing import Keyring

MarkT = TypeVar("MarkT", bound=Record)


def write_cursor(keyring: Keyring, scope: Scope, of: str, mark: Record) -> str:
    """Seal where a page ended."""
    return keyring.seal("cursor", msgspec.msgpack.encode(mark), _context(scope, of))


def read_cursor(
    keyring: Keyring, scope: Scope, of: str, cursor: str | None, kind: type[MarkT]
) -> MarkT | None:
    """Read where the last page ended; nothing on the first page.

    Raises: REQUEST_INVALID 422 for a cursor that was not made for this list of this clinic.
    """
    if cursor is None:
        return None
    payload = keyring.open("cursor", cursor, _context(scope, of))
    if payload is None:
        raise RequestInvalid(errors=["query.cursor: not_ours"])
    return msgspec.msgpack.decode(payload, type=kind)


def _context(scope: Scope, of: str) -> bytes:
    clinic = scope.clinic_id.bytes if isinstance(scope, ClinicScope | PatientScope) else b""
    return of.encode() + b"\x00" + clinic
