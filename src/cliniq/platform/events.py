"""Facts told to the world: each is written for the auditor and for the outbox, or not at all."""

from abc import abstractmethod
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.record import Record
from cliniq.kernel.scope import ClinicScope, Scope, WorkScope
from cliniq.platform import events_store
from cliniq.platform.db import Unit
from cliniq.platform.live import LiveEvent, topic_in


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
        """Say what those who watch the topic may see of it."""
        return None


class Told(Record, frozen=True):
    """A fact as the outbox holds it, on its way to whoever hears of it; `body` is JSON."""

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

    Those who watch its topic in this process see it right after COMMIT.
    """
    unit.before_commit(_write, event)
    if event.topic:
        body = msgspec.json.encode(event.shown())
        topic = topic_in(unit.clinic_id, event.topic)
        shown = LiveEvent(topic, event.topic_version, event.kind, body)
        unit.after_commit(lambda: unit.database.publish(shown))


class _Fact(Record, frozen=True):
    """One event as the statement reads it."""

    audit_id: UUID
    kind: str
    subject_type: str
    subject_id: UUID
    topic: str
    version: int
    body: Event


async def _write(unit: Unit, events: list[Event]) -> None:
    facts = [
        _Fact(
            new_id(),
            event.kind,
            event.subject_type,
            event.subject_id,
            event.topic,
            event.topic_version,
            event,
        )
        for event in events
    ]
    await events_store.append(
        unit,
        msgspec.json.encode(facts).decode(),
        events_store.Author(
            unit.actor_id, _right(unit.scope), unit.now, unit.wall, unit.request_id
        ),
    )


def _right(scope: Scope) -> str:
    match scope:
        case ClinicScope():
            return scope.permission
        case WorkScope():
            return f"job:{scope.job}"
        case _:
            return "self"
