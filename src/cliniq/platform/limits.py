"""Rate limits of this process: how often somebody may knock before being asked to wait."""

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from cliniq.kernel.problem import RateLimitExceeded
from cliniq.platform.clock import Clock


class Limits:
    """Counts hits by key in a window that slides: two numbers a key, however many hits."""

    def __init__(self, wall: Clock) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._parsed: dict[str, RateLimitItem] = {}
        self._wall = wall

    async def hit(self, rule: str, *key: str) -> None:
        """Count one hit against a rule such as `30/minute`, kept apart by `key`.

        Raises: RATE_LIMIT_EXCEEDED 429.
        """
        item = self._item(rule)
        if not await self._limiter.hit(item, *key):
            stats = await self._limiter.get_window_stats(item, *key)
            wait = stats.reset_time - self._wall().timestamp()
            raise RateLimitExceeded(min(max(1, round(wait)), item.get_expiry()))

    async def forgive(self, rule: str, *key: str) -> None:
        """Forget the hits of a key: whoever it was has proved themselves."""
        await self._limiter.clear(self._item(rule), *key)

    def _item(self, rule: str) -> RateLimitItem:
        return self._parsed.setdefault(rule, parse(rule))
