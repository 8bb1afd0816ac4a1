"""Pure decisions of the identity room."""

import struct
from datetime import datetime, timedelta
from enum import Enum, auto
from uuid import UUID

from cliniq.domains.identity.models import Session
from cliniq.kernel.record import Record

SESSION_LIFE = timedelta(days=30)
RETRY = timedelta(seconds=10)  # a lost answer may be asked for again

_REFRESH = struct.Struct(">16s16sI")


class RefreshClaim(Record, frozen=True):
    """What a refresh token says: whose sign-in, and the how-manieth token of it this is."""

    person_id: UUID
    session_id: UUID
    generation: int


def write_refresh(claim: RefreshClaim) -> bytes:
    """Pack what a refresh token says."""
    return _REFRESH.pack(claim.person_id.bytes, claim.session_id.bytes, claim.generation)


def read_refresh(payload: bytes) -> RefreshClaim | None:
    """Unpack what a refresh token says."""
    if len(payload) != _REFRESH.size:
        return None
    person, session, generation = _REFRESH.unpack(payload)
    return RefreshClaim(UUID(bytes=person), UUID(bytes=session), generation)


class Rotation(Enum):
    """What a refresh token that is ours deserves."""

    ADVANCE = auto()  # the newest: it is used up, its successor is given
    REPEAT = auto()  # the one before, just now: its answer was lost, the same successor is given
    REVOKE = auto()  # an older one: somebody else has it; the sign-in ends
    REFUSE = auto()  # the sign-in is over


def judge_refresh(session: Session, generation: int, wall: datetime) -> Rotation:
    """Decide what becomes of a sign-in whose refresh token was shown.

    Source: RFC 9700, refresh token rotation; security.md A7.
    """
    if session.ended_at is not None or session.expires_at <= wall:
        return Rotation.REFUSE
    if generation == session.generation:
        return Rotation.ADVANCE
    if generation == session.generation - 1 and wall - session.refreshed_at <= RETRY:
        return Rotation.REPEAT
    return Rotation.REVOKE
