"""A bulkhead: so many calls at once and so many in the queue for a place; the next is refused."""

import asyncio
from types import TracebackType

from cliniq.kernel.record import Record


class Bounds(Record, frozen=True):
    """How many calls may be under way, how many may wait, and how long."""

    in_flight: int
    waiting: int
    patience_seconds: float


class BulkheadFull(Exception):
    """There is no place, and none came in time."""


class Bulkhead:
    """Places for calls: `async with` takes one.

    Raises: BulkheadFull.
    """

    __slots__ = ("_bounds", "_places", "_waiting", "in_flight")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._places = asyncio.Semaphore(bounds.in_flight)
        self._waiting = 0
        self.in_flight = 0

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody is in it and nobody waits."""
        return self.in_flight == 0 and self._waiting == 0

    async def __aenter__(self) -> None:
        if self._places.locked():
            await self._wait()
        else:
            await self._places.acquire()  # at once
        self.in_flight += 1

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.in_flight -= 1
        self._places.release()

    async def _wait(self) -> None:
        if self._waiting >= self._bounds.waiting:
            raise BulkheadFull
        self._waiting += 1
        try:
            async with asyncio.timeout(self._bounds.patience_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise BulkheadFull from None
        finally:
            self._waiting -= 1
