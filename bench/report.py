"""What a bench found, for a reader and for a machine."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


class BenchFailed(Exception):
    """An answer was wrong or work was lost: there is no figure to report."""


@dataclass(frozen=True)
class Aim:
    """A figure to reach. `bound` is the least that will do, or with `at_most` the most."""

    words: str
    measured: float
    bound: float
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Tell whether the figure is good enough."""
        if self.at_most:
            return self.measured <= self.bound
        return self.measured >= self.bound


@dataclass(frozen=True)
class Result:
    """One bench's figures. Units: `ours` and `yardstick` in `unit`; above 1, ours is ahead."""

    name: str
    ratio: float
    ours: float
    yardstick: float
    unit: str
    aims: Sequence[Aim]
    p50_ms: float
    p99_ms: float
    facts: dict[str, Any] = field(default_factory=dict)
    profile: Sequence[str] = ()

    def as_json(self) -> str:
        """Write it on one line."""
        aims = [
            {"what": each.words, "measured": _short(each.measured), "aim": each.bound}
            | {"reached": each.reached}
            for each in self.aims
        ]
        said: dict[str, Any] = {
            "name": self.name,
            "ratio": _short(self.ratio),
            "ours": _short(self.ours),
            "yardstick": _short(self.yardstick),
            "unit": self.unit,
            "p50_ms": _short(self.p50_ms),
            "p99_ms": _short(self.p99_ms),
            "aims": aims,
            **self.facts,
        }
        if self.profile:
            said["profile"] = list(self.profile)
        return json.dumps(said)


def show(console: Console, results: Sequence[Result]) -> None:
    """Print a table of all, one line an aim, and what profiles showed."""
    table = Table("bench", "ours : yardstick", "p50, p99 ms", "what", "is", "aim", "")
    for result in results:
        figures = [
            result.name,
            f"{_short(result.ours):g} : {_short(result.yardstick):g} {result.unit}",
            f"{_short(result.p50_ms):g}, {_short(result.p99_ms):g}",
        ]
        for aim in result.aims:
            sign = "<=" if aim.at_most else ">="
            verdict = "[green]reached[/]" if aim.reached else "[red]missed[/]"
            bound = f"{sign} {aim.bound:g}"
            table.add_row(*figures, aim.words, f"{_short(aim.measured):g}", bound, verdict)
            figures = [""] * len(figures)
    console.print(table)
    for result in results:
        for line in result.profile:
            console.print(f"{result.name}: {line}", markup=False, highlight=False, soft_wrap=True)


def _short(figure: float) -> float:
    """Round to what a noisy machine can tell: four digits at most."""
    return round(figure) if abs(figure) >= 1000 else float(f"{figure:.4g}")
