"""How fast somebody learns their place in a long line, against a line of ten."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from typing_extensions import override

from bench.ground import Served, fresh_ground, serving_cliniq
from bench.load import Ask, Figures, Sample, figures_of, fire
from bench.report import Aim, BenchFailed, Result
from bench.rounds import Options, each_does
from bench.spy import spying
from bench.town import FIRST, Kind, Town, id_of, patient_headers

TIMES = 2
CLIENTS = 16


@dataclass(frozen=True)
class Line:
    """A line of so many, from a visit on; everyone in it was due at once and has a ticket."""

    first: int
    waiting: int
    number: int

    def asks(self, client: int, each: int) -> list[Ask]:
        """Have different people ask for their own places, as their phones do."""
        visits = [self.first + (client + CLIENTS * n) * 7919 % self.waiting for n in range(each)]
        return [self.ask(visit) for visit in visits]

    def ask(self, visit: int) -> Ask:
        """Ask for one's own place."""
        queue, entry = id_of(Kind.QUEUE, FIRST + self.number), id_of(Kind.ENTRY, visit)
        headers = patient_headers(visit) | {"X-Clinic-Id": str(id_of(Kind.CLINIC, FIRST))}
        return Ask("GET", f"/api/v1/queues/{queue}/entries/{entry}", headers)


@dataclass
class Lines(Town):
    """A town in which the first line has so many, and the next so many."""

    lengths: Sequence[int] = ()

    @property
    @override
    def doctor_of_i(self) -> str:
        ends = [FIRST + sum(self.lengths[: at + 1]) for at in range(len(self.lengths))]
        cases = " ".join(f"when {{i}} < {end} then {at}" for at, end in enumerate(ends))
        return f"{FIRST} + case {cases} end"

    def lines(self) -> list[Line]:
        """List them, shortest first."""
        return [
            Line(FIRST + sum(self.lengths[:at]), length, at)
            for at, length in enumerate(self.lengths)
        ]


async def run(options: Options) -> Result:
    """Measure lines of 10, 1,000 and 10,000 in turns."""
    lengths = (10, 1000, options.size(10_000, 2000))
    town = Lines(sum(lengths), len(lengths), waiting=True, lengths=lengths)
    lines = town.lines()
    figures: list[list[Figures]] = [[] for _ in lines]
    profile: list[str] = []
    async with fresh_ground(options.server) as ground:
        async with ground.connect() as admin:
            await town.build(admin)
        async with serving_cliniq(ground) as served:
            for line in lines:
                await _ensure_right(served, line)
            warm_up = await _ask(served, lines[0], options.size(50, 5))
            each = each_does(warm_up, options.size(400, 10))
            for _ in range(options.size(5, 2)):
                for line, found in zip(lines, figures, strict=True):
                    found.append(figures_of(await _ask(served, line, each)))
            if options.profile:
                async with spying(ground, served.pid) as profile:
                    await _ask(served, lines[-1], each)
    short, middle, long = figures
    return Result(
        "rank",
        ratio=1 / _times(short, long),
        ours=median(one.rate for one in long),
        yardstick=median(one.rate for one in short),
        unit="/s",
        aims=[
            Aim(f"times a line of 10, of {length:,}", _times(short, found), TIMES, at_most=True)
            for length, found in zip(lengths[1:], (middle, long), strict=True)
        ],
        p50_ms=median(one.p50_ms for one in long),
        p99_ms=median(one.p99_ms for one in long),
        facts={"clients": CLIENTS, "ten_p50_ms": round(median(one.p50_ms for one in short), 2)},
        profile=profile,
    )


def _times(short: Sequence[Figures], long: Sequence[Figures]) -> float:
    return median(a.rate / b.rate for a, b in zip(short, long, strict=True))


async def _ask(served: Served, line: Line, each: int) -> list[Sample]:
    asks = [line.asks(client, each) for client in range(CLIENTS)]
    return (await fire(served.port, asks)).samples


async def _ensure_right(served: Served, line: Line) -> None:
    """Refuse figures of wrong answers: who came nth stands nth."""
    visits = [line.first, line.first + line.waiting // 2, line.first + line.waiting - 1]
    volley = await fire(served.port, [[line.ask(visit) for visit in visits]])
    places = [json.loads(body)["position"] for body in volley.bodies]
    if places != [visit - line.first + 1 for visit in visits]:
        raise BenchFailed(f"places {places} in a line of {line.waiting}")
