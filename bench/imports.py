"""How fast patients and visits are imported from CSV, against COPY of the very rows they become."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from bench.ground import POOL_SIZE, Connection, Ground, fresh_ground
from bench.report import Aim, BenchFailed, Result
from bench.rounds import Options
from cliniq.cli import sources
from cliniq.domains.access import api as access
from cliniq.domains.clinics import api as clinics
from cliniq.domains.identity import api as identity
from cliniq.domains.intake import api as intake
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope, WorkScope
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Database, open_database, open_unit
from cliniq.platform.upkeep import open_months

ROWS_A_SECOND = 5_000
HALF = 0.5  # of COPY, where that is less
DOCTORS = 60
A_DAY = 40  # visits of a doctor
CARD = "urn:bench:cards"
FIRST = datetime(2024, 1, 8, 8, tzinfo=UTC)
STEP = timedelta(minutes=10)

# What the import of either kind writes, in an order that foreign keys allow.
WRITTEN = {
    intake.ImportKind.PATIENTS: ("person", "patient", "patient_identifier", "outbox", "audit"),
    intake.ImportKind.APPOINTMENTS: (
        "resource",
        "booking",
        "claim",
        "appointment",
        "appointment_history",
        "appointment_reference",
        "outbox",
        "audit",
    ),
}
BEFORE = ("clinic", "person", "site", "practitioner")
READINGS = {
    intake.ImportKind.PATIENTS: intake.Reading(
        identifiers=[intake.IdentifierColumn("card", CARD, "MR")]
    ),
    intake.ImportKind.APPOINTMENTS: intake.Reading(patient_system=CARD),
}


class Taken(Record, frozen=True):
    """What one round found. Units: rows a second; seconds of each transaction."""

    ours: float
    copied: float
    waits: list[float]


async def run(options: Options) -> Result:
    """Import and COPY in turns, each into a fresh database; patients first, then their visits."""
    rows, rounds = options.size(20_000, 300), options.size(3, 1)
    found: dict[intake.ImportKind, list[Taken]] = {kind: [] for kind in WRITTEN}
    with tempfile.TemporaryDirectory(prefix="cliniq-bench-") as name:
        folder = Path(name)
        _write(folder, rows)
        for _ in range(rounds):
            for kind, taken in (await _round(options.server, folder, rows)).items():
                found[kind].append(taken)
    patients, visits = found.values()
    waits = [each for taken in (*patients, *visits) for each in taken.waits]
    cuts = quantiles(waits, n=100) if len(waits) > 1 else [waits[0]] * 99
    speed = median(each.ours for each in patients)
    return Result(
        "import",
        median(each.ours / each.copied for each in patients),
        speed,
        median(each.copied for each in patients),
        "patients/s",
        [_aim("patients", patients), _aim("visits", visits)],
        cuts[49] * 1000,
        cuts[98] * 1000,
        {
            "rows": rows,
            "visits_a_second": round(median(each.ours for each in visits)),
            "visits_copied_a_second": round(median(each.copied for each in visits)),
        },
    )


def _aim(words: str, taken: Sequence[Taken]) -> Aim:
    """Five thousand rows a second, or half of COPY where that is less."""
    copied = median(each.copied for each in taken)
    speed = median(each.ours for each in taken)
    return Aim(f"{words} a second", speed, round(min(ROWS_A_SECOND, copied * HALF)))


def _write(folder: Path, rows: int) -> None:
    """Write the two files."""
    with (folder / "patients.csv").open("w", encoding="utf-8") as file:
        file.write("given_name,family_name,birth_date,gender,phone,card\n")
        for number in range(rows):
            file.write(
                f"Ána {number},Țester {number % 997},19{number % 90 + 10}-0{number % 9 + 1}-11,"
                f"female,+43 1 {number:06},{number}\n"
            )
    with (folder / "visits.csv").open("w", encoding="utf-8") as file:
        file.write("reference,patient,practitioner,site,starts_at,minutes,status,booked_at\n")
        for number in range(rows):
            doctor, turn = number % DOCTORS, number // DOCTORS
            starts_at = FIRST + timedelta(days=turn // A_DAY) + STEP * (turn % A_DAY)
            booked_at = starts_at - timedelta(days=number % 20)
            file.write(
                f"v{number},{number},Dr. {doctor},Bench,{starts_at.isoformat()},10,"
                f"{'no_show' if number % 5 == 0 else 'completed'},{booked_at.isoformat()}\n"
            )


async def _round(server: str | None, folder: Path, rows: int) -> dict[intake.ImportKind, Taken]:
    names = {"patients": "patients.csv", "appointments": "visits.csv"}
    speeds: dict[intake.ImportKind, float] = {}
    waits: dict[intake.ImportKind, list[float]] = {}
    dumps: dict[intake.ImportKind, dict[str, bytes]] = {}
    async with fresh_ground(server) as ground, ground.connect() as admin:
        clinic_id = await _furnish(ground)
        before = await _dump(admin, BEFORE)
        async with open_database(ground.application, POOL_SIZE, Clocks()) as database:
            for kind, tables in WRITTEN.items():
                for table in ("outbox", "audit"):
                    await admin.execute(f"truncate {table}")
                source = folder / names[kind]
                speeds[kind], waits[kind] = await _import(database, clinic_id, kind, source, rows)
                dumps[kind] = await _dump(admin, tables)
    async with fresh_ground(server) as ground, ground.connect() as admin:
        await _load(admin, before)
        async with open_database(ground.application, 1, Clocks()) as database:
            await open_months(database, (FIRST - timedelta(days=30)).date(), _last(rows))
        return {
            kind: Taken(speeds[kind], rows / await _load(admin, dumps[kind]), waits[kind])
            for kind in WRITTEN
        }


def _last(rows: int) -> date:
    return (FIRST + timedelta(days=rows // DOCTORS // A_DAY + 1)).date()


async def _furnish(ground: Ground) -> ClinicId:
    """Make a clinic with a site and doctors."""
    clinic_id = ClinicId(new_id())
    people = [
        identity.Person(new_id(), "Doctor", str(number), None, "en") for number in range(DOCTORS)
    ]
    async with open_database(ground.application, 2, Clocks()) as database:
        async with open_unit(database, PlatformScope("bench")) as unit:
            await clinics.found_clinic(
                unit, clinics.Clinic(clinic_id, "Bench", "bench-import", "UTC")
            )
            for person in people:
                await identity.enrol(unit, person)
        async with open_unit(database, WorkScope(clinic_id, "bench")) as unit:
            mode = clinics.QueueMode.PRACTITIONER
            await clinics.open_site(
                unit, clinics.Site(new_id(), "Bench", "UTC", "Quay 7", None, mode)
            )
            for number, person in enumerate(people):
                await access.add_practitioner(
                    unit, access.Practitioner(new_id(), person.person_id, f"Dr. {number}")
                )
    return clinic_id


async def _import(
    database: Database, clinic_id: ClinicId, kind: intake.ImportKind, source: Path, rows: int
) -> tuple[float, list[float]]:
    """Import a file. Units: rows a second, seconds of each batch. Raises: BenchFailed."""
    reading, paths = READINGS[kind], [source]
    began = last = perf_counter()
    waits: list[float] = []

    async def told(_run: intake.ImportRun) -> None:
        nonlocal last
        now = perf_counter()
        waits.append(now - last)
        last = now

    named = intake.source_of(source.name, kind, reading, sources.contents(source, paths))
    delivery = intake.Delivery(kind, named, reading, sources.open_files(source, paths))
    run = await intake.bring_in(
        lambda: open_unit(database, WorkScope(clinic_id, "import")), database, delivery, told
    )
    if run.written != rows:
        raise BenchFailed(f"{run.written} of {rows} {kind} were imported")
    return rows / (perf_counter() - began), waits[1:-1]


async def _columns(admin: Connection, table: str) -> list[str]:
    found = await admin.fetch(
        "select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0"
        " and not attisdropped and attgenerated = '' order by attnum",
        table,
    )
    return [row["attname"] for row in found]


async def _dump(admin: Connection, tables: Sequence[str]) -> dict[str, bytes]:
    """Read rows as COPY writes them; of persons, those who were not there before."""
    dumped = {}
    for table in tables:
        columns = ", ".join(await _columns(admin, table))
        doctors = "person_id in (select person_id from practitioner)"
        where = ""
        if table == "person":
            where = f" where {'' if tables is BEFORE else 'not '}{doctors}"
        written = BytesIO()
        query = f"select {columns} from {table}{where}"  # noqa: S608 - our own tables
        await admin.copy_from_query(query, output=written, format="binary")
        dumped[table] = written.getvalue()
    return dumped


async def _load(admin: Connection, dumped: dict[str, bytes]) -> float:
    """COPY rows into their tables, in one transaction. Units: seconds."""
    columns = {table: await _columns(admin, table) for table in dumped}
    began = perf_counter()
    async with admin.transaction():
        for table, body in dumped.items():
            await admin.copy_to_table(
                table, source=BytesIO(body), columns=columns[table], format="binary"
            )
    return perf_counter() - began
