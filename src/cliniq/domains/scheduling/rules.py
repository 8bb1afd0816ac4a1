"""Pure decisions of the scheduling room."""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from cliniq.domains.scheduling.errors import OutsideHorizon
from cliniq.domains.scheduling.models import Claim, Standing, Want

BACK = timedelta(days=1)
AHEAD = timedelta(days=366)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Span: TypeAlias = tuple[int, int]  # whole minutes, without the last, as `slot_span` counts them


def ensure_within_horizon(starts_at: datetime, now: datetime, back: timedelta = BACK) -> None:
    """Refuse a start that is gone for longer than `back`, or further ahead than partitions reach.

    Bounds: to 366 days ahead, both ends included; partitions reach 13 months.
    Raises: OUTSIDE_HORIZON 409.
    """
    if not now - back <= starts_at <= now + AHEAD:
        raise OutsideHorizon(now - back, now + AHEAD)


def settle(
    wants: Sequence[Want], numbers: Mapping[UUID, int], claims: Collection[Claim]
) -> Standing:
    """Decide what became of bookings that claimed their time all at once, in file order.

    The answer is what they would have got one after the other. Whoever lacks time that nobody
    before them holds, or one who keeps it, is refused. Whoever lacks it to one who may not keep
    it, or has it although somebody undecided before them wants it, has to try again. The first is
    always decided.
    """
    held: dict[int, list[tuple[Span, int]]] = defaultdict(list)
    has = {(each.booking_id, each.number) for each in claims}
    spans_of = [list(_spans(want, numbers)) for want in wants]
    for place, want in enumerate(wants):
        for number, span in spans_of[place]:
            if (want.booking.booking_id, number) in has:
                insort(held[number], (span, place))
    kept: set[int] = set()
    open_: dict[int, list[Span]] = defaultdict(list)
    standing = Standing([], [])
    for place, want in enumerate(wants):
        spans = spans_of[place]
        lacking = [each for each in spans if (want.booking.booking_id, each[0]) not in has]
        rivals = [_holders(held[number], span, place) for number, span in lacking]
        if any(not each or each & kept for each in rivals):
            standing.refused.append(want)
        elif rivals or any(_overlap(span, each) for n, span in spans for each in open_[n]):
            standing.undecided.append(want)
            for number, span in spans:
                open_[number].append(span)
        else:
            kept.add(place)
    return standing


def _spans(want: Want, numbers: Mapping[UUID, int]) -> Iterator[tuple[int, Span]]:
    first = (want.booking.starts_at - EPOCH) // MINUTE
    last = -((EPOCH - want.booking.ends_at) // MINUTE)
    for resource_id in {each.resource_id for each in want.resources}:
        yield numbers[resource_id], (first, last)


def _holders(held: Sequence[tuple[Span, int]], span: Span, before: int) -> set[int]:
    """Say who before a place holds some of that time. What is held is in order, without overlap."""
    at = bisect_right(held, span[0], key=lambda each: each[0][1])
    found = set()
    while at < len(held) and held[at][0][0] < span[1]:
        if held[at][1] < before:
            found.add(held[at][1])
        at += 1
    return found


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]
