"""The demo's running day: two clinics in which people come and go around the visitors."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from msgspec.structs import replace

from cliniq.app import House
from cliniq.demo import DemoBoard, DemoClinic, DemoPoint, Production, Stage
from cliniq.domains.access import api as access
from cliniq.domains.clinics.api import Clinic
from cliniq.domains.identity import api as identity
from cliniq.kernel.permissions import Role
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope
from cliniq.platform.clock import Dial
from cliniq.platform.db import open_unit
from cliniq.platform.endings import end_all
from cliniq.simulation import town
from cliniq.simulation.cast import list_companies, list_places
from cliniq.simulation.models import Actor, Doctor, Place
from cliniq.simulation.open_day import OpenDay
from cliniq.simulation.play import Play
from cliniq.simulation.wire import ServerGone, Wire

PLANS = (
    town.Plan(
        "Riverside Clinic",
        "riverside-demo",
        ("Riverside, Quay Street",),
        (("Dr. Ana Silva", "Dr. Omar Haddad"),),
    ),
    town.Plan(
        "Hilltop Clinic",
        "hilltop-demo",
        ("Hilltop, Tower Road", "Hilltop, Garden Square"),
        (("Dr. Priya Nair", "Dr. Lukas Gruber"), ("Dr. Amara Okafor",)),
    ),
)
VISITS = 120  # of a day, of all doctors
OPENS = time(9, 10)  # what comes before goes as fast as it can: nobody wants an empty clinic
PROMPT_SECONDS = 15
REST_SECONDS = 5
ROOM = "3"

log = structlog.get_logger(__name__)


def first_moment(day: date) -> datetime:
    """Say when a demo begins, in clinic time."""
    return datetime.combine(day, OPENS, ZoneInfo(town.ZONE))


class Show(Record, frozen=True):
    """A demo that goes: `opened` is called once the first day is where visitors may come in."""

    production: Production
    dial: Dial
    address: str
    pace: float
    opened: Callable[[], None]


async def run(house: House, show: Show) -> None:
    """Play day after day until cancelled, and see that visitors have something to do."""
    prompting = asyncio.create_task(_prompt(show.production.prompt))
    day = show.dial.read().astimezone(ZoneInfo(town.ZONE)).date()
    try:
        while True:
            try:
                await _play(house, show, day)
            except ServerGone:
                log.warning("the demo's players are not answered")
            except Exception:
                log.exception("the demo's day broke off")
            day += timedelta(days=1)
            await asyncio.sleep(REST_SECONDS)
    finally:
        await end_all(prompting)


async def _prompt(prompt: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(PROMPT_SECONDS)
        try:
            await prompt()
        except Exception:
            log.exception("nobody was given a visit")


async def _play(house: House, show: Show, day: date) -> None:
    production = show.production
    await town.build(house, day, VISITS, day.toordinal(), PLANS)
    companies = await list_companies(house, day, without={production.doctor_id})
    wire = Wire(show.address, house.desk, most=8)
    opens_at = first_moment(day)

    def seen(play: Play) -> None:
        if play.now >= opens_at:
            show.opened()

    try:
        play = Play(companies, wire, day.toordinal(), day, OpenDay)
        await _stand_in(house, production, play)
        play.hurry_until = opens_at
        await play.perform(show.dial, show.pace, seen)
    finally:
        await wire.close()


async def _stand_in(house: House, production: Production, play: Play) -> None:
    """Have the visitors' doctor seen to, for when no visitor is."""
    ((person_id, session_id),) = await identity.sign_in_actors(
        house.entrance.database, [production.doctor_person_id]
    )
    doctor = Doctor(
        production.doctor_id, "Dr. Mei Chen", Actor(person_id, session_id, is_staff=True), ROOM
    )
    clinic_id = production.stage.clinics[0].clinic_id
    for each in play.days:
        if isinstance(each, OpenDay) and each.company.clinic_id == clinic_id:
            each.stand_in({production.doctor_id: doctor})


async def describe(house: House, production: Production) -> Stage:
    """Show the doors and boards of all clinics that play, the visitors' own first."""
    await town.found(house, PLANS)
    own, stage = {each.clinic_id for each in production.stage.clinics}, production.stage
    found = sorted(await list_places(house), key=lambda each: each[0].clinic_id not in own)
    await _hire(house, production, [each[0].clinic_id for each in found], own)
    others = [_clinic(*each) for each in found if each[0].clinic_id not in own]
    boards = [
        DemoBoard(clinic.name, place.name, f"/board?clinic={clinic.clinic_id}&site={place.site_id}")
        for clinic, places in found
        for place in places.values()
    ]
    return replace(stage, clinics=[*stage.clinics, *others], boards=boards, runs=True)


async def _hire(
    house: House, production: Production, clinic_ids: Sequence[UUID], own: Collection[UUID]
) -> None:
    """Have the demo's desk and admin work in all clinics, so that they can show every board."""
    async with open_unit(house.entrance.database, PlatformScope("demo")) as unit:
        for clinic_id in clinic_ids:
            for person_id, role in production.staff:
                if clinic_id not in own and role is not Role.DOCTOR:
                    await access.add_membership(unit, clinic_id, person_id, role)


def _clinic(clinic: Clinic, places: Mapping[UUID, Place]) -> DemoClinic:
    points = [
        DemoPoint(each.site_id, each.name, "Main entrance", f"/c/{each.code}")
        for each in places.values()
    ]
    return DemoClinic(clinic.clinic_id, clinic.name, points)
