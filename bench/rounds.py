"""Ours and the yardstick in turns, since a machine has moods: A B A B, and the median."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias

from bench.ground import Connection
from bench.load import Figures, Sample, figures_of
from bench.report import BenchFailed

ROUND_SECONDS = 4

Side: TypeAlias = Callable[[], Awaitable[Sequence[Sample]]]


@dataclass(frozen=True)
class Options:
    """How a bench is run. `smoke`: in seconds, for the sake of its checks; figures mean nothing."""

    server: str | None = None
    smoke: bool = False
    profile: bool = False

    def size(self, full: int, smoke: int) -> int:
        """Choose how much of something there is."""
        return smoke if self.smoke else full


@dataclass(frozen=True)
class Outcome:
    """What several rounds came to; each median is over the rounds."""

    ours: Sequence[Figures]
    yardstick: Sequence[Figures]

    @property
    def ratio(self) -> float:
        """Compare within each round, then take the median."""
        return median(self._ratios())

    def _ratios(self) -> list[float]:
        return [a.rate / b.rate for a, b in zip(self.ours, self.yardstick, strict=True)]

    def figures(self) -> dict[str, Any]:
        """Give what a `Result` needs of it."""
        return {
            "ratio": self.ratio,
            "ours": median(each.rate for each in self.ours),
            "yardstick": median(each.rate for each in self.yardstick),
            "p50_ms": median(each.p50_ms for each in self.ours),
            "p99_ms": median(each.p99_ms for each in self.ours),
        }

    def facts(self) -> dict[str, Any]:
        """Give what tells how far the figures can be trusted."""
        return {
            "ratios": [round(each, 3) for each in self._ratios()],
            "yardstick_p50_ms": round(median(each.p50_ms for each in self.yardstick), 2),
            "yardstick_p99_ms": round(median(each.p99_ms for each in self.yardstick), 2),
        }


def each_does(warm_up: Sequence[Sample], most: int) -> int:
    """Choose how many requests a connection sends in a round, from how fast it went before."""
    connections = len({sample.connection for sample in warm_up})
    return max(1, min(most, round(figures_of(warm_up).rate * ROUND_SECONDS / connections)))


async def take_turns(rounds: int, ours: Side, yardstick: Side) -> Outcome:
    """Run both, in turns."""
    measured: tuple[list[Figures], list[Figures]] = ([], [])
    for _ in range(rounds):
        for side, figures in zip((ours, yardstick), measured, strict=True):
            figures.append(figures_of(await side()))
    return Outcome(*measured)


class Ledger:
    """Sees that everybody's work leaves the same traces.

    A trace is what follows `select count(*) from`, such as `queue where version > 0`.
    """

    def __init__(self, connection: Connection, traces: Sequence[str]) -> None:
        self._connection = connection
        self._traces = traces
        self._before: list[int] = []
        self._of_one: list[int] = []

    async def open(self) -> None:
        """Count what there is already."""
        self._before = await self._count()

    async def learn(self, times: int) -> None:
        """Remember what one request leaves, from what as many have left since."""
        self._of_one = [found // times for found in await self._since()]

    async def ensure(self, times: int) -> None:
        """Refuse figures of work that was not done. Raises: BenchFailed."""
        found = dict(zip(self._traces, await self._since(), strict=True))
        expected = {
            trace: one * times for trace, one in zip(self._traces, self._of_one, strict=True)
        }
        if found != expected or not any(self._of_one):
            raise BenchFailed(f"traces of {times} requests: {found}, expected {expected}")

    async def _since(self) -> list[int]:
        before, self._before = self._before, await self._count()
        return [now - then for now, then in zip(self._before, before, strict=True)]

    async def _count(self) -> list[int]:
        return [
            await self._connection.fetchval(f"select count(*) from {trace}")  # noqa: S608
            for trace in self._traces
        ]
