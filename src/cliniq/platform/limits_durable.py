"""Hits counted in PostgreSQL: for the few that must hold although Redis is away."""

from collections.abc import Sequence
from datetime import timedelta
from math import floor

from cliniq.kernel.scope import PlatformScope
from cliniq.platform import limits_store
from cliniq.platform.db import Database, Opening, Unit, open_unit
from cliniq.platform.limits import Hit, hashed, rule_of, wait_for

STALE = timedelta(days=2)  # no window reaches further


class DurableCounts:
    """Counts on the wall clock, each time in a transaction of its own. A refused hit counts too."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._secret = secret

    async def hit(self, hits: Sequence[Hit]) -> Sequence[float]:
        """Count hits; see `Counts`. Raises: DEPENDENCY_UNAVAILABLE 503."""
        rules = [rule_of(hit.rule) for hit in hits]
        keys = [hashed(hit, self._secret) for hit in hits]
        async with self._unit() as unit:
            now = unit.wall.timestamp()
            places = [now / rule.span for rule in rules]
            found = await limits_store.add_hits(
                unit, [hit.rule for hit in hits], keys, [floor(each) for each in places], unit.wall
            )
        counted = {each.key_hash: each for each in found}
        return [
            wait_for(rule, counted[key].hits_before, counted[key].hits - 1, place % 1)
            for rule, key, place in zip(rules, keys, places, strict=True)
        ]

    async def undo(self, hit: Hit) -> None:
        """Take one hit back."""
        async with self._unit() as unit:
            await limits_store.take_hit_back(unit, hashed(hit, self._secret), hit.rule)

    async def forget(self, hit: Hit) -> None:
        """Take all hits of a key back."""
        async with self._unit() as unit:
            await limits_store.forget_hits(unit, hashed(hit, self._secret), hit.rule)

    def _unit(self) -> Opening[Unit]:
        return open_unit(self._database, PlatformScope("count hits"))
