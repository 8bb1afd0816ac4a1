"""Clients who do not give up: they ask at any door of an installation until they are answered.

What was acknowledged goes into a ledger, to be looked for in the database when all is over.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from cliniq.kernel.ids import new_id
from tests.journeys.crowd import Answer, Ask

PATIENCE_SECONDS = 120.0  # far more than an installation may take to come back
ANSWER_SECONDS = 8.0
BROKE_OFF = asyncio.IncompleteReadError, ConnectionResetError, TimeoutError
WORTH_ANOTHER_TRY = {"IDEMPOTENCY_KEY_IN_FLIGHT", "RATE_LIMIT_EXCEEDED", "STALE_VERSION"}


class NobodyAnswers(AssertionError):
    """An installation did not come back in time."""


@dataclass
class Doors:
    """The processes of one installation, all of which serve the same."""

    ports: Sequence[int]
    dice: random.Random
    tries: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        """Count the answers that broke off: what was asked may have happened or not."""
        return sum(self.tries[each.__name__] for each in BROKE_OFF)

    async def ask(self, ask: Ask) -> Answer:
        """Ask until the answer is final: the same key each time, so that it happens once.

        Raises: NobodyAnswers.
        """
        if "idempotency-key" not in {each.lower() for each in ask.headers}:
            ask = replace(ask, headers={**ask.headers, "Idempotency-Key": str(new_id())})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer = await self._try(ask)
            if answer is not None:
                return answer
            await asyncio.sleep(self.dice.uniform(0.05, 0.4))
        raise NobodyAnswers(ask.path)

    async def _try(self, ask: Ask) -> Answer | None:
        """Ask once; nothing where the answer is lost, or says to come again."""
        port = self.dice.choice(self.ports)
        try:
            answer = await asyncio.wait_for(asked(port, ask), ANSWER_SECONDS)
        except (OSError, EOFError, asyncio.IncompleteReadError, ValueError, TimeoutError) as lost:
            self.tries[type(lost).__name__] += 1
            return None
        code = answer.code
        self.tries[code] += 1
        return None if answer.status >= 500 or code in WORTH_ANOTHER_TRY else answer


async def asked(port: int, ask: Ask) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(replace(ask, headers={**ask.headers, "Connection": "close"}).encoded("here"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
        body = await reader.readexactly(length)
        return Answer(int(head.split()[1]), msgspec.json.decode(body) if body else None)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@dataclass
class Ledger:
    """What clients were told for certain."""

    tickets: dict[str, tuple[str, int]] = field(default_factory=dict)  # of appointments
    called: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)

    def take_scan(self, answer: Answer) -> None:
        """Note who was checked in, with which ticket; a second answer must say the same."""
        for receipt in answer.body["check_ins"]:
            ticket = (receipt["queue_id"], receipt["ticket"])
            assert self.tickets.setdefault(receipt["appointment_id"], ticket) == ticket

    def missing(self, entries: Sequence[Any]) -> dict[str, int]:
        """Count what was acknowledged and is not in the rows of `queue_entry`."""
        tickets = {
            str(row["appointment_id"]): (str(row["queue_id"]), row["ticket"]) for row in entries
        }
        status = {str(row["entry_id"]): row["status"] for row in entries}
        return {
            "tickets": sum(tickets.get(visit) != ticket for visit, ticket in self.tickets.items()),
            "calls": sum(status.get(each, "waiting") == "waiting" for each in self.called),
            "twice": len(self.called) - len(set(self.called)),
            "starts": sum(
                status.get(each) not in {"in_progress", "completed"} for each in self.started
            ),
            "completions": sum(status.get(each) != "completed" for each in self.completed),
        }
