"""The two clocks. Nothing else reads the time; a unit reads each once, when it opens.

Clinic time moves appointments, windows and queue days; a simulation may run it fast or elsewhere.
Wall time moves tokens, rotating codes, leases, limits and the audit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]


def utc_now() -> datetime:
    """Read the machine's clock, aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the one place


@dataclass(frozen=True, slots=True)
class Clocks:
    """Both clocks, handed down from a composition root."""

    clinic: Clock = utc_now
    wall: Clock = utc_now
