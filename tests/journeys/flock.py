"""Watchers in a process of their own, who buy their passes and come back as the page does.

`python -m tests.journeys.flock PORT NUMBER QUEUES` reads a word a line and answers each with a
line of JSON: `open`, `drop` (cut every connection), `back` (until all are back since the last
answer), `say`, and the end of its input is the end.
"""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic
from typing import Any, cast

import uvloop
from typing_extensions import override

from bench.report import BenchFailed
from bench.town import CLINIC, FIRST, Kind, id_of, patient_headers
from bench.watchers import ADDRESSES, BuyPass, Refused, Seat, Watchers
from tests.hatchery import allow_files

PASSES = "/api/v1/live/passes"
_END = b"\r\n\r\n"
_AFTER = re.compile(rb"\r\nretry-after: (\d+)", re.IGNORECASE)
PAUSE_SECONDS = 0.02


class _Purchase(asyncio.Protocol):
    """One POST on a connection of its own."""

    def __init__(self, asked: bytes) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked = asked
        self._got = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._asked)

    @override
    def data_received(self, data: bytes) -> None:
        self._got += data

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(self._got)


def buyer(port: int, visit: int) -> BuyPass:
    """Buy passes in the name of a visit's patient."""
    headers = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": "0"}
    lines = [f"{name}: {value}" for name, value in (headers | patient_headers(visit)).items()]
    asked = "\r\n".join([f"POST {PASSES} HTTP/1.1", *lines, "", ""]).encode()
    source = f"127.0.0.{2 + visit % ADDRESSES}"

    async def buy() -> str:
        loop = asyncio.get_running_loop()
        _, purchase = await loop.create_connection(
            lambda: _Purchase(asked), "127.0.0.1", port, local_addr=(source, 0)
        )
        head, _, body = (await purchase.done).partition(_END)
        if head[9:12] == b"201":
            return str(json.loads(body)["live_pass"])
        if after := _AFTER.search(head):
            raise Refused(int(after[1]))
        raise BenchFailed(head[:15].decode() or "the server hung up")

    return buy


def seats_at(port: int, number: int, queues: int) -> list[Seat]:
    """Seat the patients of the first visits, each before their own queue."""
    return [
        Seat(
            port,
            CLINIC,
            f"queue:{id_of(Kind.QUEUE, FIRST + visit * visit % 9973 % queues)}",
            buyer(port, visit),
        )
        for visit in range(FIRST, FIRST + number)
    ]


def move(watchers: Watchers, port: int) -> None:
    """Have everybody come back at another port."""
    for at, watcher in enumerate(watchers.watchers):
        watcher.seat = replace(watcher.seat, port=port, buy_pass=buyer(port, FIRST + at))


class Flock:
    """The watchers, and what they are told to do."""

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers
        self._since = 0
        self._words: dict[str, Callable[[], Awaitable[None]]] = {
            "open": self._open,
            "drop": self._drop,
            "back": self._come_back,
            "say": self._say,
        }

    async def obey(self, word: str) -> dict[str, Any]:
        """Do it, and answer."""
        began = monotonic()
        await self._words[word]()
        watchers = self._watchers
        standing: dict[str, set[int | None]] = {}
        for each in watchers.watchers:
            standing.setdefault(each.seat.topic, set()).add(each.version)
        return {
            "seconds": monotonic() - began,
            "live": watchers.live,
            "missed": watchers.missed,
            "counts": watchers.counts,
            "versions": {topic: list(versions) for topic, versions in standing.items()},
        }

    async def _open(self) -> None:
        await self._watchers.open()
        self._note()

    async def _drop(self) -> None:
        self._watchers.drop()

    async def _come_back(self) -> None:
        watchers = self._watchers.watchers
        while not all(each.is_live and each.entries > self._since for each in watchers):  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_SECONDS)
        self._note()

    async def _say(self) -> None:
        """Only answer."""

    def _note(self) -> None:
        self._since = max(each.entries for each in self._watchers.watchers)
        for each in self._watchers.watchers:
            each.entries = self._since


async def main(port: int, number: int, queues: int) -> None:
    allow_files()
    watchers = Watchers(seats_at(port, number, queues), opening=number)
    flock = Flock(watchers)
    loop = asyncio.get_running_loop()
    while word := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        sys.stdout.write(json.dumps(await flock.obey(word)) + "\n")
        sys.stdout.flush()
    watchers.close()


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
