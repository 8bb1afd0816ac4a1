"""A crowd of clients with a connection each, who ask in the same instant.

A client of its own, since a full HTTP client would cost more of the machine than the server does.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.support import new_key

MOST_TRIES = 30
RETRY_AFTER_SECONDS = 1  # as the answer says

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Ask:
    """A POST; with a new key each time it is sent, where one is asked for."""

    path: str
    headers: Mapping[str, str]
    body: object = None

    def encoded(self, host: str) -> bytes:
        body = b"" if self.body is None else msgspec.json.encode(self.body)
        headers = {
            "host": host,
            "content-type": "application/json",
            "content-length": str(len(body)),
            **new_key(self.path),
            **self.headers,
        }
        lines = [f"POST {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + body


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        """Name what it says: `OK`, or the refusal."""
        return "OK" if self.status < 300 else str(self.body["code"])


@dataclass
class Crowd:
    """Clients of one server; `most` is how many of them have waited for an answer at once."""

    host: str
    connections: Sequence[Connection]
    waiting: int = field(default=0)
    most: int = field(default=0)

    async def ask(self, asks: Sequence[Ask]) -> list[Answer]:
        """Have everyone ask before anyone hears an answer."""
        encoded = [each.encoded(self.host) for each in asks]
        pairs = zip(self.connections, encoded, strict=True)
        return await asyncio.gather(*(self._ask(*pair) for pair in pairs))

    async def ask_until_served(self, asks: Sequence[Ask]) -> tuple[list[Answer], int]:
        """Have everyone ask, and ask again as told to where the server is overrun (503).

        Return the answers, and how often somebody had to ask again.
        """
        answers, again = await self.ask(asks), 0
        for _ in range(MOST_TRIES):
            refused = [number for number, each in enumerate(answers) if each.status == 503]
            if not refused:
                break
            again += len(refused)
            await asyncio.sleep(RETRY_AFTER_SECONDS)
            served = await asyncio.gather(*(self.ask_one(each, asks[each]) for each in refused))
            for number, each in zip(refused, served, strict=True):
                answers[number] = each
        return answers, again

    async def ask_one(self, number: int, ask: Ask) -> Answer:
        """Have one of them ask."""
        return await self._ask(self.connections[number], ask.encoded(self.host))

    async def _ask(self, connection: Connection, encoded: bytes) -> Answer:
        reader, writer = connection
        writer.write(encoded)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(
                (int(line[16:]) for line in head.split("\r\n") if line[:16] == "content-length: "),
                0,
            )
            body = await reader.readexactly(length)
        finally:
            self.waiting -= 1
        return Answer(int(head.split()[1]), msgspec.json.decode(body) if body else None)


@asynccontextmanager
async def crowd(address: str, size: int) -> AsyncIterator[Crowd]:
    """Bring that many clients to the door, each connected already."""
    place = urlsplit(address)
    connections = await asyncio.gather(
        *(asyncio.open_connection(place.hostname, place.port) for _ in range(size))
    )
    try:
        yield Crowd(place.netloc, connections)
    finally:
        for _, writer in connections:
            writer.close()
        closing = (writer.wait_closed() for _, writer in connections)
        await asyncio.gather(*closing, return_exceptions=True)
