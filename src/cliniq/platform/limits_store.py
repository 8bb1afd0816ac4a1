"""The only SQL of limits: hits that must be counted although Redis is away."""

from datetime import datetime

from cliniq.kernel.record import Record
from cliniq.platform.db import Unit
from cliniq.platform.sql import sql


class Counted(Record, frozen=True):
    """The hits of a key: of this window, this one among them, and of the window before."""

    key_hash: bytes
    hits: int
    hits_before: int


@sql("""
    insert into limit_window as w (rule, key_hash, slot, hits, counted_at)
    select rule, key_hash, slot, 1, $4
    from unnest($1::text[], $2::bytea[], $3::bigint[]) as hit (rule, key_hash, slot)
    order by key_hash, rule
    on conflict (key_hash, rule) do update set
        slot = excluded.slot,
        hits = 1 + case w.slot when excluded.slot then w.hits else 0 end,
        hits_before = case excluded.slot
            when w.slot then w.hits_before when w.slot + 1 then w.hits else 0 end,
        counted_at = excluded.counted_at
    returning key_hash, hits, hits_before
""")
async def add_hits(
    unit: Unit, rules: list[str], key_hashes: list[bytes], slots: list[int], at: datetime
) -> list[Counted]:
    """Count hits. Locks: their keys until COMMIT, in one order for all."""


@sql("""
    update limit_window set hits = greatest(0, hits - 1) where key_hash = $1 and rule = $2
""")
async def take_hit_back(unit: Unit, key_hash: bytes, rule: str) -> None:
    """Take one hit back."""


@sql("delete from limit_window where key_hash = $1 and rule = $2")
async def forget_hits(unit: Unit, key_hash: bytes, rule: str) -> None:
    """Take all hits of a key back."""


@sql("delete from limit_window where counted_at < $1")
async def drop_stale_windows(unit: Unit, before: datetime) -> None:
    """Forget windows that reach into none any more."""
