"""Somebody outside the installation, who does what is asked once for each key."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

RUDE = 0.05  # of all deliveries are taken and never acknowledged


@dataclass
class Receiver:
    """What was asked, how often, and what was done of it."""

    dice: random.Random
    port: int = 0
    heard: Counter[str] = field(default_factory=Counter)  # by key
    done: dict[str, str] = field(default_factory=dict)  # check-ins, by key

    @property
    def repeated(self) -> int:
        """Count the deliveries that came again."""
        return self.heard.total() - len(self.heard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            sent = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = await reader.readexactly(int(sent["content-length"]))
            self.take(sent["idempotency-key"], msgspec.json.decode(body))
            if self.dice.random() >= RUDE:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        writer.close()

    def take(self, key: str, body: Any) -> None:
        """Do it, unless it was done for this key."""
        self.heard[key] += 1
        self.done.setdefault(key, body["check_in_id"])

    def faults(self, check_ins: Collection[str]) -> dict[str, int]:
        """Count what is wrong, where each check-in should have been told with one key."""
        told = Counter(self.done.values())
        return {
            "never told": sum(each not in told for each in check_ins),
            "told with two keys": sum(often > 1 for often in told.values()),
            "told and not there": len(set(told) - set(check_ins)),
        }


@asynccontextmanager
async def receiving(dice: random.Random) -> AsyncIterator[Receiver]:
    receiver = Receiver(dice)
    async with await asyncio.start_server(receiver.serve, "127.0.0.1", 0) as server:
        receiver.port = server.sockets[0].getsockname()[1]
        yield receiver
