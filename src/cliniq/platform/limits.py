"""Rate limits: how often somebody may knock before being asked to wait.

A window slides: the hits of the present one, and of the one before as far as it still reaches in.
So a key costs two numbers, however many hits. Decision 0016.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import ceil, floor
from time import monotonic
from typing import NamedTuple, Protocol, TypeAlias

import structlog

from cliniq.kernel.problem import RateLimitExceeded

log = structlog.get_logger(__name__)

Ticks: TypeAlias = Callable[[], float]  # Units: seconds, from whenever

SPANS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
SAID_EVERY_SECONDS = 60
APART_SECONDS = 1  # between two tries of a store that does not answer
MOST_REFUSED = 10_000


class Rule(NamedTuple):
    """So many hits in a window. Units: `span` in seconds."""

    amount: int
    span: int


class Hit(NamedTuple):
    """A knock to be counted against a rule such as `30/minute`, kept apart by `key`."""

    rule: str
    key: tuple[str, ...]


class CountsLost(Exception):
    """The store of the counts does not answer."""


class Counts(Protocol):
    """Where hits are counted."""

    async def hit(self, hits: Sequence[Hit]) -> Sequence[float]:
        """Count hits; say of each how long it must wait, 0 where it need not. Units: seconds.

        What must wait is not counted. Raises: CountsLost.
        """

    async def undo(self, hit: Hit) -> None:
        """Take one hit back. Raises: CountsLost."""

    async def forget(self, hit: Hit) -> None:
        """Take all hits of a key back. Raises: CountsLost."""


@lru_cache(maxsize=1024)
def rule_of(text: str) -> Rule:
    """Read a rule. Raises: ValueError, KeyError for what is none."""
    amount, _, span = text.partition("/")
    return Rule(int(amount), SPANS[span])


def hashed(hit: Hit, secret: bytes) -> bytes:
    """Hash a rule and a key. Shape: 16 bytes; the same in every process of an installation."""
    text = "\x00".join((hit.rule, *hit.key))
    return blake2b(text.encode("utf-8", "replace"), digest_size=16, key=secret).digest()


def wait_for(rule: Rule, before: int, hits: int, part: float) -> float:
    """Say how long a further hit must wait: 0 where it need not. Units: seconds.

    `part` of the present window is over. Shape: the Lua script of `limits_redis` says the same.
    """
    if floor(before * (1 - part)) + hits < rule.amount:
        return 0.0
    room = rule.amount - hits
    if room <= 0:
        return (1 - part) * rule.span + 0.001
    return max(0.001, (1 - room / before - part) * rule.span + 0.001)


class _Window:
    """The hits of one rule: of this window and of the one before."""

    __slots__ = ("before", "now", "rule", "slot")

    def __init__(self, rule: Rule, slot: int) -> None:
        self.rule = rule
        self.slot = slot
        self.now: dict[tuple[str, ...], int] = {}
        self.before: dict[tuple[str, ...], int] = {}

    def turn(self, slot: int) -> None:
        self.before = self.now if slot == self.slot + 1 else {}
        self.now = {}
        self.slot = slot


class LocalCounts:
    """Counts within this process. What is older than two windows is gone without a sweep."""

    def __init__(self, ticks: Ticks = monotonic) -> None:
        self._ticks = ticks
        self._windows: dict[str, _Window] = {}

    def hit(self, hits: Sequence[Hit]) -> float:
        """Count all hits, or none where one is over its rule; see `Counts`."""
        now = self._ticks()
        found = []
        wait = 0.0
        for text, key in hits:
            window, part = self._window(text, now)
            here = window.now.get(key, 0)
            wait = max(wait, wait_for(window.rule, window.before.get(key, 0), here, part))
            found.append((window.now, key, here))
        if not wait:
            for counted, key, here in found:
                counted[key] = here + 1
        return wait

    def undo(self, hit: Hit) -> None:
        """Take one hit back."""
        window, _ = self._window(hit.rule, self._ticks())
        if here := window.now.get(hit.key):
            window.now[hit.key] = here - 1

    def forget(self, hit: Hit) -> None:
        """Take all hits of a key back."""
        window, _ = self._window(hit.rule, self._ticks())
        window.now.pop(hit.key, None)
        window.before.pop(hit.key, None)

    def _window(self, text: str, now: float) -> tuple[_Window, float]:
        window = self._windows.get(text)
        if window is None:
            rule = rule_of(text)
            window = self._windows[text] = _Window(rule, floor(now / rule.span))
        at = now / window.rule.span
        slot = floor(at)
        if slot != window.slot:
            window.turn(slot)
        return window, at - slot


class Limits:
    """Counts hits by key: for all processes in `shared` where there is such a store, else here.

    While the shared store is away, hits are counted in this process alone, so that reads and
    writes go on; those that must hold `surely` are counted in `durable`.
    """

    def __init__(
        self,
        ticks: Ticks = monotonic,
        shared: Counts | None = None,
        durable: Counts | None = None,
    ) -> None:
        self._ticks = ticks
        self._here = LocalCounts(ticks)
        self._shared = shared
        self._durable = durable
        self._refused: dict[Hit, float] = {}
        self._away_until = self._silent_until = float("-inf")
        self.unshared = 0  # hits that were counted for this process alone though there is a store

    async def hit(self, rule: str, *key: str) -> None:
        """Count one hit. Raises: RATE_LIMIT_EXCEEDED 429."""
        await self.hit_all([Hit(rule, key)])

    async def hit_all(self, hits: Sequence[Hit], *, surely: bool = False) -> None:
        """Count several hits in one round trip; whoever is over one rule waits for it.

        Raises: RATE_LIMIT_EXCEEDED 429; DEPENDENCY_UNAVAILABLE 503 where hits must be counted
        `surely` and neither store serves.
        """
        if self._shared is None:
            wait = self._here.hit(hits)
        else:
            wait = await self._hit_beyond(self._shared, hits, surely=surely)
        if wait > 0:
            raise RateLimitExceeded(max(1, ceil(wait)))

    async def undo(self, hit: Hit) -> None:
        """Take one hit back: it should not have been counted."""
        self._here.undo(hit)
        self._refused.pop(hit, None)
        if self._shared is not None and self._serves():
            try:
                await self._shared.undo(hit)
            except CountsLost:
                self._note_loss(0)

    async def forgive(self, rule: str, *key: str) -> None:
        """Forget the hits of a key: whoever it was has proved themselves."""
        hit = Hit(rule, key)
        self._here.forget(hit)
        self._refused.pop(hit, None)
        if self._shared is not None:
            try:
                if self._serves():
                    await self._shared.forget(hit)
            except CountsLost:
                self._note_loss(0)
            if self._durable is not None and not self._serves():
                await self._durable.forget(hit)

    async def _hit_beyond(self, shared: Counts, hits: Sequence[Hit], *, surely: bool) -> float:
        now = self._ticks()
        if wait := self._known_wait(hits, now):
            return wait
        try:
            if self._serves():
                return self._noted(hits, await shared.hit(hits), now)
        except CountsLost:
            self._note_loss(len(hits))
        else:
            self.unshared += len(hits)
        if surely and self._durable is not None:
            return max(await self._durable.hit(hits))
        return self._here.hit(hits)

    def _known_wait(self, hits: Sequence[Hit], now: float) -> float:
        """Say how long somebody who was refused still waits, without asking the store again."""
        if not self._refused:
            return 0.0
        return max(0.0, *(self._refused.get(hit, now) - now for hit in hits))

    def _noted(self, hits: Sequence[Hit], waits: Sequence[float], now: float) -> float:
        wait = max(waits)
        if wait:
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused |= {
                hit: now + each for hit, each in zip(hits, waits, strict=True) if each
            }
        return wait

    def _serves(self) -> bool:
        return self._ticks() >= self._away_until

    def _note_loss(self, hits: int) -> None:
        now = self._ticks()
        self._away_until = now + APART_SECONDS
        self.unshared += hits
        if now >= self._silent_until:
            self._silent_until = now + SAID_EVERY_SECONDS
            log.warning("limits are counted in this process alone: redis does not answer")
