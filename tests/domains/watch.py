"""Counts what a request says to PostgreSQL."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import asyncpg

from cliniq.app import House
from cliniq.platform.db import Connection, Database, Pool
from tests.support import Client

# asyncpg asks once a connection what an array of ids is made of.
DRIVERS_OWN = ("typeinfo_tree", "('jit'")


@dataclass
class Messages:
    """Every connection that was asked for, and every statement that was sent on one."""

    acquired: int = field(default=0)
    statements: list[str] = field(default_factory=list)

    def note(self, query: Any) -> None:
        if not any(word in query.query for word in DRIVERS_OWN):
            self.statements.append(query.query)

    def __len__(self) -> int:
        return self.acquired + len(self.statements)


class WatchedPool:
    """A pool whose connections tell what is sent on them."""

    def __init__(self, pool: Pool, messages: Messages) -> None:
        self._pool = pool
        self._messages = messages

    def get_max_size(self) -> int:
        return self._pool.get_max_size()

    async def acquire(self, *, timeout: float) -> Connection:  # noqa: ASYNC109 - as asyncpg's
        self._messages.acquired += 1
        connection = await self._pool.acquire(timeout=timeout)
        cast("asyncpg.Connection[Any]", connection).add_query_logger(self._messages.note)
        return connection

    async def release(self, connection: Connection) -> None:
        if not connection.is_closed():
            cast("asyncpg.Connection[Any]", connection).remove_query_logger(self._messages.note)
        await self._pool.release(connection)


@dataclass
class Watch:
    """A client, and what its requests have said to PostgreSQL since it was last asked."""

    client: Client
    messages: Messages

    async def said(self) -> Messages:
        """Answer what was said since the last time, and begin anew."""
        await asyncio.sleep(0)  # asyncpg tells its loggers in the loop's next turn
        said = replace(self.messages)
        self.messages.acquired, self.messages.statements = 0, []
        return said


def watched(house: House, messages: Messages) -> House:
    """The same house, with somebody at its pools."""
    database: Database = house.entrance.database
    clinic, person, platform = [
        cast("Pool", WatchedPool(pool, messages))
        for pool in (database.clinic, database.person, database.platform)
    ]
    heard = replace(database, clinic=clinic, person=person, platform=platform)
    entrance = replace(house.entrance, database=heard)
    return replace(house, entrance=entrance, desk=replace(house.desk, database=heard))
