"""What PostgreSQL was slow at: named, timed and counted, never with a value."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)


def _uncounted(_name: str, _seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class SlowLog:
    """What is slow, and who counts it. By default nothing is."""

    seconds: float = math.inf
    count: Callable[[str, float], None] = _uncounted

    def note(self, name: str, seconds: float, rows: int | None, request_id: str) -> None:
        """Log a slow statement by its name; `rows` is None where it failed."""
        self.count(name, seconds)
        log.warning(
            "slow statement",
            statement=name,
            ms=round(seconds * 1000, 1),
            rows=rows,
            request_id=request_id,
        )


NEVER_SLOW = SlowLog()


def slow_log(milliseconds: int, count: Callable[[str, float], None]) -> SlowLog:
    """Make the log that the setting asks for; 0 for none."""
    return SlowLog(milliseconds / 1000, count) if milliseconds else NEVER_SLOW
