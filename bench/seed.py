"""Clinics with a long past, in bulk: `python -m bench seed --patients 1000000 --database-url URL`.

Patients with names in nine scripts, three visits each, two steps of history a visit; a clinic sees
about four hundred people a day whatever the size, so a larger one has more clinics and a longer
past. Everything is computed from numbers and a seed. Time that is over claims nothing here: claims
are for bookings to come, which benches make themselves. Written by two connections side by side.
"""

import argparse
import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.ground import Connection
from bench.names import WORLD
from cliniq.platform.clock import Clocks, utc_now
from cliniq.platform.db import open_database
from cliniq.platform.upkeep import open_months

A_DAY = 400  # visits of a clinic
VISITS_EACH = 3
WRITERS = 2
PRACTITIONERS, SITES = 20, 2
CLINIC, SITE, PRACTITIONER, POINT, PERSON = 0x50, 0x54, 0x55, 0x56, 0x57

TYPES = "uuid bigint bigint bigint timestamptz uuid[] uuid[] bigint jsonb".split()

# A number that looks drawn, from a person's or a visit's own. Bounds: from 0.
_DRAWN = "(hashint8({} * 7919 + $8) & 2147483647)"
_ID = "(lpad(to_hex({}), 8, '0') || '-0000-7000-8000-' || lpad(({})::text, 12, '0'))::uuid"
_EVERYBODY = f"""(
    select i, $2 * $3 + i as n, {_DRAWN.format("($2 * $3 + i)")} as h
    from generate_series(0, $3 - 1) as i
) as p, lateral (
    select script->0->>(h / 16 % jsonb_array_length(script->0))::int
            || case when h % 2 = 0 then '' else
                ' ' || (script->0->>(h / 512 % jsonb_array_length(script->0))::int) end as given,
        script->1->>(h / 64 % jsonb_array_length(script->1))::int as family
    from (select $9::jsonb->(h % jsonb_array_length($9::jsonb))::int as script) as s
) as names"""  # noqa: S608 - our own words
_VISITS = f"""(
    select i, $2 * $3 + i as n, k, {_DRAWN.format(f"(($2 * $3 + i) * {VISITS_EACH} + k)")} as h
    from generate_series(0, $3 - 1) as i, generate_series(0, {VISITS_EACH - 1}) as k
) as v"""  # noqa: S608 - our own words
WORDS = {
    "person": _ID.format(0x51, "n"),
    "patient": _ID.format(0x52, "n"),
    "appointment": _ID.format(0x53, f"n * {VISITS_EACH} + k"),
    "starts_at": (
        "($5::timestamptz - (1 + h % $4) * interval '1 day' + interval '8 hours'"
        " + h / 64 % 40 * interval '12 minutes')"
    ),
    "everybody": _EVERYBODY,
    "visits": _VISITS,
}


@dataclass(frozen=True)
class Mass:
    """How much there is: `patients` in so many `clinics`, each as large as the others."""

    patients: int
    seed: int = 1

    @property
    def clinics(self) -> int:
        """Say how many clinics: eight, and from a hundred thousand people on one for 12,500."""
        return max(8, min(240, self.patients // 12_500))

    @property
    def each(self) -> int:
        """Say how many patients a clinic has."""
        return -(-self.patients // self.clinics)

    @property
    def days(self) -> int:
        """Say how long the past is, so that a day is like any other's."""
        return max(1, self.each * VISITS_EACH // A_DAY)


def id_of(kind: int, number: int) -> UUID:
    """Name a clinic's own thing."""
    return UUID(f"{kind:08x}-0000-7000-8000-{number:012}")


async def seed(
    admin: str,
    application: str,
    mass: Mass,
    own: UUID | None = None,
    told: Callable[[], None] = lambda: None,
) -> None:
    """Write it all, as a superuser; `told` hears of each clinic.

    `own`: a clinic that is there already, with sites and practitioners, and gets the first share.
    """
    today = utc_now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    async with open_database(application, 1, Clocks()) as database:
        first = (today - timedelta(days=mass.days + 5)).date()
        await open_months(database, first, today.date())
    numbers = iter(range(mass.clinics))

    async def write() -> None:
        connection = await asyncpg.connect(admin)
        try:
            await connection.execute(
                "set session_replication_role = replica; set synchronous_commit = off"
            )
            for number in numbers:
                clinic = own if own is not None and number == 0 else None
                await _write_clinic(connection, mass, number, clinic, today)
                told()
        finally:
            await connection.close()

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    connection = await asyncpg.connect(admin)
    try:
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


async def _write_clinic(
    connection: Connection, mass: Mass, number: int, own: UUID | None, today: datetime
) -> None:
    async with connection.transaction():
        if own is None:
            clinic_id = await _found(connection, number)
        else:
            clinic_id = own
        sites, practitioners = [
            [
                row[0]
                for row in await connection.fetch(
                    f"select {name}_id from {name} where clinic_id = $1 order by 1",  # noqa: S608
                    clinic_id,
                )
            ]
            for name in ("site", "practitioner")
        ]
        given = (
            clinic_id,
            number,
            mass.each,
            mass.days,
            today,
            sites,
            practitioners,
            mass.seed,
            json.dumps(WORLD, ensure_ascii=False),
        )
        for statement in _statements():
            text, values = _only_used(statement, given)
            await connection.execute(text, *values)


def _statements() -> list[str]:
    lines = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("--"))
    return [each.format_map(WORDS) for each in text.split(";;")]


def _only_used(statement: str, given: Sequence[object]) -> tuple[str, list[object]]:
    """Number parameters anew and say their types: a statement is given no more than it names."""
    used = sorted({int(each) for each in re.findall(r"\$(\d)", statement)})
    places = {number: place for place, number in enumerate(used, 1)}

    def written(found: re.Match[str]) -> str:
        number = int(found[1])
        return f"(${places[number]}::{TYPES[number - 1]})"

    text = re.sub(r"\$(\d)", written, statement)
    return text, [given[number - 1] for number in used]


async def _found(connection: Connection, number: int) -> UUID:
    """Make a clinic with its sites and practitioners, who have no account."""
    clinic_id = id_of(CLINIC, number)
    await connection.execute(
        "insert into clinic values ($1, $2, $3, 'UTC')",
        clinic_id,
        f"Clinic {number}",
        f"clinic-{number:05}",
    )
    for place in range(SITES):
        own = number * 1000 + place
        await connection.execute(
            "insert into site (clinic_id, site_id, name, zone, address)"
            " values ($1, $2, $3, 'UTC', '')",
            clinic_id,
            id_of(SITE, own),
            f"Site {place}",
        )
        await connection.execute(
            "insert into check_in_point (clinic_id, check_in_point_id, site_id, name)"
            " values ($1, $2, $3, 'Door')",
            clinic_id,
            id_of(POINT, own),
            id_of(SITE, own),
        )
    for place in range(PRACTITIONERS):
        own = number * 1000 + place
        person_id = id_of(PERSON, own)
        await connection.execute(
            "insert into person (person_id, given_name, family_name) values ($1, 'Dr.', $2)",
            person_id,
            str(own),
        )
        await connection.execute(
            "insert into practitioner (clinic_id, practitioner_id, person_id, name)"
            " values ($1, $2, $3, $4)",
            clinic_id,
            id_of(PRACTITIONER, own),
            person_id,
            f"Dr. {own}",
        )
    return clinic_id


@contextmanager
def bar(mass: Mass) -> Iterator[Callable[[], None]]:
    """Show how many clinics are written, and how long it will take."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("clinics"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{mass.patients:,} patients", total=mass.clinics)
        yield lambda: progress.advance(task)


def main(words: Sequence[str]) -> int:
    """Seed a database that is migrated and has nobody in it."""
    parser = argparse.ArgumentParser(prog="python -m bench seed", description=__doc__)
    parser.add_argument("--patients", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database-url", required=True, help="a superuser's URL of the database")
    parser.add_argument("--application-url", help="the application's; else the superuser's own")
    asked = parser.parse_args(words)
    mass = Mass(asked.patients, asked.seed)
    with bar(mass) as told:
        application = asked.application_url or asked.database_url
        asyncio.run(seed(asked.database_url, application, mass, told=told))
    return 0
