"""Providers on loopback: real servers that answer as they are told, or not at all."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import TypeAlias

from cliniq.kernel.record import Record
from cliniq.platform.outbound.addresses import Address, networks
from cliniq.platform.outbound.client import Outbound, open_outbound
from cliniq.platform.outbound.resolver import NoSuchName
from cliniq.platform.telemetry import Metrics
from tests.support import NOON


class Heard(Record, frozen=True):
    """A request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Reply: TypeAlias = Callable[[Heard], Awaitable[bytes]]


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An answer on the wire."""
    named = {"content-length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body


@dataclass
class Server:
    """A provider: what it heard, how it replies, how many are connected."""

    port: int = 0
    heard: list[Heard] = field(default_factory=list)
    connected: int = 0
    servers_names: list[str | None] = field(default_factory=list)  # that TLS was asked for
    replies: list[bytes] = field(default_factory=list)  # taken in turn; the last one stays
    is_silent: bool = False
    is_slow: bool = False  # gives its answer by the byte
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        self.open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    self.heard.append(await hear(reader))
                    if self.is_silent:
                        await reader.read()  # until the other side goes
                        return
                    said = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                    if not said:
                        return
                    for part in range(0, len(said), size := 1 if self.is_slow else len(said)):
                        writer.write(said[part : part + size])
                        await writer.drain()
                        await asyncio.sleep(0.005 if self.is_slow else 0)
                        if writer.is_closing():
                            return
        finally:
            self.open.discard(writer)
            writer.close()


async def hear(reader: asyncio.StreamReader) -> Heard:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Heard(method, path, headers, body)


@asynccontextmanager
async def serving(
    *replies: bytes, host: str = "127.0.0.1", trust: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve on a free port, by default 200 to all."""
    server = Server(replies=list(replies) or [reply(200, b"well")])
    async with await asyncio.start_server(server.serve, host, 0, ssl=trust) as listener:
        server.port = listener.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            for writer in tuple(server.open):
                writer.transport.abort()
            while server.open:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)


@dataclass
class Wall:
    """The hands of the wall clock."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Caller:
    """A client, its clock and its counts."""

    outbound: Outbound
    wall: Wall
    metrics: Metrics

    def counted(self, name: str, **labels: str) -> float:
        self.metrics.exposition()
        return self.metrics.registry.get_sample_value(name, labels) or 0


@asynccontextmanager
async def calling(
    allowed: Sequence[str] = ("127.0.0.0/8",),
    names: Mapping[str, Sequence[Sequence[str]]] | None = None,
    trust: ssl.SSLContext | None = None,
) -> AsyncIterator[Caller]:
    """Open a client that may call loopback and knows some names; each look-up takes the next."""
    wall, metrics = Wall(), Metrics()
    resolver = Names(names or {})
    async with open_outbound(
        wall, metrics, resolve=resolver, allowed=networks(*allowed), trust=trust
    ) as outbound:
        yield Caller(outbound, wall, metrics)


class Names:
    """Resolves as it is told: each look-up of a name takes its next answer, the last one stays."""

    def __init__(self, answers: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        given = self._answers.get(host)
        if given is None:
            raise NoSuchName
        return [ip_address(each) for each in (given.pop(0) if len(given) > 1 else given[0])]
