"""A client that follows a queue at any of several processes, and keeps its board by events."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from cliniq.domains.queue.models import Board, CalledTicket, QueueSnapshot
from tests.domains.queue.lines import changed

LOST = (OSError, TimeoutError, EOFError, WebSocketException, httpx2.HTTPError)
PATIENCE_SECONDS = 10


@dataclass
class Follower:
    """What it knows of the queue, how it came to know, and what was not as promised."""

    ports: Sequence[int]
    headers: Mapping[str, str]
    queue_id: str
    dice: random.Random
    board: Board | None = None
    version: int = -1
    epoch: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    astray: list[str] = field(default_factory=list)

    async def follow(self) -> None:
        """Follow until cancelled; come back with what is known whenever the connection is lost."""
        while True:
            try:
                await self._watch(self.dice.choice(self.ports))
            except LOST as lost:
                self.counts[type(lost).__name__] += 1
            await asyncio.sleep(self.dice.uniform(0.1, 0.5))

    async def _watch(self, port: int) -> None:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(PATIENCE_SECONDS):
                live_pass = await self._buy_pass(port)
                if live_pass is None:
                    return
                where = f"ws://127.0.0.1:{port}/api/v1/live?pass={live_pass}"
                socket = await stack.enter_async_context(
                    connect(where, compression=None, proxy=None)
                )
                await socket.send(json.dumps(self._asked()))
            async for text in socket:
                if not self.hear(json.loads(text)):
                    return

    async def _buy_pass(self, port: int) -> str | None:
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client:
            answer = await client.post(
                f"http://127.0.0.1:{port}/api/v1/live/passes", headers=dict(self.headers)
            )
        self.counts[f"pass {answer.status_code}"] += 1
        return str(answer.json()["live_pass"]) if answer.status_code == 201 else None

    def _asked(self) -> dict[str, object]:
        known = {} if self.board is None else {"since": self.version, "epoch": self.epoch}
        clinic = self.headers["X-Clinic-Id"]
        topic = f"queue:{self.queue_id}"
        return {"op": "subscribe", "topic": topic, "clinic_id": clinic, **known}

    def hear(self, said: Mapping[str, Any]) -> bool:
        """Take a frame; tell whether to go on listening."""
        kind = said["type"]
        self.counts[kind] += 1
        match kind:
            case "snapshot":
                if said["epoch"] == self.epoch and said["version"] < self.version:
                    self.astray.append(f"back from {self.version} to {said['version']}")
                self.board = msgspec.convert(said["state"], Board)
                self.version, self.epoch = said["version"], said["epoch"]
            case "resumed":
                if (said["version"], said["epoch"]) != (self.version, self.epoch):
                    self.astray.append(f"resumed at {said['version']}, was at {self.version}")
            case "event":
                self._change(said)
            case "beat":
                if said["version"] > self.version:
                    self.astray.append(f"at {self.version}, the server at {said['version']}")
            case _:  # refused, or the end
                return False
        return True

    def _change(self, said: Mapping[str, Any]) -> None:
        if self.board is None or said["version"] != self.version + 1:
            self.astray.append(f"{said['version']} after {self.version}")
            return
        self.counts[said["kind"]] += 1
        self.version = said["version"]
        self.board = changed(self.board, said["kind"], said["body"])

    async def fresh(self, port: int) -> tuple[int, Board]:
        """Ask for the queue as it is, over HTTP, as the desk does."""
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client:
            answer = await client.get(
                f"http://127.0.0.1:{port}/api/v1/queues/{self.queue_id}", headers=dict(self.headers)
            )
        answer.raise_for_status()
        return board_at_desk(msgspec.json.decode(answer.content, type=QueueSnapshot))

    @property
    def known(self) -> tuple[int, Board | None]:
        return self.version, self.board


def board_at_desk(desk: QueueSnapshot) -> tuple[int, Board]:
    """Read the tickets of what staff see, as a board has them."""

    def of(status: str) -> list[tuple[int, str | None]]:
        return [(each.ticket, each.room) for each in desk.entries if each.status == status]

    return desk.version, Board(
        desk.queue_id,
        desk.on_day,
        desk.line_name,
        [ticket for ticket, _ in of("waiting")],
        [CalledTicket(*each) for each in sorted(of("called"))],
        sorted(ticket for ticket, _ in of("in_progress")),
    )


@asynccontextmanager
async def following(followers: Sequence[Follower]) -> AsyncIterator[None]:
    """Have all of them follow while the block runs; whoever breaks is heard of."""
    tasks = [asyncio.create_task(each.follow()) for each in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    broken = [each for each in ends if not isinstance(each, asyncio.CancelledError)]
    assert not broken, broken
