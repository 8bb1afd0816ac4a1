"""The AsyncAPI document: whole, sound, and true to what is said on a real socket."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]
from typer.testing import CliRunner

from cliniq.app import TOPICS
from cliniq.cli.main import cli
from cliniq.platform.events import Event
from cliniq.platform.http.asyncapi import Document, describe_live
from tests.platform.test_socket import inside
from tests.support import Client, SomeClinic
from tools.reference import layers


def resolved(document: Document, ref: str) -> Any:
    found: Any = document
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from refs(each)
    elif isinstance(part, list):
        for each in part:
            yield from refs(each)


def ensure_sound(document: Document) -> None:
    """The rules of AsyncAPI 3.0 that a reader relies on."""
    assert document["asyncapi"] == "3.0.0"
    assert document["info"]["title"]
    assert document["info"]["version"]
    for ref in refs(document):
        assert resolved(document, ref) is not None
    for channel in document["channels"].values():
        assert channel["address"].startswith("/")
        for name in channel.get("parameters", {}):
            assert f"{{{name}}}" in channel["address"]
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]["$ref"]
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/")
    for message in document["components"]["messages"].values():
        Draft202012Validator.check_schema(message["payload"])
        assert message["summary"]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def ensure_whole(document: Document, events: list[type[Event]]) -> None:
    """Every topic and every event that one shows is a message."""
    messages = document["components"]["messages"]
    for name in TOPICS:
        assert f"{name}.snapshot" in messages
    for kind in events:
        assert kind.kind in messages, kind.kind


def shown_events() -> list[type[Event]]:
    """The kinds of events that a live topic shows: those that name one."""
    found = []
    for room in layers("2."):
        try:
            module = import_module(f"cliniq.domains.{room}.events")
        except ModuleNotFoundError:
            continue
        kinds = [each for each in vars(module).values() if isinstance(each, type)]
        found += [
            each
            for each in kinds
            if issubclass(each, Event) and "kind" in vars(each) and each.topic is not Event.topic
        ]
    return found


def ensure_described(document: Document, frame: Mapping[str, Any], operation: str) -> None:
    """A frame is what exactly one message says."""
    fitting = []
    for message in document["operations"][operation]["messages"]:
        payload = resolved(document, resolved(document, message["$ref"])["$ref"])["payload"]
        schema = {**payload, "components": document["components"]}
        if Draft202012Validator(schema).is_valid(frame):
            fitting.append(message["$ref"].rpartition("/")[2])
    assert len(fitting) == 1, (frame, fitting)


def test_document_is_sound_and_whole() -> None:
    document = describe_live(TOPICS)
    ensure_sound(document)
    assert len(shown_events()) >= 4
    ensure_whole(document, shown_events())


def test_document_that_is_not_is_found() -> None:
    queue = TOPICS["queue"]
    with pytest.raises(AssertionError, match=r"queue\.entry_left"):
        ensure_whole(
            describe_live({"queue": replace(queue, tells=queue.tells[:-1])}), shown_events()
        )
    document = describe_live(TOPICS)
    del document["components"]["schemas"]["BeatFrame"]
    with pytest.raises(KeyError, match="BeatFrame"):
        ensure_sound(document)


def test_frame_that_is_not_described_is_found() -> None:
    document = describe_live(TOPICS)
    beat = {"type": "beat", "topic": "queue:1", "version": 1}
    ensure_described(document, beat, "tell")
    for sin in ({"version": "1"}, {"type": "beet"}, {"topic": None}):
        with pytest.raises(AssertionError):
            ensure_described(document, beat | sin, "tell")
    with pytest.raises(AssertionError):
        ensure_described(document, {"op": "subscribe", "topic": "queue:1", "role": "x"}, "ask")


async def test_command_and_address_give_the_same_document(client: Client) -> None:
    answer = await client.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == describe_live(TOPICS)
    assert json.loads(CliRunner().invoke(cli, ["asyncapi"]).stdout) == answer.json()


async def test_every_frame_of_a_real_socket_is_as_described(
    app: FastAPI, client: Client, clinic: SomeClinic, relaying: None
) -> None:
    document = describe_live(TOPICS)
    someone, _, _ = await clinic.visit()
    (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
    topic, desk = f"queue:{receipt['queue_id']}", clinic.acting(clinic.doctor)
    frames: list[dict[str, Any]] = []
    async with inside(app, client, clinic.doctor) as socket:
        asked = {"op": "subscribe", "topic": topic, "clinic_id": str(clinic.clinic_id)}
        ensure_described(document, asked, "ask")
        socket.send_text(json.dumps(asked))
        frames.append(await socket.frame())
        for path in (
            f"{receipt['queue_id']}/calls",
            f"entries/{receipt['entry_id']}/start",
            f"entries/{receipt['entry_id']}/complete",
        ):
            assert (await client.post(f"/api/v1/queues/{path}", headers=desk)).status_code == 200
            frames.append(await socket.frame())
        for since in (frames[-1]["version"], frames[0]["version"]):
            again = asked | {"since": since, "epoch": frames[0]["epoch"]}
            ensure_described(document, again, "ask")
            socket.send_text(json.dumps(again))
            frames.append(await socket.frame())
        socket.send_text("{}")
        while frames[-1]["type"] != "refused":
            frames.append(await socket.frame())
    kinds = {each["type"] for each in frames}
    assert kinds == {"snapshot", "event", "resumed", "refused"}, kinds
    for frame in frames:
        ensure_described(document, frame, "tell")


def test_schema_refuses_a_state_with_a_patient_in_it() -> None:
    document = describe_live(TOPICS)
    schema = {"$ref": "#/components/schemas/Board", "components": document["components"]}
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate({"patient_name": "Ann"})
