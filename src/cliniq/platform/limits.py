"""Rate limits of this process: how often somebody may knock before being asked to wait."""

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from cliniq.kernel.problem import RateLimitExceeded
from cliniq.platform.clock import Clock


class Limits:
    """Counts hits by key in a moving window."""

    def __init__(self, wall: Clock) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._parsed: dict[str, RateLimitItem] = {}
        self._wall = wall

    async def hit(self, rule: str, *key: str) -> None:
        """Count one hit against a rule such as `30/minute`, kept apart by `key`.

        Raises: RATE_LIMIT_EXCEEDED 429.
        """
        item = self._parsed.setdefault(rule, parse(rule))
        if not await self._limiter.hit(item, *key):
            stats = await self._limiter.get_window_stats(item, *key)
            wait = stats.reset_time - self._wall().timestamp()
            raise RateLimitExceeded(max(1, round(wait)))
