"""The limits of an installation, joined: counted here or in Redis, and surely in PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliniq.platform.db import Database
from cliniq.platform.limits import Limits
from cliniq.platform.limits_durable import DurableCounts
from cliniq.platform.limits_redis import RedisCounts, connect


@asynccontextmanager
async def open_limits(
    redis_url: str | None, database: Database, secret: bytes
) -> AsyncIterator[Limits]:
    """Count in Redis where there is one, else in this process."""
    if redis_url is None:
        yield Limits()
        return
    client = connect(redis_url)
    try:
        yield Limits(shared=RedisCounts(client, secret), durable=DurableCounts(database, secret))
    finally:
        await client.aclose()
