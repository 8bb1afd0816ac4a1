"""Thousands of visits at once, as they come from elsewhere: the same rules, in few statements."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from uuid import UUID

from msgspec.structs import replace

from cliniq.domains.access import api as access
from cliniq.domains.appointments import store
from cliniq.domains.appointments.models import (
    Appointment,
    AppointmentColumns,
    Imported,
    Recorded,
    Step,
    StepColumns,
)
from cliniq.domains.appointments.rules import (
    AT_ONCE,
    TAKES_NO_TIME,
    is_sound,
    list_steps,
    month_of,
)
from cliniq.domains.appointments.service import booking_of, resources_of, told_of
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.domains.scheduling import api as scheduling
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import Problem, RequestInvalid
from cliniq.platform.db import Database, ReadUnit, Unit
from cliniq.platform.events import tell
from cliniq.platform.upkeep import open_months


async def book_all(unit: Unit, visits: Sequence[Imported]) -> list[Recorded]:
    """Write visits that come from elsewhere, with what became of them there; answer in order.

    A conflict of time is decided as if they were booked one after the other; of what is refused
    nothing is left. Whose reference is known stays as it is; of one that is there twice, the
    second gets the answer of the first. Cancelled and missed visits take no time. The past is open
    as far as there are partitions: `open_for` makes them.
    Told: AppointmentChanged once for each, from nothing to where it stands. The history holds when
    it was booked, and its outcome.
    Bounds: 5,000 a call, in as many statements as for one (but see `scheduling.book_all`); texts
    without NUL.
    Locks: as `scheduling.book_all`; of two who bring one reference, the second waits.
    Answers with the codes PATIENT_NOT_FOUND, PRACTITIONER_NOT_FOUND, SITE_NOT_FOUND,
    OUTSIDE_HORIZON, SLOT_TAKEN; REQUEST_INVALID for what does not end after it starts, or takes
    more than a day, or is in a state that only a clinic's own day can bring about.
    """
    if len(visits) > AT_ONCE:
        raise ValueError(f"more than {AT_ONCE} visits in one call")
    references = {each.reference: None for each in visits if each.reference is not None}
    known = await _known(unit, list(references))
    first: dict[str | None, int] = {}
    answers: dict[int, Recorded] = {}
    fresh: dict[int, Imported] = {}
    for place, each in enumerate(visits):
        if each.reference in known:
            answers[place] = Recorded(known[each.reference], None, known=True)
        elif each.reference is None or first.setdefault(each.reference, place) == place:
            fresh[place] = each
    if fresh:
        answers |= await _record(unit, fresh)
    for place, each in enumerate(visits):
        if place not in answers:  # its reference was there before
            found = answers[first[each.reference]]
            answers[place] = replace(found, known=found.appointment_id is not None)
    return [answers[place] for place in range(len(visits))]


async def _known(unit: ReadUnit, references: list[str]) -> dict[str | None, UUID]:
    if not references:
        return {}
    found = await store.list_referenced(unit, references)
    return {each.reference: each.appointment_id for each in found}


async def _record(unit: Unit, fresh: Mapping[int, Imported]) -> dict[int, Recorded]:
    """Judge visits, claim their names and their time, and write those that got both."""
    steps = {place: list_steps(each, unit.now) for place, each in fresh.items()}
    answers = await _judge(unit, fresh, steps)
    trying = {
        place: _imported(each, len(steps[place]))
        for place, each in fresh.items()
        if place not in answers
    }
    answers |= await _claim_references(unit, fresh, trying)
    trying = {place: each for place, each in trying.items() if place not in answers}
    booked = await scheduling.book_all(
        unit,
        [
            scheduling.Want(
                booking_of(each), () if each.status in TAKES_NO_TIME else tuple(resources_of(each))
            )
            for each in trying.values()
        ],
    )
    lost = [each.appointment_id for each in trying.values() if each.appointment_id not in booked]
    if lost:
        await store.drop_references(unit, lost)
    written = {place: each for place, each in trying.items() if each.appointment_id in booked}
    if written:
        await _write_all(unit, written, steps)
    for place, each in trying.items():
        answers[place] = (
            Recorded(each.appointment_id, None)
            if place in written
            else Recorded(None, scheduling.SlotTaken.code)
        )
    return answers


async def _judge(
    unit: ReadUnit, fresh: Mapping[int, Imported], steps: Mapping[int, Sequence[Step]]
) -> dict[int, Recorded]:
    """Refuse visits that cannot be, of whom or what is not here, or on days without partitions."""
    wanted = fresh.values()
    here = set(await patients.list_known(unit, list({each.patient_id for each in wanted})))
    doctors = list({each.practitioner_id for each in wanted})
    here |= {each.practitioner_id for each in await access.find_practitioners(unit, doctors)}
    sites = await clinics.find_sites(unit, {each.site_id for each in wanted})
    here |= {each.site_id for each in sites}
    months = {month_of(each.starts_at) for each in wanted}
    months |= {month_of(step.changed_at) for each in steps.values() for step in each}
    found = await store.list_open_months(unit, list(months))
    takes_visits = {each.month for each in found if each.takes_visits}
    takes_steps = {each.month for each in found if each.takes_steps}
    answers = {}
    for place, each in fresh.items():
        fits = month_of(each.starts_at) in takes_visits and all(
            month_of(step.changed_at) in takes_steps for step in steps[place]
        )
        if refusal := _refusal(each, here, fits=fits):
            answers[place] = Recorded(None, refusal.code)
    return answers


def _refusal(visit: Imported, here: Collection[UUID], *, fits: bool) -> type[Problem] | None:
    judged = {
        RequestInvalid: is_sound(visit),
        patients.PatientNotFound: visit.patient_id in here,
        access.PractitionerNotFound: visit.practitioner_id in here,
        clinics.SiteNotFound: visit.site_id in here,
        scheduling.OutsideHorizon: fits,
    }
    return next((refusal for refusal, holds in judged.items() if not holds), None)


def _imported(visit: Imported, version: int) -> Appointment:
    return Appointment(
        new_id(),
        visit.patient_id,
        visit.practitioner_id,
        visit.site_id,
        visit.visit_type,
        visit.starts_at,
        visit.ends_at,
        visit.status,
        version,
    )


async def _claim_references(
    unit: Unit, fresh: Mapping[int, Imported], trying: Mapping[int, Appointment]
) -> dict[int, Recorded]:
    """Call visits by their names; answer for those whom a rival has written meanwhile."""
    named = {
        reference: place for place in trying if (reference := fresh[place].reference) is not None
    }
    if not named:
        return {}
    references = sorted(named)  # one order for all
    ids = [trying[named[each]].appointment_id for each in references]
    added = await store.add_references(unit, references, ids)
    if len(added) == len(references):
        return {}
    theirs = await _known(unit, list(named.keys() - {each.reference for each in added}))
    return {
        named[reference]: Recorded(found, None, known=True)
        for reference, found in theirs.items()
        if reference is not None
    }


async def _write_all(
    unit: Unit, visits: Mapping[int, Appointment], steps: Mapping[int, Sequence[Step]]
) -> None:
    """Write visits whose time is booked, their history, and tell of each."""
    wanted = list(visits.values())
    await store.add_all(
        unit,
        AppointmentColumns(
            [each.appointment_id for each in wanted],
            [each.patient_id for each in wanted],
            [each.practitioner_id for each in wanted],
            [each.site_id for each in wanted],
            [each.visit_type for each in wanted],
            [each.starts_at for each in wanted],
            [each.ends_at for each in wanted],
            [each.status for each in wanted],
            [each.version for each in wanted],
        ),
    )
    taken = [(each, step) for place, each in visits.items() for step in steps[place]]
    await store.add_steps(
        unit,
        StepColumns(
            [each.appointment_id for each, _ in taken],
            [each.patient_id for each, _ in taken],
            [step.version for _, step in taken],
            [step.changed_at for _, step in taken],
            [step.from_status for _, step in taken],
            [step.to_status for _, step in taken],
            [each.starts_at for each, _ in taken],
        ),
        unit.actor_id,
    )
    for each in wanted:
        tell(unit, told_of(each, None))


async def open_for(database: Database, earliest: date, latest: date) -> list[str]:
    """Open the partitions that imported visits need, month by month; return the new ones.

    To be asked first, outside of any unit, from the earliest day on which one was booked to the
    latest on which one starts. No further ahead than anybody may book, and not before 1990: what
    lies beyond is refused as it is written. Idempotent.
    Raises: DEPENDENCY_UNAVAILABLE 503 where a table stays busy.
    """
    horizon = (database.clocks.clinic() + scheduling.AHEAD).date()
    return await open_months(database, earliest, min(latest, horizon))
