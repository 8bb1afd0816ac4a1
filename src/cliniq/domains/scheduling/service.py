"""Use cases of the scheduling room. No HTTP and no SQL here."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from cliniq.domains.scheduling import store
from cliniq.domains.scheduling.errors import SlotTaken
from cliniq.domains.scheduling.models import Booking, Resource
from cliniq.domains.scheduling.rules import BACK, ensure_within_horizon
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


async def _claim(unit: Unit, booking: Booking, resources: Sequence[Resource]) -> None:
    wanted = list({each.resource_id for each in resources})
    taken = await store.take_claims(
        unit, booking.booking_id, booking.patient_id, booking.starts_at, booking.ends_at, wanted
    )
    if len(taken) < len(wanted):
        raise SlotTaken
