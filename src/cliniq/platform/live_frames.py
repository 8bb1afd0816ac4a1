"""What is said on live connections: one record a frame, encoded once however many hear it.

The AsyncAPI document is made from these records.
"""

import struct
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import msgspec

from cliniq.kernel.problem import Problem
from cliniq.kernel.record import Record
from cliniq.platform.bus import Message

LONGEST_TOPIC = 100
LONGEST_EPOCH = 64


class LiveEvent(Record, frozen=True):
    """One change of a topic; `body` is JSON. Each has the version after the last one's.

    Within the installation a topic begins with its clinic, `<clinic>/<kind>:<id>`: equal ids in two
    clinics are two topics. A client knows its clinic, and sees the rest. `trace` is the
    `traceparent` of what caused it, or empty; it goes no further than the hub.
    """

    topic: str
    version: int
    kind: str
    body: bytes
    trace: str = ""


_DECODER = msgspec.msgpack.Decoder(LiveEvent)


def message_of(event: LiveEvent) -> Message:
    """Write an event as it crosses the bus."""
    return Message(channel_of(event.topic), msgspec.msgpack.encode(event))


def event_in(body: bytes) -> LiveEvent:
    """Read an event that crossed the bus."""
    return _DECODER.decode(body)


def channel_of(topic: str) -> str:
    """Name the bus channel of a topic."""
    return f"live/{topic}"


def topic_in(clinic_id: UUID, topic: str) -> str:
    """Name a topic within the installation."""
    return f"{clinic_id}/{topic}"


def on_the_wire(topic: str) -> str:
    """Name a topic as clients know it."""
    return topic.rpartition("/")[2]


# What a client says.

TopicName: TypeAlias = Annotated[str, msgspec.Meta(max_length=LONGEST_TOPIC)]


class Subscribe(Record, frozen=True, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Watch a topic. With `since` and its `epoch`: what was missed, if that can be had."""

    topic: TopicName
    clinic_id: UUID | None = None
    since: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    epoch: Annotated[str, msgspec.Meta(max_length=LONGEST_EPOCH)] | None = None


class Unsubscribe(
    Record, frozen=True, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True
):
    """Watch a topic no longer."""

    topic: TopicName
    clinic_id: UUID | None = None


# What the server says.


class SnapshotFrame(Record, frozen=True, tag_field="type", tag="snapshot"):
    """A topic as it stands at `version`: it replaces everything known before."""

    topic: str
    epoch: str
    version: int
    state: Any


class ResumedFrame(Record, frozen=True, tag_field="type", tag="resumed"):
    """What was known at `version` is good; every event since then follows."""

    topic: str
    epoch: str
    version: int


class EventFrame(Record, frozen=True, tag_field="type", tag="event"):
    """One change; its version is the last one's successor."""

    topic: str
    version: int
    kind: str
    body: msgspec.Raw


class BeatFrame(Record, frozen=True, tag_field="type", tag="beat", omit_defaults=True):
    """The topic is watched, and stands at `version`: whoever has less has missed something.

    Whoever loses this connection without a word comes back within `spread_ms`, at random: so long
    all take who would be lost with it.
    """

    topic: str
    version: int
    spread_ms: int = 0


class RefusedFrame(Record, frozen=True, tag_field="type", tag="refused"):
    """The topic cannot be watched, or no longer; `code` says why, as everywhere in the API."""

    topic: str
    code: str


class ByeFrame(Record, frozen=True, tag_field="type", tag="bye"):
    """The server ends this connection; come back after a while. Units: `retry_after_ms`."""

    code: str
    retry_after_ms: int


Said: TypeAlias = SnapshotFrame | ResumedFrame | EventFrame | BeatFrame | RefusedFrame | ByeFrame
Asked: TypeAlias = Subscribe | Unsubscribe


class Frame:
    """An encoded frame, shared by all connections that get it: on a socket, or in a stream.

    `mark` is the id that a stream resumes from; only what carries a version of its topic has one.
    """

    __slots__ = ("_json", "_lines", "_mark", "wire")

    def __init__(self, said: Said, mark: str = "") -> None:
        self._json = msgspec.json.encode(said)
        self.wire = _head(len(self._json)) + self._json  # as a WebSocket has it
        self._mark = f"id: {mark}\n" if mark else ""
        self._lines = b""

    @property
    def text(self) -> str:
        """Write it as JSON."""
        return self._json.decode()

    @property
    def lines(self) -> bytes:
        """Write it as Server-Sent Events have it. JSON has no line breaks."""
        if not self._lines:
            self._lines = b"%bdata: %b\n\n" % (self._mark.encode(), self._json)
        return self._lines


def _head(size: int) -> bytes:
    """Begin a WebSocket's text frame, whole and without a mask. Source: RFC 6455, 5.2."""
    if size < 126:  # noqa: PLR2004
        return bytes((0x81, size))
    return (
        struct.pack(">BBH", 0x81, 126, size)
        if size < 1 << 16
        else struct.pack(">BBQ", 0x81, 127, size)
    )


def snapshot_frame(topic: str, epoch: str, version: int, state: object) -> Frame:
    """Say how a topic stands."""
    said = SnapshotFrame(on_the_wire(topic), epoch, version, state)
    return Frame(said, f"{epoch}:{version}")


def resumed_frame(topic: str, epoch: str, version: int) -> Frame:
    """Say that what was known is good."""
    return Frame(ResumedFrame(on_the_wire(topic), epoch, version), f"{epoch}:{version}")


def event_frame(event: LiveEvent, epoch: str) -> Frame:
    """Say what has changed."""
    said = EventFrame(on_the_wire(event.topic), event.version, event.kind, msgspec.Raw(event.body))
    return Frame(said, f"{epoch}:{event.version}")


def beat_frame(topic: str, version: int, spread_ms: int) -> Frame:
    """Say that a topic is still watched."""
    return Frame(BeatFrame(on_the_wire(topic), version, spread_ms))


def refusal(topic: str, problem: Problem) -> Frame:
    """Say that a topic cannot be watched."""
    return Frame(RefusedFrame(topic, problem.code))


def bye_frame(retry_after_ms: int) -> Frame:
    """Say that the process is about to stop."""
    return Frame(ByeFrame("RESTARTING", retry_after_ms))
