"""A breaker: who fails too often is left alone for a while, then tried by one call."""

from collections import deque
from datetime import datetime, timedelta
from enum import StrEnum

from cliniq.kernel.record import Record


class Trip(Record, frozen=True):
    """When a breaker opens, and for how long.

    Bounds: it remembers the last `remembered` ends of the last `window_seconds`. Each probe that
    fails doubles the pause, up to the longest one.
    """

    failures: int = 5
    share: float = 0.5
    window_seconds: float = 60
    remembered: int = 100
    pause_seconds: float = 15
    longest_pause_seconds: float = 300


class State(StrEnum):
    """Whether calls pass, are refused, or one is to find out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Counts how calls end. It reads no clock: it is told the wall time.

    A call enters and leaves. One that entered before the last change of state has no say after it.
    """

    __slots__ = ("_ends", "_era", "_pause", "_probing", "_trip", "_until")

    def __init__(self, trip: Trip) -> None:
        self._trip = trip
        self._ends: deque[tuple[datetime, bool]] = deque(maxlen=trip.remembered)
        self._until: datetime | None = None
        self._pause = trip.pause_seconds
        self._probing = False
        self._era = 0

    def state(self, now: datetime) -> State:
        """Say whether calls pass."""
        if self._until is None:
            return State.CLOSED
        return State.HALF_OPEN if self._probing or self._left(now) <= 0 else State.OPEN

    def wait_seconds(self, now: datetime) -> float:
        """Say how long nothing passes; 0 where a call may enter now."""
        if self._until is None:
            return 0
        return 1 if self._probing else max(0, self._left(now))

    def enter(self, now: datetime) -> int | None:
        """Let a call pass and say in which era; nothing where it may not."""
        if self.wait_seconds(now) > 0:
            return None
        self._probing = self._until is not None
        return self._era

    def leave(self, era: int, now: datetime, *, well: bool | None) -> None:
        """Say how a call ended; None where that tells nothing of the provider."""
        if era != self._era:
            return
        if self._until is not None:
            self._judge_probe(now, well=well)
        elif well is not None:
            self._ends.append((now, well))
            if not well and self._has_had_enough(now):
                self._open(now)

    def _judge_probe(self, now: datetime, *, well: bool | None) -> None:
        self._probing = False
        if well is True:
            self._until = None
            self._pause = self._trip.pause_seconds
            self._era += 1
        elif well is False:
            self._pause = min(self._pause * 2, self._trip.longest_pause_seconds)
            self._open(now)

    def _open(self, now: datetime) -> None:
        self._until = now + timedelta(seconds=self._pause)
        self._ends.clear()
        self._era += 1

    def _has_had_enough(self, now: datetime) -> bool:
        since = now - timedelta(seconds=self._trip.window_seconds)
        while self._ends and self._ends[0][0] < since:
            self._ends.popleft()
        failures = sum(not well for _, well in self._ends)
        return failures >= self._trip.failures and failures >= self._trip.share * len(self._ends)

    def _left(self, now: datetime) -> float:
        assert self._until is not None  # noqa: S101 - asked only where it is set
        left = (self._until - now).total_seconds()
        if left > self._pause:  # the clock was put back
            self._until, left = now + timedelta(seconds=self._pause), self._pause
        return left
