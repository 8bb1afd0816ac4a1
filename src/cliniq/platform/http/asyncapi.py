"""The AsyncAPI 3.0 document of the live socket, made from topics, events and frames."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, get_args, get_type_hints

import msgspec

from cliniq import __version__
from cliniq.kernel.record import Record
from cliniq.platform.events import Event
from cliniq.platform.http.topics import Topic
from cliniq.platform.live_frames import Asked, EventFrame, Said, SnapshotFrame

Document: TypeAlias = dict[str, Any]

_SCHEMAS = "#/components/schemas/{name}"
_MESSAGES = "#/components/messages/{name}"


def describe_live(topics: Mapping[str, Topic]) -> Document:
    """Write the document."""
    asked, said = list(get_args(Asked)), list(get_args(Said))
    messages, schemas = _frames([*asked, *said])
    for topic in topics.values():
        _describe_topic(topic, messages, schemas)
    named = [name for name in messages if name not in {_name(each) for each in asked}]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Cliniq live", "version": __version__, "description": _STORY},
        "defaultContentType": "application/json",
        "channels": {
            "live": {
                "address": "/api/v1/live?pass={pass}",
                "description": "One WebSocket for all topics of a client.",
                "parameters": {"pass": {"description": "From `POST /api/v1/live/passes`."}},
                "messages": {name: {"$ref": _MESSAGES.format(name=name)} for name in messages},
            }
        },
        "operations": {
            "ask": _operation("receive", map(_name, asked)),
            "tell": _operation("send", named),
        },
        "components": {"messages": messages, "schemas": schemas},
    }


_STORY = (
    "A snapshot of a topic, then every change in the order of its versions, without a hole. After a"
    " break, subscribe with `since` and `epoch`: `resumed` and exactly what was missed, or a fresh"
    " snapshot. Event streams carry the same frames as their data."
)


def _frames(kinds: Iterable[type[Record]]) -> tuple[Document, Document]:
    """Describe the frames: messages by name, and their schemas."""
    kinds = list(kinds)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS)
    messages = {
        _name(kind): _message(kind, {"$ref": _SCHEMAS.format(name=kind.__name__)}) for kind in kinds
    }
    # What a topic is or tells stands in messages of its own.
    for general in (SnapshotFrame, EventFrame):
        del messages[_name(general)]
    return messages, schemas


def _describe_topic(topic: Topic, messages: Document, schemas: Document) -> None:
    pattern = f"^{topic.name}:[0-9a-f-]{{36}}$"
    state = _schema_of(topic.state, schemas)
    own = {"topic": {"type": "string", "pattern": pattern}, "state": state}
    messages[f"{topic.name}.snapshot"] = _message(
        SnapshotFrame, _narrowed(SnapshotFrame, own), topic.state
    )
    for kind in topic.tells:
        own = {
            "topic": {"type": "string", "pattern": pattern},
            "kind": {"const": kind.kind},
            "body": _schema_of(shown_by(kind), schemas),
        }
        messages[kind.kind] = _message(EventFrame, _narrowed(EventFrame, own), kind)


def shown_by(kind: type[Event]) -> Any:
    """Say what those who watch see of an event: what its `shown` says it returns."""
    return get_type_hints(kind.shown)["return"]


def _narrowed(frame: type[Record], own: Document) -> Document:
    return {
        "allOf": [
            {"$ref": _SCHEMAS.format(name=frame.__name__)},
            {"type": "object", "properties": own},
        ]
    }


def _schema_of(kind: Any, schemas: Document) -> Document:
    (found,), more = msgspec.json.schema_components([kind], ref_template=_SCHEMAS)
    schemas.update(more)
    return found


def _message(frame: type[Record], payload: Document, story: type | None = None) -> Document:
    said = (story or frame).__doc__ or ""
    return {"title": _name(frame), "summary": said.partition("\n")[0], "payload": payload}


def _operation(action: str, names: Iterable[str]) -> Document:
    channel = "#/channels/live"
    messages = [{"$ref": f"{channel}/messages/{name}"} for name in names]
    return {"action": action, "channel": {"$ref": channel}, "messages": messages}


def _name(frame: type[Record]) -> str:
    return str(frame.__struct_config__.tag)
