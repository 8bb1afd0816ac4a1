"""Demos from the command line: who plays while a server answers, and how one begins anew."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cliniq.app import House
from cliniq.demo import Production, Stage, set_stage
from cliniq.kernel.record import Record
from cliniq.platform.clock import Dial, utc_now
from cliniq.platform.endings import end_all
from cliniq.platform.settings import Settings
from cliniq.simulation import show

DEMO_RATE = 100  # as much traffic as one address may otherwise make


class Running:
    """A demo that goes: its dial, its pace, and whether somebody wants it to begin anew."""

    def __init__(self, settings: Settings, pace: float) -> None:
        self.pace, self._is_wanted = pace, True
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        path = settings.data_dir / "demo-clock"
        self.dial = Dial.make(path, show.first_moment(utc_now().date()), 1)
        # Two clinics ask from one address; the clock is the demo's.
        changes = {"clinic_clock": path, "rate_scale": max(settings.rate_scale, DEMO_RATE)}
        self.settings = settings.model_copy(update=changes)

    def begins(self) -> bool:
        """Tell whether it begins, once more; and turn its clock back then."""
        wanted, self._is_wanted = self._is_wanted, False
        self.dial.turn(show.first_moment(utc_now().date()), 1)
        return wanted

    def begin_anew(self) -> None:
        """Have it begin anew as soon as this time has ended."""
        self._is_wanted = True


class Demonstration(Record, frozen=True):
    """What an application shows of a demo, and who plays in it while it serves, if anybody."""

    stage: Stage
    production: Production
    running: Running | None


async def rehearse(house: House, running: Running | None) -> Demonstration:
    """Set the stage; what a demo that goes shows stands beside it until it is open."""
    production = await set_stage(house.entrance, house.desk)
    stage = await show.describe(house, production) if running else production.stage
    return Demonstration(stage, production, running)


@asynccontextmanager
async def playing(
    house: House,
    settings: Settings,
    shown: Demonstration | None,
    end: Callable[[], None],
    offer: Callable[[Stage, Callable[[], None]], None],
    say: Callable[[str], None],
) -> AsyncIterator[None]:
    """Have others play around the visitors, for as long as the server answers.

    `offer` shows the stage once it is open, with what begins it anew; `end` ends the serving then.
    """
    if shown is None or shown.running is None:
        yield
        return
    address, reached = settings.address, settings.own_address
    running, reset, opened = shown.running, asyncio.Event(), asyncio.Event()

    async def open_doors() -> None:
        await opened.wait()
        offer(shown.stage, reset.set)
        say(f"Cliniq is at {address}, and its clinics are open")

    async def watch() -> None:
        await reset.wait()
        running.begin_anew()
        say("The demo begins anew.")
        end()

    played = show.Show(shown.production, running.dial, reached, running.pace, opened.set)
    tasks = [
        asyncio.create_task(watch()),
        asyncio.create_task(open_doors()),
        asyncio.create_task(show.run(house, played)),
    ]
    try:
        yield
    finally:
        await end_all(*tasks)
