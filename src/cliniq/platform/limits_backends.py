"""The limits of an installation, joined: counted here or in Redis, and surely in PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliniq.platform.db import Database
from cliniq.platform.limits import Limits
from cliniq.platform.limits_durable import DurableCounts
from cliniq.platform.limits_redis import RedisCounts
from cliniq.platform.redis_link import open_link


@asynccontextmanager
async def open_limits(
    redis_url: str | None, database: Database, secret: bytes
) -> AsyncIterator[Limits]:
    """Count in Redis where there is one, else in this process."""
    if redis_url is None:
        yield Limits()
        return
    async with open_link(redis_url) as link:
        yield Limits(shared=RedisCounts(link, secret), durable=DurableCounts(database, secret))
