"""A connection to the database that is ended between two statements, and whoever was using it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest

from cliniq.app import House, open_house
from cliniq.kernel.problem import DependencyUnavailable, NotFound
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import db
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Opening, Unit, open_unit
from cliniq.platform.source import Urls
from tests.support import SECRET, Admin

END = "select pg_terminate_backend($1)"
LATE_SECONDS = 1


@dataclass
class Wire:
    """Stands between house and database; that a connection has ended is heard late, or never."""

    dsn: str
    port: int = 0
    tells_the_end: bool = True
    last_words: asyncio.Event = field(default_factory=asyncio.Event)
    ends: list[asyncio.StreamWriter] = field(default_factory=list)
    carrying: list["asyncio.Future[tuple[None, None]]"] = field(default_factory=list)

    @property
    def application(self) -> str:
        parts = urlsplit(self.dsn)
        login = parts.netloc.rpartition("@")[0]
        place = f"{login}@127.0.0.1:{self.port}"
        return parts._replace(netloc=place, query="sslmode=disable").geturl()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, for as long as the wire stands."""
        from_server, to_server = await self._dial()
        self.ends += [writer, to_server]
        carrying = self._ask(reader, to_server), self._answer(from_server, writer)
        self.carrying.append(asyncio.gather(*carrying))

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.dsn)
        query = parse_qs(parts.query)
        if "host" not in query:
            return await asyncio.open_connection(parts.hostname, parts.port)
        path = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        return await asyncio.open_unix_connection(path)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while asked := await reader.read(65536):
                writer.write(asked)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while said := await reader.read(65536):
                writer.write(said)
                if b"57P01" in said:
                    self.last_words.set()
                    await asyncio.sleep(LATE_SECONDS)
        if self.tells_the_end:
            writer.close()

    async def fall(self) -> None:
        """End everything that is still carried."""
        for end in self.ends:
            end.close()
        await asyncio.gather(*self.carrying)
        await asyncio.gather(*(end.wait_closed() for end in self.ends), return_exceptions=True)


@asynccontextmanager
async def wired(urls: Urls) -> AsyncIterator[tuple[Wire, House]]:
    wire = Wire(urls.application)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        async with open_house(wire.application, SECRET, 2, Clocks(), promises=None) as house:
            yield wire, house
    finally:
        server.close()
        await wire.fall()


def opened(house: House) -> Opening[Unit]:
    return open_unit(house.entrance.database, PlatformScope("test"))


async def end(wire: Wire, unit: Unit, admin: Admin) -> None:
    """End the unit's connection, and hear its last words but not its end."""
    await admin.execute(END, unit.connection.get_server_pid())
    await wire.last_words.wait()
    await asyncio.sleep(0.1)


async def test_house_that_waits_for_its_database_in_vain_closes_all_the_same(
    urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "PATIENCE_SECONDS", 1)
    async with wired(urls) as (wire, house):
        wire.tells_the_end = False
        async with opened(house) as unit:
            assert await unit.connection.fetchval("select 1") == 1


async def test_next_statement_says_that_the_database_does_not_serve(
    urls: Urls, admin: Admin
) -> None:
    async with wired(urls) as (wire, house):
        with pytest.raises(DependencyUnavailable):
            async with opened(house) as unit:
                await end(wire, unit, admin)
                await unit.connection.execute("select 1")
        async with opened(house) as unit:
            assert await unit.connection.fetchval("select 1") == 1


async def test_commit_says_that_the_database_does_not_serve(urls: Urls, admin: Admin) -> None:
    async with wired(urls) as (wire, house):
        with pytest.raises(DependencyUnavailable):
            async with opened(house) as unit:
                await end(wire, unit, admin)
        async with opened(house) as unit:
            assert await unit.connection.fetchval("select 1") == 1


async def test_refusal_stays_a_refusal_and_the_connection_is_not_leaked(
    urls: Urls, admin: Admin
) -> None:
    async with wired(urls) as (wire, house):
        for _ in range(3):  # more than the pool has
            wire.last_words.clear()
            with pytest.raises(NotFound):
                async with opened(house) as unit:
                    await end(wire, unit, admin)
                    raise NotFound
        async with opened(house) as unit:
            assert await unit.connection.fetchval("select 1") == 1
