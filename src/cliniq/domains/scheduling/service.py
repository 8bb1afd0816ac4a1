"""Use cases of the scheduling room. No HTTP and no SQL here."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from cliniq.domains.scheduling import store
from cliniq.domains.scheduling.errors import SlotTaken
from cliniq.domains.scheduling.models import Booking, Claim, Resource, Want
from cliniq.domains.scheduling.rules import BACK, ensure_within_horizon, settle
from cliniq.kernel.scope import PatientScope
from cliniq.platform.db import ReadUnit, Unit


def ensure_bookable(unit: ReadUnit, starts_at: datetime) -> None:
    """Refuse a start outside the horizon; staff may book what has just begun, a patient may not.

    Raises: OUTSIDE_HORIZON 409.
    """
    back = timedelta() if isinstance(unit.scope, PatientScope) else BACK
    ensure_within_horizon(starts_at, unit.now, back)


async def book(unit: Unit, booking: Booking, resources: Sequence[Resource]) -> None:
    """Book time of a patient and of all resources, or of none.

    Raises: OUTSIDE_HORIZON 409; SLOT_TAKEN 409 where any of them is busy, which must end the unit.
    """
    ensure_bookable(unit, booking.starts_at)
    await _number(unit, resources)
    await store.add_booking(unit, booking.booking_id, booking.patient_id, booking.starts_at)
    await _claim(unit, booking, resources)


async def note(unit: Unit, booking: Booking) -> None:
    """Write down a booking that takes nobody's time: somebody has come, and waits.

    Raises: OUTSIDE_HORIZON 409.
    """
    ensure_bookable(unit, booking.starts_at)
    await store.add_booking(unit, booking.booking_id, booking.patient_id, booking.starts_at)


async def book_all(unit: Unit, wants: Sequence[Want]) -> set[UUID]:
    """Book time for many at once, as if one after the other; answer with those that got it.

    Of the others nothing is left. The horizon is not judged: history may be written.
    Shape: as many statements as for one, and three more for each round in which those try again
    who lost their time to one who did not keep it.
    Locks: the claims in the order of the resources' numbers, then of the list, as every booker. A
    second round may wait for a booker who waits for the first; then one of the two is refused by
    the database, as absent, and has to come again.
    """
    numbers = await _number_all(unit, [each for want in wants for each in want.resources])
    trying, refused = list(wants), set[UUID]()
    while trying:
        claims = await _claim_all(unit, trying, numbers)
        standing = settle(trying, numbers, claims)
        trying = standing.undecided
        lost = [each.booking.booking_id for each in (*standing.refused, *trying)]
        if lost:
            await store.drop_all_claims(unit, lost)
        refused |= {each.booking.booking_id for each in standing.refused}
    bookings = [each.booking for each in wants if each.booking.booking_id not in refused]
    if bookings:
        await store.add_bookings(
            unit,
            [each.booking_id for each in bookings],
            [each.patient_id for each in bookings],
            [each.starts_at for each in bookings],
        )
    return {each.booking_id for each in bookings}


async def hold(unit: Unit, booking_id: UUID) -> None:
    """Keep rivals who would move or call off a booking waiting; nothing where there is none.

    Locks: the booking, until COMMIT. Whoever waited then reads the visit in its new partition, for
    PostgreSQL refuses an update that waited for a row which was moved into another.
    """
    await store.hold_booking(unit, booking_id)


async def rebook(unit: Unit, booking: Booking, resources: Sequence[Resource]) -> None:
    """Move a booking and its claims to another time.

    Locks: the resources' calendars against other moves, or two that swap would wait for each other.
    Raises: OUTSIDE_HORIZON 409; SLOT_TAKEN 409, which must end the unit: the old time is kept then.
    """
    ensure_bookable(unit, booking.starts_at)
    await _number(unit, resources)
    await store.hold_resources(unit, [each.resource_id for each in resources])
    await store.drop_claims(unit, booking.booking_id)
    await store.move_booking(unit, booking.booking_id, booking.starts_at)
    await _claim(unit, booking, resources)


async def release(unit: Unit, booking_id: UUID) -> None:
    """Free the time of a booking that will not take place; the booking itself stays."""
    await store.drop_claims(unit, booking_id)


async def _number(unit: Unit, resources: Sequence[Resource]) -> None:
    known = set(await store.list_known(unit, [each.resource_id for each in resources]))
    for each in sorted(resources, key=lambda each: each.resource_id):  # one order for all
        if each.resource_id not in known:
            await store.add_resource(unit, each)


async def _number_all(unit: Unit, resources: Sequence[Resource]) -> dict[UUID, int]:
    wanted = {each.resource_id: each for each in resources}
    numbers = await _numbers(unit, wanted)
    missing = sorted(wanted.keys() - numbers.keys())  # one order for all
    if missing:
        await store.add_resources(
            unit,
            missing,
            [wanted[each].kind for each in missing],
            [wanted[each].patient_id for each in missing],
        )
        numbers |= await _numbers(unit, missing)
    return numbers


async def _numbers(unit: ReadUnit, resource_ids: Iterable[UUID]) -> dict[UUID, int]:
    found = await store.list_numbers(unit, list(resource_ids))
    return {each.resource_id: each.number for each in found}


async def _claim_all(unit: Unit, wants: Sequence[Want], numbers: Mapping[UUID, int]) -> list[Claim]:
    wanted = [
        (want.booking, numbers[resource_id])
        for want in wants
        for resource_id in {each.resource_id for each in want.resources}
    ]
    if not wanted:
        return []
    return await store.take_all_claims(
        unit,
        [booking.booking_id for booking, _ in wanted],
        [booking.patient_id for booking, _ in wanted],
        [booking.starts_at for booking, _ in wanted],
        [booking.ends_at for booking, _ in wanted],
        [number for _, number in wanted],
    )


async def _claim(unit: Unit, booking: Booking, resources: Sequence[Resource]) -> None:
    wanted = list({each.resource_id for each in resources})
    taken = await store.take_claims(
        unit, booking.booking_id, booking.patient_id, booking.starts_at, booking.ends_at, wanted
    )
    if len(taken) < len(wanted):
        raise SlotTaken
