"""The only SQL of idempotency keys. Whose they are, and in which clinic, is the transaction's."""

from datetime import datetime

from cliniq.kernel.record import Record
from cliniq.platform.db import Unit
from cliniq.platform.sql import sql


class KeyState(Record, frozen=True):
    """What stands against a key; nothing does where it `is_free`, and then it is held."""

    is_free: bool
    fingerprint: bytes | None
    status: int | None
    media_type: str | None
    answer: bytes | None
    stored_at: datetime | None


@sql("select * from claim_key($1, $2)")
async def claim_key(unit: Unit, route: str, key: str) -> KeyState:
    """Take a key until COMMIT, or say what stands against it. Locks: the key; never waits."""


@sql("""
    insert into idempotency_key (route, key, fingerprint, status, media_type, answer, stored_at)
    values ($1, $2, $3, $4, $5, $6, $7)
""")
async def add_answer(
    unit: Unit,
    route: str,
    key: str,
    fingerprint: bytes,
    status: int,
    media_type: str | None,
    answer: bytes,
    stored_at: datetime,
) -> None:
    """Keep what was answered to a key."""


@sql("select drop_stale_keys($1, $2, $3)")
async def drop_stale_keys(
    unit: Unit, spent_before: datetime, gone_before: datetime, most: int
) -> int:
    """Empty old answers and drop older keys, so many at most of each; count them."""
