"""Kinds of live topics, which rooms declare: who may watch one, and how it is read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import msgspec

from cliniq.kernel.ids import ClinicId
from cliniq.kernel.problem import Problem
from cliniq.kernel.record import Record
from cliniq.kernel.scope import Caller
from cliniq.platform.db import ReadUnit
from cliniq.platform.events import Event
from cliniq.platform.http.guards import Entrance, Guard
from cliniq.platform.live import Known, Snapshot, topic_in


@dataclass(frozen=True, slots=True)
class Topic:
    """A kind of topic, `name:<id>`.

    All who sit in one kind of seat see the same of it. `version` reads how far it is, and refuses
    whom `load` refuses; it is cheaper. `state` is what `load` gives, `tells` what happens to it.
    """

    name: str
    guard: Guard[ReadUnit]
    load: Callable[[ReadUnit, UUID], Awaitable[Snapshot]]
    version: Callable[[ReadUnit, UUID], Awaitable[int]]
    state: type[Record]
    tells: tuple[type[Event], ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """How one watcher reads one topic: each time through their own door."""

    entrance: Entrance
    topic: Topic
    guard: Guard[ReadUnit]
    caller: Caller
    clinic_id: ClinicId
    of_id: UUID
    action: str  # as the audit has it
    request_id: str

    @property
    def name(self) -> str:
        """Name the topic within the installation."""
        return topic_in(self.clinic_id, f"{self.topic.name}:{self.of_id}")

    async def load(self, known: Known | None) -> Snapshot:
        """Read the topic; whoever lost the right is refused here, and remembered."""
        door = self.guard.door(
            self.entrance, self.caller, self.clinic_id, self.action, self.request_id
        )
        try:
            async with self.entrance.hub.turnstile.room, door as unit:
                return await self._read(unit, known)
        except Problem as problem:
            await door.remember(problem)
            raise

    async def _read(self, unit: ReadUnit, known: Known | None) -> Snapshot:
        seat = type(unit.scope).__name__
        if known is not None:
            version = await self.topic.version(unit, self.of_id)
            if known(seat, version):
                return Snapshot(version, msgspec.UNSET, seat)
        found = await self.topic.load(unit, self.of_id)
        return Snapshot(found.version, found.state, seat)
