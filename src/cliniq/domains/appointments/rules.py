"""Pure decisions of the appointments room."""

from collections.abc import Mapping
from types import MappingProxyType

from cliniq.domains.appointments.models import AppointmentStatus as S
from cliniq.kernel.problem import InvalidTransition

# What may follow what. Undo of a check-in, a start or a no-show is a step back that is listed here.
FOLLOWS: Mapping[S, frozenset[S]] = MappingProxyType(
    {
        S.PROPOSED: frozenset({S.BOOKED, S.CANCELLED, S.ENTERED_IN_ERROR}),
        S.WAITLISTED: frozenset({S.BOOKED, S.CANCELLED, S.ENTERED_IN_ERROR}),
        S.BOOKED: frozenset(
            {S.CONFIRMED, S.CHECKED_IN, S.CANCELLED, S.NO_SHOW, S.ENTERED_IN_ERROR}
        ),
        S.CONFIRMED: frozenset({S.CHECKED_IN, S.CANCELLED, S.NO_SHOW, S.ENTERED_IN_ERROR}),
        S.CHECKED_IN: frozenset({S.IN_PROGRESS}),
        S.IN_PROGRESS: frozenset({S.COMPLETED}),
        S.COMPLETED: frozenset({S.ENTERED_IN_ERROR}),
        S.CANCELLED: frozenset(),
        S.NO_SHOW: frozenset({S.BOOKED}),
        S.ENTERED_IN_ERROR: frozenset(),
    }
)

# While one of these, the time may still be changed.
MOVABLE = frozenset({S.PROPOSED, S.WAITLISTED, S.BOOKED, S.CONFIRMED})


def ensure_may_follow(now: S, then: S) -> None:
    """Refuse a step that the life of a visit does not have.

    Raises: INVALID_TRANSITION 409.
    """
    if then not in FOLLOWS[now]:
        raise InvalidTransition(now, then, FOLLOWS[now])


def ensure_movable(now: S) -> None:
    """Refuse another time for a visit that has begun or is over.

    Raises: INVALID_TRANSITION 409.
    """
    if now not in MOVABLE:
        raise InvalidTransition(now, now, FOLLOWS[now])
