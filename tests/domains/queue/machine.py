"""A machine that does to a queue what people do, and holds the board they follow to a fresh one.

Every step goes through the doors of the API; where that runs, and how its events travel, is a
stage's.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from hypothesis import settings as how
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from cliniq.domains.clinics import api as clinics
from cliniq.domains.queue import api as queue
from cliniq.domains.queue.models import Board
from cliniq.kernel.ids import new_id
from tests.domains.queue.lines import board_of
from tests.journeys.crowd import Answer, Ask
from tests.support import SomeClinic, Someone

API = "/api/v1"
BOUND_SECONDS = 60
MINUTE = timedelta(minutes=1)

T = TypeVar("T")
Known = tuple[int, Board | None]


class Stage(ABC):
    """Where a day of a queue is played, for one clinic."""

    clinic: SomeClinic
    now: datetime
    queue_id: UUID
    code: str
    site: clinics.Site

    async def open(self) -> Someone:
        """Found a clinic where all wait in one line, and have the first one in."""
        self.clinic = await self.found()
        zone = self.clinic.site.zone
        self.site = await self.clinic.add_site(zone, queue_mode=clinics.QueueMode.POOL)
        self.code = self.clinic.code(point=await self.clinic.add_point(self.site))
        someone = await self.visitor(0)
        answer = await self.ask(self.scan(someone))
        self.queue_id = UUID(answer.body["check_ins"][0]["queue_id"])
        await self.follow()
        return someone

    @abstractmethod
    async def found(self) -> SomeClinic:
        """Found the clinic."""

    @abstractmethod
    async def ask(self, ask: Ask) -> Answer:
        """Ask the API."""

    @abstractmethod
    async def follow(self) -> None:
        """Have somebody follow the queue from here on."""

    @abstractmethod
    async def known(self, version: int) -> Known:
        """Say what the follower knows, once they have had what was told up to this version."""

    @abstractmethod
    async def close(self) -> None:
        """Have nobody follow any longer."""

    async def fresh(self) -> tuple[int, Board]:
        """Look at the queue as it is."""
        snapshot = await board_of(self.clinic, self.queue_id)
        assert isinstance(snapshot.state, Board)
        return snapshot.version, snapshot.state

    async def visitor(self, minute: int) -> Someone:
        """Somebody with a visit so many minutes from now, of a doctor's own."""
        someone, patient = await self.clinic.signed_in_patient()
        doctor = await self.clinic.practitioner()
        await self.clinic.book(
            patient,
            self.now + minute * MINUTE,
            practitioner_id=doctor,
            site_id=self.site.site_id,
        )
        return someone

    def scan(self, someone: Someone) -> Ask:
        headers = someone.headers | new_key()
        return Ask(f"{API}/appointments/check-in/scan-qr", headers, {"code": self.code})

    async def walk_in(self) -> Ask:
        """Somebody without a visit, for a doctor's own."""
        body = {
            "patient_id": str((await self.clinic.patient()).patient_id),
            "practitioner_id": str(await self.clinic.practitioner()),
        }
        headers = self.clinic.acting(self.clinic.receptionist) | new_key()
        return Ask(f"{API}/queues/{self.queue_id}/walk-ins", headers, body)

    def move(self, path: str, body: object = None) -> Ask:
        return Ask(f"{API}/queues/{path}", self.clinic.acting(self.clinic.doctor) | new_key(), body)

    async def stumble(self) -> None:
        """Call somebody in a unit that is rolled back."""
        with suppress(ZeroDivisionError, queue.QueueEmpty):
            async with self.clinic.unit() as unit:
                await queue.call_next(unit, self.queue_id, "7")
                _ = 1 // 0


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": str(new_id())}


class QueueMachine(RuleBasedStateMachine):
    """A day of a queue. Hypothesis plays it in a thread; the stage stands on the tests' loop."""

    new_stage: ClassVar[Callable[[], Stage]]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __init__(self) -> None:
        super().__init__()
        self.stage = type(self).new_stage()
        self.visitors: list[Someone | None] = []  # nobody scans who has walked in
        self.called: list[str] = []
        self.begun: list[str] = []
        self.done: list[str] = []
        self.last: tuple[Ask, Answer] | None = None

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(BOUND_SECONDS)

    def ask(self, ask: Ask, *expected: str) -> Answer:
        answer = self.do(self.stage.ask(ask))
        assert answer.code in expected, answer
        if answer.code == "OK":
            self.last = ask, answer
        return answer

    @initialize()
    def open(self) -> None:
        self.visitors.append(self.do(self.stage.open()))

    @rule(minute=st.integers(-15, 15), booked=st.sampled_from([True, True, False]))
    def join(self, minute: int, *, booked: bool) -> None:
        someone = self.do(self.stage.visitor(minute)) if booked else None
        if someone is None:
            receipt = self.ask(self.do(self.stage.walk_in()), "OK").body
        else:
            (receipt,) = self.ask(self.stage.scan(someone), "OK").body["check_ins"]
        self.visitors.append(someone)
        assert receipt["ticket"] == len(self.visitors)

    @rule(who=st.integers(0))
    def scan_once_more(self, who: int) -> None:
        someone = self.visitors[who % len(self.visitors)]
        if someone is None:
            return
        answer = self.ask(self.stage.scan(someone), "OK", "ALREADY_CHECKED_IN")
        assert answer.code != "OK" or answer.body["check_ins"][0]["already"]

    @rule(room=st.sampled_from([None, "1", "2"]))
    def call(self, room: str | None) -> None:
        gone = len(self.called) + len(self.begun) + len(self.done)
        expected = "OK" if gone < len(self.visitors) else "QUEUE_EMPTY"
        answer = self.ask(self.stage.move(f"{self.stage.queue_id}/calls", {"room": room}), expected)
        if expected == "OK":
            self.called.append(answer.body["entry_id"])

    @precondition(lambda self: self.called)
    @rule(who=st.integers(0), comes=st.sampled_from([True, True, False]))
    def start_or_miss(self, who: int, *, comes: bool) -> None:
        entry_id = self.called.pop(who % len(self.called))
        self.ask(self.stage.move(f"entries/{entry_id}/{'start' if comes else 'no-show'}"), "OK")
        (self.begun if comes else self.done).append(entry_id)

    @precondition(lambda self: self.begun)
    @rule(who=st.integers(0))
    def complete(self, who: int) -> None:
        entry_id = self.begun.pop(who % len(self.begun))
        self.ask(self.stage.move(f"entries/{entry_id}/complete"), "OK")
        self.done.append(entry_id)

    @precondition(lambda self: self.begun or self.done)
    @rule()
    def start_by_mistake(self) -> None:
        entry_id = (self.begun + self.done)[0]
        self.ask(self.stage.move(f"entries/{entry_id}/start"), "INVALID_TRANSITION")

    @precondition(lambda self: self.last)
    @rule()
    def ask_again_with_the_same_key(self) -> None:
        assert self.last is not None
        ask, answer = self.last
        assert self.ask(ask, "OK") == answer

    @rule()
    def stumble(self) -> None:
        self.do(self.stage.stumble())

    @invariant()
    def events_give_the_fresh_board(self) -> None:
        fresh = self.do(self.stage.fresh())
        assert self.do(self.stage.known(fresh[0])) == fresh

    @override
    def teardown(self) -> None:
        self.do(self.stage.close())


async def play(new_stage: Callable[[], Stage], played: how) -> None:
    """Play days of a queue, each on a stage of its own."""

    class Played(QueueMachine):
        pass

    Played.new_stage = staticmethod(new_stage)
    Played.loop = asyncio.get_running_loop()
    await asyncio.to_thread(run_state_machine_as_test, Played, settings=played)
