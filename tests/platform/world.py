"""Two clinics with a row in every table, so that what must not be seen is there to be seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from cliniq.app import House
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import api as checkin
from cliniq.domains.checkin.models import Receipt
from cliniq.kernel.ids import new_id
from cliniq.kernel.permissions import Role
from cliniq.platform.idempotency import Answer, Asked, keep
from tests.platform.wire import STAFF
from tests.support import NOON, Admin, SomeClinic, Someone, SomePatient, found_clinic


@dataclass(frozen=True)
class Inhabited:
    """A clinic in which somebody of every role works and somebody waits, booked and checked in.

    `someone` has a child who waits too; `neighbour` waits in the same queue.
    """

    clinic: SomeClinic
    staff: Mapping[Role, Someone]
    someone: Someone
    patient: SomePatient
    child: SomePatient
    neighbour: Someone
    neighbours_patient: SomePatient
    ids: dict[str, str]  # of what is the neighbour's, or the clinic's
    own_ids: dict[str, str]  # of what is `someone`'s, or the clinic's


@dataclass(frozen=True)
class World:
    here: Inhabited
    there: Inhabited


async def inhabit(house: House, admin: Admin) -> Inhabited:
    clinic = await found_clinic(house)
    staff: dict[Role, Someone] = {role: await clinic.member(role) for role in STAFF}
    someone, patient = await clinic.signed_in_patient()
    child = await clinic.dependant(someone)
    neighbour, neighbours_patient = await clinic.signed_in_patient()
    visits = [
        await clinic.book(each, NOON + timedelta(minutes=10 * number), minutes=10)
        for number, each in enumerate((patient, child, neighbours_patient))
    ]
    later = [
        await clinic.book(each, NOON + timedelta(days=2, hours=number))
        for number, each in enumerate((patient, neighbours_patient))
    ]
    async with clinic.unit() as unit:
        await checkin.add_rule(unit, new_id(), checkin.WindowRule(None, "never", 1, 1))
        await appointments.book_all(unit, [brought(clinic, neighbours_patient)])
    for numbered in (patient, neighbours_patient):
        await admin.execute(
            "insert into patient_identifier (clinic_id, system, value, patient_id)"
            " values ($1, 'urn:elsewhere', $2, $3)",
            clinic.clinic_id,
            str(numbered.patient_id),
            numbered.patient_id,
        )
    await admin.execute(
        "insert into import_run (clinic_id, import_id, kind, source, digest, started_at)"
        " values ($1, $1, 'patients', 'people.csv', '', $2)",
        clinic.clinic_id,
        NOON,
    )
    for table, columns, values in (
        ("import_remark", "place, part, file, line, code, reason", "0, 0, '', 1, 'WRONG', ''"),
        ("import_file", "name, reading, body", "'people.csv', '{}', ''"),
    ):
        await admin.execute(
            f"insert into {table} (clinic_id, import_id, {columns}) values ($1, $1, {values})",  # noqa: S608
            clinic.clinic_id,
        )
    await admin.execute("insert into job_turn values ($1, 'test', 1, 1)", clinic.clinic_id)
    for each in (someone, neighbour):
        async with clinic.own_unit(each) as unit:
            keep(unit, Asked("POST /here", "a key", b"print"), Answer(200, None, b"kept"))
    receipts = await scanned(clinic, someone) + await scanned(clinic, neighbour)
    assert [each.appointment_id for each in receipts] == [each.appointment_id for each in visits]
    shared = {
        "location_id": str(clinic.point.check_in_point_id),
        "site_id": str(clinic.site.site_id),
        "practitioner_id": str(clinic.practitioner_id),
        "queue_id": str(receipts[0].queue_id),
        "code": "QR_INVALID",
        "import_id": str(clinic.clinic_id),
    }
    return Inhabited(
        clinic,
        staff,
        someone,
        patient,
        child,
        neighbour,
        neighbours_patient,
        shared | ids_of(neighbours_patient, later[1], receipts[2].entry_id),
        shared | ids_of(patient, later[0], receipts[0].entry_id),
    )


def brought(clinic: SomeClinic, patient: SomePatient) -> appointments.Imported:
    """A visit from elsewhere, long after those that were booked here."""
    at = NOON + timedelta(days=5)
    return appointments.Imported(
        patient.patient_id,
        clinic.practitioner_id,
        clinic.site.site_id,
        "consultation",
        at,
        at + timedelta(minutes=10),
        appointments.AppointmentStatus.BOOKED,
        NOON,
        "elsewhere",
    )


async def scanned(clinic: SomeClinic, someone: Someone) -> list[Receipt]:
    point = clinic.point
    code = checkin.Code(
        checkin.CodeKind.PRINTED, clinic.clinic_id, point.check_in_point_id, point.key_id, 0
    )
    async with clinic.own_unit(someone) as unit:
        return (await checkin.scan(unit, code, everyone=True)).check_ins


def ids_of(patient: SomePatient, visit: appointments.Appointment, entry_id: UUID) -> dict[str, str]:
    return {
        "patient_id": str(patient.patient_id),
        "appointment_id": str(visit.appointment_id),
        "entry_id": str(entry_id),
    }


async def fingerprint(admin: Admin, clinic: SomeClinic) -> dict[str, str]:
    """Write down what is in every table of a clinic but its trail, table by table."""
    return {
        table: await admin.fetchval(
            f"select md5(coalesce(string_agg(each::text, '|' order by each::text), ''))"  # noqa: S608
            f" from {table} as each where clinic_id = $1",
            clinic.clinic_id,
        )
        for table in await tables_of_clinics(admin)
        if table not in {"audit", "outbox"}
    }


async def tables_of_clinics(admin: Admin) -> list[str]:
    """List the tables that have a clinic's rows; a partitioned table once."""
    found = await admin.fetch("""
        select c.relname from pg_class as c join pg_attribute as a on a.attrelid = c.oid
        where c.relkind in ('r', 'p') and not c.relispartition and a.attname = 'clinic_id'
            and c.relnamespace = 'public'::regnamespace and not a.attisdropped
        order by c.relname
    """)
    return [row["relname"] for row in found]


async def denials(admin: Admin, clinic: SomeClinic, someone: Someone) -> list[tuple[str, ...]]:
    """List what somebody was denied in a clinic: permission, action, code."""
    found = await admin.fetch(
        "select permission, action, code from audit where clinic_id = $1 and actor_id = $2"
        " and outcome = 'denied' order by recorded_at, audit_id",
        clinic.clinic_id,
        someone.person_id,
    )
    return [tuple(row) for row in found]
