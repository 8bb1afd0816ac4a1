"""The play: turns clinic time in ticks, has every clinic do what is due, and sums up."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from time import monotonic
from typing import Any

from cliniq.kernel.record import Record
from cliniq.platform.clock import Dial
from cliniq.simulation.day import Day, midnight_of
from cliniq.simulation.models import Company
from cliniq.simulation.wire import Wire

TICK = timedelta(seconds=10)
COUNTED = (
    "patients",
    "scanned",
    "checked_in",
    "walk_ins",
    "called",
    "completed",
    "no_show",
    "cancelled",
    "lost",
    "doubled",
    "stuck",
    "astray",
)


class Summary(Record, frozen=True):
    """What a play came to. `digest` names the story: one seed has one, whatever the speed.

    `refused`: answers that said no, by code; they are part of the story. `lost`, `doubled`,
    `stuck` and `astray` (screens that differ) must be 0. Units: `seconds` of the wall.
    """

    patients: int
    scanned: int
    checked_in: int
    walk_ins: int
    called: int
    completed: int
    no_show: int
    cancelled: int
    refused: int
    lost: int
    doubled: int
    stuck: int
    astray: int
    refusals: dict[str, int]
    wrong: list[str]
    clinics: int
    requests: int
    repeated: int
    p95_ms: float
    slowest_ms: float
    seconds: float
    digest: str

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing was lost, doubled, stuck or shown differently."""
        return not (self.lost or self.doubled or self.stuck or self.astray)


class Play:
    """A day of several clinics, side by side."""

    def __init__(
        self,
        companies: Sequence[Company],
        wire: Wire,
        seed: int,
        day: date,
        kind: type[Day] = Day,
    ) -> None:
        """Prepare it: everybody knows their part afterwards."""
        self.wire, self.day = wire, day
        self.days: list[Day] = []
        for company in companies:
            zone = next(iter(company.places.values())).zone
            midnight = midnight_of(datetime(day.year, day.month, day.day, tzinfo=zone))
            self.days.append(kind(company, wire, seed, midnight))
        for each in self.days:
            each.prepare()
            each.ledger.counts["patients"] = len({v.patient_id for v in each.company.visits})
        self.now = min(each.begins for each in self.days).astimezone(UTC)
        self.hurry_until = self.now  # as fast as it goes until then
        self._began = monotonic()

    async def perform(
        self, dial: Dial, speed: float, seen: Callable[["Play"], None] = lambda _play: None
    ) -> Summary:
        """Play to the end; `speed`: how many times as fast as life at most, 0 for no bound.

        Raises: ServerGone.
        """
        self._began = monotonic()
        try:
            await self._go(dial, speed, seen)
            await asyncio.gather(*(each.close() for each in self.days))
        finally:
            await asyncio.gather(*(each.leave() for each in self.days))
        seen(self)
        return self.sum_up()

    async def _go(self, dial: Dial, speed: float, seen: Callable[["Play"], None]) -> None:
        began, first = monotonic(), self.now
        while not all(each.is_over for each in self.days):
            dial.turn(self.now, 0)
            at_work = [each for each in self.days if not each.is_over]
            await asyncio.gather(*(each.tick(self.now) for each in at_work))
            seen(self)
            self.now += TICK
            if self.now < self.hurry_until:
                first, began = self.now, monotonic()
            elif speed:
                ahead = (self.now - first).total_seconds() / speed - (monotonic() - began)
                await asyncio.sleep(max(0, ahead))

    def sum_up(self) -> Summary:
        """Sum up what has happened so far."""
        counts, refusals, story = Counter[str](), Counter[str](), sha256()
        wrong: list[str] = []
        for each in sorted(self.days, key=lambda day: day.company.name):
            counts += each.ledger.counts
            refusals += each.ledger.refused
            wrong += [f"{each.company.name}: {words}" for words in each.ledger.wrong]
            story.update(each.ledger.digest)
        waits = sorted(self.wire.waits) or [0.0]
        said: dict[str, Any] = {name: counts[name] for name in COUNTED}
        return Summary(
            **said,
            refused=sum(refusals.values()),
            refusals=dict(sorted(refusals.items())),
            wrong=wrong,
            clinics=len(self.days),
            requests=len(self.wire.waits),
            repeated=self.wire.repeated,
            p95_ms=round(waits[int(len(waits) * 0.95)] * 1000, 1),
            slowest_ms=round(waits[-1] * 1000, 1),
            seconds=round(monotonic() - self._began, 1),
            digest=story.hexdigest(),
        )
