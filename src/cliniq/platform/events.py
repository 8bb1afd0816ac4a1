"""Facts told to the world: each is written for the auditor and for the outbox, or not at all."""

from abc import abstractmethod
from datetime import datetime
from typing import ClassVar
from uuid import UUID
from zlib import crc32

import msgspec

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.record import Record
from cliniq.kernel.scope import ClinicScope, Scope, WorkScope
from cliniq.platform import events_store, traces
from cliniq.platform.db import Unit

SHARDS = 8  # as many leases as the migration made


class Event(Record, frozen=True):
    """A fact in the past tense, versioned in its name, without a patient's name in it.

    Public fields are what subscribers read. Those of a live topic stand in `shown` too.
    """

    kind: ClassVar[str]
    subject_type: ClassVar[str]

    @property
    @abstractmethod
    def subject_id(self) -> UUID:
        """The thing it happened to."""

    @property
    def topic(self) -> str:
        """The live topic that shows it; none by default."""
        return ""

    @property
    def topic_version(self) -> int:
        """The topic's version after this fact; each fact has the next one."""
        return 0

    def shown(self) -> object:
        """Say what those who watch the topic may see of it: never nothing where there is one."""
        return None


class Told(Record, frozen=True):
    """A fact on its way to those who wait for it. `body` is the event as JSON.

    `topic` is empty where nobody may watch it; `trace` is the `traceparent` of its unit, or empty.
    """

    outbox_id: int
    clinic_id: ClinicId
    kind: str
    subject_id: UUID
    topic: str
    version: int
    body: bytes
    recorded_at: datetime
    trace: str


def tell(unit: Unit, event: Event) -> None:
    """Tell a fact. It is audited and published if and only if `unit` commits.

    The relay passes it on: on the bus to those who watch its topic, and to its subscribers' jobs.
    """
    unit.before_commit(_write, event)


def shard_of(topic: str, subject_id: UUID) -> int:
    """Say in which shard a fact stands: facts of one topic, or else of one subject, keep order."""
    return crc32((topic or str(subject_id)).encode()) % SHARDS


class _Fact(Record, frozen=True):
    """One event as the statement reads it."""

    audit_id: UUID
    kind: str
    subject_type: str
    subject_id: UUID
    topic: str
    version: int
    body: Event
    shard: int
    shown: object
    trace: str


async def _write(unit: Unit, events: list[Event]) -> None:
    trace = traces.carrier()
    facts = [_fact(event, trace) for event in events]
    await events_store.append(
        unit,
        msgspec.json.encode(facts).decode(),
        events_store.Author(
            unit.actor_id, _right(unit.scope), unit.now, unit.wall, unit.request_id
        ),
    )
    shards = {fact.shard for fact in facts}
    unit.after_commit(lambda: unit.database.beside.wake(shards))


def _fact(event: Event, trace: str) -> _Fact:
    return _Fact(
        new_id(),
        event.kind,
        event.subject_type,
        event.subject_id,
        event.topic,
        event.topic_version,
        event,
        shard_of(event.topic, event.subject_id),
        event.shown() if event.topic else None,
        trace,
    )


def _right(scope: Scope) -> str:
    match scope:
        case ClinicScope():
            return scope.permission
        case WorkScope():
            return f"job:{scope.job}"
        case _:
            return "self"
