"""The public appointments of Vitória as eight clinics: files to import, and the clinics for them.

    python -m bench.vitoria FOLDER [--seed 1] [--today 2016-05-11] [--install]

The file tells patient, day, neighbourhood and outcome; it has no clinic, doctor or hour. So the
81 neighbourhoods are spread over eight clinics of two sites each, as evenly as they go; a site has
as many doctors as let none see more than forty people a day; hours are drawn, seeded, as the
arrivals in another public file of consultations are spread over the day. Several visits of one
patient on a day stay visits of their own. Days before `today` keep their outcome, later ones are
booked; what will become of those stands in `outcomes.csv`. Names and birthdays are made up, the
latter within the year that the age tells.

With `--install`, clinics, sites and doctors are made in the rehearsal that the settings name, and
the files are imported into it: `CLINIQ_DATA_DIR=var/vitoria python -m bench.vitoria ... --install`.
"""

import argparse
import asyncio
import csv
import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from math import ceil
from pathlib import Path
from random import Random
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from bench.names import BRAZIL, draw
from cliniq.cli import sources
from cliniq.domains.access import api as access
from cliniq.domains.clinics import api as clinics
from cliniq.domains.identity import api as identity
from cliniq.domains.intake import api as intake
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.permissions import Role
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope, WorkScope
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Database, open_database, open_unit
from cliniq.platform.migrate import migrate
from cliniq.platform.rehearsal import mark
from cliniq.platform.settings import load_settings
from cliniq.platform.source import database_urls, owner_of

DATA = Path(__file__).parents[2] / "shared" / "data"
APPOINTMENTS = DATA / "vitoria-appointments" / "appointments-until-2016-05-29.csv.gz"
ARRIVALS = DATA / "service-times" / "sessions-1-194.csv"

CLINICS, SITES_EACH = 8, 2
MOST_A_DAY = 40  # visits of a doctor
OPENS, CLOSES = time(7), time(19)
SLOT = timedelta(minutes=10)
SLOTS = int((CLOSES.hour - OPENS.hour) * 3600 / SLOT.total_seconds())
ZONE = "America/Sao_Paulo"
CARD = "urn:vitoria:patient"
NO_PASSWORD = "none"  # noqa: S105 - nobody signs in by one
FIRST_DAY = date(2016, 5, 11)

READING_OF_PATIENTS = f"""\
[[identifiers]]
column = "card"
system = "{CARD}"
"""
READING_OF_VISITS = f"""\
patient_system = "{CARD}"

[constants]
visit_type = "consultation"
"""


class Line(Record, frozen=True):
    """A row of the public file, as far as it is used."""

    patient: str
    reference: str
    gender: str
    booked_at: datetime
    day: date
    age: int
    neighbourhood: str
    came: bool


class Seat(Record, frozen=True):
    """Where and when a row goes: site and doctor by number, and the slot of the day."""

    site: int
    doctor: int
    slot: int


def read_lines() -> list[Line]:
    """Read the public file."""
    with gzip.open(APPOINTMENTS, "rt", encoding="utf-8") as file:
        return [
            Line(
                row["PatientId"],
                row["AppointmentID"],
                row["Gender"],
                datetime.fromisoformat(row["ScheduledDay"]),
                date.fromisoformat(row["AppointmentDay"][:10]),
                int(row["Age"]),
                row["Neighbourhood"],
                row["No-show"] == "No",
            )
            for row in csv.DictReader(file)
        ]


def read_arrivals() -> list[int]:
    """Count the arrivals of the other file by slot of the day; one more each, so that none is 0."""
    counted = [1] * SLOTS
    with ARRIVALS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            hour, minute, _ = map(int, row["StartTime"].split(":"))
            slot = (hour - OPENS.hour) * 6 + minute // 10
            if 0 <= slot < SLOTS:
                counted[slot] += 1
    return counted


def spread(lines: Iterable[Line]) -> dict[str, int]:
    """Give each neighbourhood a site: the busiest first, to the site that has least."""
    loads = [0] * (CLINICS * SITES_EACH)
    places = {}
    counted = Counter(each.neighbourhood for each in lines)
    for name, count in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])):
        site = min(range(len(loads)), key=lambda number: (loads[number], number))
        places[name] = site
        loads[site] += count
    return places


def count_doctors(lines: Iterable[Line], places: Mapping[str, int]) -> list[int]:
    """Say how many doctors each site needs on its busiest day."""
    days = Counter((places[each.neighbourhood], each.day) for each in lines)
    return [
        ceil(max((count for (site, _), count in days.items() if site == number), default=0)
             / MOST_A_DAY)
        for number in range(CLINICS * SITES_EACH)
    ]  # fmt: skip


def seat(
    lines: Sequence[Line], places: Mapping[str, int], doctors: Sequence[int], seed: int
) -> dict[str, Seat]:
    """Give each row a doctor and a slot in which neither doctor nor patient is elsewhere."""
    weights = read_arrivals()
    by_day: dict[tuple[date, int], list[Line]] = defaultdict(list)
    for each in lines:
        by_day[each.day, places[each.neighbourhood]].append(each)
    seats: dict[str, Seat] = {}
    for (day, site), rows in sorted(by_day.items()):
        random = Random(f"{seed} {day} {site}")
        seats |= _seat_day(rows, site, doctors[site], weights, random)
    return seats


def _seat_day(
    rows: Sequence[Line], site: int, doctors: int, weights: Sequence[int], random: Random
) -> dict[str, Seat]:
    """Seat a site's day: those with several visits first, each with whoever has fewest."""
    often = Counter(each.patient for each in rows)
    order = list(rows)
    random.shuffle(order)
    order.sort(key=lambda each: -often[each.patient])
    free = [_draw_slots(weights, random) for _ in range(doctors)]
    taken: dict[str, set[int]] = defaultdict(set)
    seen = [0] * doctors
    seats = {}
    for each in order:
        doctor = min(range(doctors), key=lambda number: (seen[number], number))
        busy = taken[each.patient]
        slot = next(slot for slot in free[doctor] if slot not in busy)
        free[doctor].remove(slot)
        busy.add(slot)
        seen[doctor] += 1
        seats[each.reference] = Seat(site, doctor, slot)
    return seats


def _draw_slots(weights: Sequence[int], random: Random) -> list[int]:
    """Draw all slots of a day, likely ones first (Efraimidis and Spirakis, 2006)."""
    keys = {slot: random.random() ** (1 / weight) for slot, weight in enumerate(weights)}
    return sorted(keys, key=lambda slot: -keys[slot])


def starts_at(line: Line, seat: Seat) -> datetime:
    """Say when a visit begins, in the site's own time."""
    return datetime.combine(line.day, OPENS) + seat.slot * SLOT


# --- files ----------------------------------------------------------------------------------------


def clinic_name(number: int) -> str:
    """Name a clinic."""
    return f"Vitória {number + 1}"


def site_name(site: int) -> str:
    """Name a site."""
    return f"{clinic_name(site // SITES_EACH)} {'AB'[site % SITES_EACH]}"


def doctor_name(site: int, doctor: int) -> str:
    """Name a doctor, so that nobody else in the clinic is called so."""
    given, family = draw(Random(f"doctor {site} {doctor}"), BRAZIL)
    return f"Dr. {given} {family} {'AB'[site % SITES_EACH]}{doctor + 1}"


def write(folder: Path, seed: int, today: date) -> None:
    """Write the files of all clinics, and say how many rows went where."""
    lines = read_lines()
    places = spread(lines)
    doctors = count_doctors(lines, places)
    seats = seat(lines, places, doctors, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "patients.toml").write_text(READING_OF_PATIENTS, encoding="utf-8")
    (folder / "visits.toml").write_text(READING_OF_VISITS, encoding="utf-8")
    described = {
        "today": today.isoformat(),
        "zone": ZONE,
        "clinics": [
            {
                "name": clinic_name(clinic),
                "app_name": f"vitoria-{clinic + 1}",
                "sites": [
                    {
                        "name": site_name(site),
                        "doctors": [doctor_name(site, each) for each in range(doctors[site])],
                    }
                    for site in range(clinic * SITES_EACH, (clinic + 1) * SITES_EACH)
                ],
            }
            for clinic in range(CLINICS)
        ],
    }
    body = json.dumps(described, ensure_ascii=False, indent=1)
    (folder / "clinics.json").write_text(body, encoding="utf-8")
    for clinic in range(CLINICS):
        own = [each for each in lines if seats[each.reference].site // SITES_EACH == clinic]
        name = folder / f"vitoria-{clinic + 1}"
        with (name.with_suffix(".patients.csv")).open("w", encoding="utf-8", newline="") as file:
            _write_patients(file, own, seed)
        with (name.with_suffix(".visits.csv")).open("w", encoding="utf-8", newline="") as file:
            _write_visits(file, own, seats, today)
    with (folder / "outcomes.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("reference", "came"))
        rows.writerows((each.reference, int(each.came)) for each in lines if each.day >= today)
    _print(lines, places, doctors, seats, today)


def _write_patients(file: TextIO, lines: Sequence[Line], seed: int) -> None:
    rows = csv.writer(file)
    rows.writerow(("given_name", "family_name", "birth_date", "gender", "language", "card"))
    for each in {one.patient: one for one in lines}.values():
        random = Random(f"{seed} {each.patient}")
        given, family = draw(random, BRAZIL)
        born = date(each.day.year - each.age, 1, 1) + timedelta(days=random.randrange(120))
        gender = {"F": "female", "M": "male"}[each.gender]
        birth_date = born.isoformat() if each.age >= 0 else ""
        rows.writerow((given, family, birth_date, gender, "pt-BR", each.patient))


def _write_visits(
    file: TextIO, lines: Sequence[Line], seats: Mapping[str, Seat], today: date
) -> None:
    rows = csv.writer(file)
    rows.writerow("reference patient practitioner site starts_at minutes status booked_at".split())
    minutes = int(SLOT.total_seconds() // 60)
    for each in lines:
        where = seats[each.reference]
        status = "booked"
        if each.day < today:
            status = "completed" if each.came else "no_show"
        rows.writerow(
            (
                each.reference,
                each.patient,
                doctor_name(where.site, where.doctor),
                site_name(where.site),
                starts_at(each, where).isoformat(),
                minutes,
                status,
                each.booked_at.isoformat(),
            )
        )


def _print(
    lines: Sequence[Line],
    places: Mapping[str, int],
    doctors: Sequence[int],
    seats: Mapping[str, Seat],
    today: date,
) -> None:
    table = Table(
        "site", "neighbourhoods", "doctors", "rows", "patients", "past", "came", "to come", "a day"
    )
    for site in range(CLINICS * SITES_EACH):
        own = [each for each in lines if seats[each.reference].site == site]
        past = [each for each in own if each.day < today]
        busiest = max(Counter((each.day, seats[each.reference].doctor) for each in own).values())
        figures = (
            sum(place == site for place in places.values()),
            doctors[site],
            len(own),
            len({each.patient for each in own}),
            len(past),
            sum(each.came for each in past),
            len(own) - len(past),
            f"<= {busiest}",
        )
        table.add_row(site_name(site), *map(str, figures))
    console = Console(width=110)
    console.print(table)
    console.print(
        f"{len(lines):,} rows read, {len(seats):,} placed, {len(lines) - len(seats)} left out."
    )


# --- clinics --------------------------------------------------------------------------------------


async def install(folder: Path) -> None:
    """Make the clinics in the rehearsal that the settings name, and import the files into it."""
    described = json.loads((folder / "clinics.json").read_text(encoding="utf-8"))
    today = datetime.combine(date.fromisoformat(described["today"]), time(9), UTC)
    clocks = Clocks(clinic=lambda: today)
    async with database_urls(load_settings()) as urls:
        await migrate(owner_of(urls), Clocks())
        await mark(owner_of(urls))
        async with open_database(urls.application, 2, clocks) as database:
            for each in described["clinics"]:
                clinic_id = await _furnish(database, each, described["zone"])
                for kind, name in (
                    (intake.ImportKind.PATIENTS, "patients"),
                    (intake.ImportKind.APPOINTMENTS, "visits"),
                ):
                    source = folder / f"{each['app_name']}.{name}.csv"
                    reading = (folder / f"{name}.toml").read_text(encoding="utf-8")
                    await _import(database, clinic_id, kind, source, reading)


async def _furnish(database: Database, described: Any, zone: str) -> ClinicId:
    """Make a clinic with sites, doctors and a desk, unless it is there."""
    async with open_unit(database, PlatformScope("Vitória")) as unit:
        known = {each.app_name: each for each in await clinics.list_clinics(unit)}
        if found := known.get(described["app_name"]):
            return ClinicId(found.clinic_id)
        clinic_id = ClinicId(new_id())
        named = (described["name"], described["app_name"], zone)
        await clinics.found_clinic(unit, clinics.Clinic(clinic_id, *named))
        doctors = list(chain.from_iterable(each["doctors"] for each in described["sites"]))
        staff = [
            *((name, Role.DOCTOR) for name in doctors),
            *((f"Recepção {each['name']}", Role.RECEPTIONIST) for each in described["sites"]),
        ]
        people = {name: new_id() for name, _ in staff}
        for name, role in staff:
            given, _, family = name.rpartition(" ")
            await identity.enrol(unit, identity.Person(people[name], given, family, None, "pt"))
            address = f"{people[name]}@{described['app_name']}.invalid"
            await identity.open_account(unit, people[name], address, NO_PASSWORD)
            await access.add_membership(unit, clinic_id, people[name], role)
    async with open_unit(database, WorkScope(clinic_id, "Vitória")) as unit:
        for each in described["sites"]:
            site_id = new_id()
            mode = clinics.QueueMode.PRACTITIONER
            site = clinics.Site(site_id, each["name"], zone, "Vitória, ES", None, mode)
            await clinics.open_site(unit, site)
            how = (clinics.QrMode.STATIC, clinics.Verification.NONE, 1, 1)
            await clinics.open_point(
                unit, clinics.CheckInPoint(new_id(), site_id, "Porta", None, *how)
            )
        for name in doctors:
            await access.add_practitioner(unit, access.Practitioner(new_id(), people[name], name))
    return clinic_id


async def _import(
    database: Database, clinic_id: ClinicId, kind: intake.ImportKind, source: Path, words: str
) -> None:
    reading = intake.read_reading(words, is_toml=True)
    named = intake.source_of(source.name, kind, reading, sources.contents(source, [source]))
    delivery = intake.Delivery(kind, named, reading, sources.open_files(source, [source]))

    async def told(_run: intake.ImportRun) -> None: ...

    try:
        run = await intake.bring_in(
            lambda: open_unit(database, WorkScope(clinic_id, "import")), database, delivery, told
        )
    except intake.ImportDone:
        print(f"{source.name}: imported before", flush=True)
        return
    print(
        f"{source.name}: {run.read} read, {run.written} new, {run.known} known,"
        f" {run.refused} refused",
        flush=True,
    )


def main() -> int:
    """Write the files and, if asked for, install them. Exit code 2 without the public data."""
    parser = argparse.ArgumentParser(prog="python -m bench.vitoria", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--today", type=date.fromisoformat, default=FIRST_DAY)
    parser.add_argument("--install", action="store_true")
    asked = parser.parse_args()
    if not APPOINTMENTS.exists() or not ARRIVALS.exists():
        print(f"{DATA} does not have the public files that are mapped", file=sys.stderr)
        return 2
    write(asked.folder, asked.seed, asked.today)
    if asked.install:
        asyncio.run(install(asked.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
