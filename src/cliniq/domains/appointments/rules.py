"""Pure decisions of the appointments room."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType

from cliniq.domains.appointments.errors import NoShowTooEarly
from cliniq.domains.appointments.models import AppointmentStatus as S
from cliniq.domains.appointments.models import Imported, Step
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
        S.CHECKED_IN: frozenset({S.IN_PROGRESS, S.NO_SHOW}),
        S.IN_PROGRESS: frozenset({S.COMPLETED}),
        S.COMPLETED: frozenset({S.ENTERED_IN_ERROR}),
        S.CANCELLED: frozenset(),
        S.NO_SHOW: frozenset({S.BOOKED}),
        S.ENTERED_IN_ERROR: frozenset(),
    }
)

# While one of these, the time may still be changed.
MOVABLE = frozenset({S.PROPOSED, S.WAITLISTED, S.BOOKED, S.CONFIRMED})

AT_ONCE = 5_000  # imported visits of one call
LONGEST = timedelta(days=1)  # of an imported visit
IMPORTABLE = frozenset({S.BOOKED, S.CONFIRMED, S.COMPLETED, S.NO_SHOW, S.CANCELLED})
TAKES_NO_TIME = frozenset({S.NO_SHOW, S.CANCELLED})


def is_sound(visit: Imported) -> bool:
    """Tell whether a visit from elsewhere can be one: some time long, and in a state it may be in.

    Bounds: to a day long.
    """
    length = visit.ends_at - visit.starts_at
    return visit.status in IMPORTABLE and timedelta() < length <= LONGEST


def list_steps(visit: Imported, now: datetime) -> list[Step]:
    """Say what happened to a visit from elsewhere, as far as is known: booked, and its outcome.

    It was over at its end, and missed or called off at the latest when it should have begun; no
    step is later than now, and none is earlier than the one before.
    """
    booked_at = min(visit.booked_at, now)
    steps = [Step(1, booked_at, None, S.BOOKED)]
    if visit.status is not S.BOOKED:
        known = {S.CONFIRMED: booked_at, S.COMPLETED: visit.ends_at}
        at = max(booked_at, min(known.get(visit.status, visit.starts_at), now))
        steps.append(Step(2, at, S.BOOKED, visit.status))
    return steps


def month_of(at: datetime) -> date:
    """Say in which month something is kept: partitions are cut in UTC."""
    return at.astimezone(UTC).date().replace(day=1)


def ensure_may_follow(now: S, then: S) -> None:
    """Refuse a step that the life of a visit does not have.

    Raises: INVALID_TRANSITION 409.
    """
    if then not in FOLLOWS[now]:
        raise InvalidTransition(now, then, FOLLOWS[now])


def ensure_may_miss(status: S, starts_at: datetime, now: datetime) -> None:
    """Refuse to call somebody missing who is here, or not due yet.

    Raises: INVALID_TRANSITION 409 also for one who waits, since the queue has a word for that;
    NO_SHOW_TOO_EARLY 409.
    """
    if status is S.CHECKED_IN:
        raise InvalidTransition(status, S.NO_SHOW, FOLLOWS[status] - {S.NO_SHOW})
    ensure_may_follow(status, S.NO_SHOW)
    if now < starts_at:
        raise NoShowTooEarly(starts_at)


def ensure_movable(now: S) -> None:
    """Refuse another time for a visit that has begun or is over.

    Raises: INVALID_TRANSITION 409.
    """
    if now not in MOVABLE:
        raise InvalidTransition(now, now, FOLLOWS[now])
