"""Lets a crowd in no faster than others can bear: sockets that were dropped at once return at once.

Each is some transactions and milliseconds of the one loop. Whoever cannot be let in soon is told
when to come back, each a moment after the one before, so that nobody comes for nothing.
See docs/decisions/0028.
"""

import asyncio
from math import ceil

from cliniq.kernel.problem import RateLimitExceeded

PACE = 250  # a second: a full process is whole again within a minute
BURST = 50  # who come out of nothing wait for nobody
PATIENCE_SECONDS = 2  # so long somebody is kept waiting
LONGEST_SECONDS = 60
AT_ONCE = 4  # openings that hold or want a connection to the database: fewer than there are


class Turnstile:
    """The way to the live sockets of this process."""

    def __init__(self, pace: float = PACE) -> None:
        self._step = 1 / pace
        self._next_at = 0.0  # when the next may pass, on the loop's clock
        self._later_at = 0.0  # when the last of those who were sent away comes back
        self.room = asyncio.Semaphore(AT_ONCE)

    async def turn(self) -> None:
        """Wait for one's turn. Raises: RATE_LIMIT_EXCEEDED 429, with a time of one's own."""
        now = asyncio.get_running_loop().time()
        at = max(self._next_at, now - BURST * self._step)
        if at - now > PATIENCE_SECONDS:
            later = self._later_at = max(self._later_at, at) + self._step
            raise RateLimitExceeded(min(ceil(later - now), LONGEST_SECONDS))
        self._next_at = at + self._step
        if at > now:
            await asyncio.sleep(at - now)
