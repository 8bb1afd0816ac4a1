"""Live topics as Server-Sent Events: who may listen, where a stream begins, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from cliniq.app import House
from cliniq.platform import live_crowd
from cliniq.platform.http import sse
from tests.platform.wire import refusal
from tests.support import Client, SomeClinic, Someone

SECONDS = 5


class Stream:
    """One stream, asked for as a server would."""

    def __init__(self, app: FastAPI, path: str, headers: dict[str, str]) -> None:
        self._app = app
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"cliniq.test")]
            + [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("cliniq.test", 80),
        }
        self._in.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.serving = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        await self._app(self._scope, self._in.get, self._out.put)

    async def said(self) -> Any:
        return await asyncio.wait_for(self._out.get(), SECONDS)

    async def events(self) -> list[tuple[str, Any]]:
        """The next events: id and frame of each."""
        message = await self.said()
        assert message["more_body"]
        found = []
        for block in message["body"].decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            found.append((fields.get("id", ""), json.loads(fields["data"])))
        return found

    def hang_up(self) -> None:
        self._in.put_nowait({"type": "http.disconnect"})


@asynccontextmanager
async def listening(
    app: FastAPI, clinic: SomeClinic, someone: Someone, queue_id: str, **headers: str
) -> AsyncIterator[Stream]:
    path = f"/api/v1/queues/{queue_id}/events"
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    stream = Stream(app, path, clinic.acting(someone) | given)
    start = await stream.said()
    assert start["status"] == 200, start
    told = dict(start["headers"])
    assert told[b"content-type"].startswith(b"text/event-stream")
    assert told[b"cache-control"] == b"no-store"
    assert b"content-length" not in told
    try:
        yield stream
    finally:
        stream.hang_up()
        await asyncio.wait_for(stream.serving, SECONDS)


async def queue_with(clinic: SomeClinic, client: Client) -> str:
    """A queue in which somebody waits."""
    someone, _, _ = await clinic.visit()
    (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
    queue_id: str = receipt["queue_id"]
    return queue_id


async def call(client: Client, clinic: SomeClinic, queue_id: str) -> None:
    headers = clinic.acting(clinic.doctor)
    answer = await client.post(f"/api/v1/queues/{queue_id}/calls", headers=headers)
    assert answer.status_code == 200, answer.text


async def test_board_gets_a_snapshot_and_every_change_and_resumes_by_its_last_id(
    app: FastAPI, client: Client, clinic: SomeClinic, relaying: None
) -> None:
    queue_id = await queue_with(clinic, client)
    async with listening(app, clinic, clinic.receptionist, queue_id) as stream:
        ((mark, snapshot),) = await stream.events()
        assert snapshot["type"] == "snapshot"
        assert mark == f"{snapshot['epoch']}:{snapshot['version']}"
        await call(client, clinic, queue_id)
        ((newer, event),) = await stream.events()
        assert (event["type"], event["version"]) == ("event", snapshot["version"] + 1)
        assert newer == f"{snapshot['epoch']}:{event['version']}"
    async with listening(app, clinic, clinic.receptionist, queue_id, last_event_id=mark) as stream:
        found = await stream.events()
        assert [each["type"] for _, each in found] == ["resumed", "event"]
        assert found[-1] == (newer, event)


@pytest.mark.parametrize(
    "strange", ["", "x", ":", "abc:1", f"{'0' * 65}:1", "00:-1", "00:1 ", "00:9" + "9" * 30]
)
async def test_strange_last_id_gives_a_snapshot(
    app: FastAPI, client: Client, clinic: SomeClinic, strange: str
) -> None:
    queue_id = await queue_with(clinic, client)
    async with listening(
        app, clinic, clinic.receptionist, queue_id, last_event_id=strange
    ) as stream:
        ((_, frame),) = await stream.events()
        assert frame["type"] == "snapshot"


async def test_silent_stream_is_kept_alive_by_comments(
    app: FastAPI, client: Client, clinic: SomeClinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "SILENCE_SECONDS", 0.01)
    queue_id = await queue_with(clinic, client)
    async with listening(app, clinic, clinic.receptionist, queue_id) as stream:
        await stream.events()
        assert (await stream.said())["body"] == b": beat\n\n"


async def test_stream_that_is_refused_is_a_problem_and_is_not_counted(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    someone, _ = await clinic.signed_in_patient()
    queue_id = await queue_with(clinic, client)
    before = len(house.entrance.hub)
    path = f"/api/v1/queues/{queue_id}/events"
    refusal(await client.get(path), 401, "UNAUTHENTICATED")
    refusal(await client.get(path, headers=clinic.acting(someone)), 404, "NOT_FOUND")
    assert len(house.entrance.hub) == before


async def test_streams_of_a_person_are_limited_like_sockets(
    app: FastAPI, client: Client, clinic: SomeClinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_crowd, "MOST_OF_A_PERSON", 1)
    queue_id = await queue_with(clinic, client)
    headers = clinic.acting(clinic.receptionist)
    path = f"/api/v1/queues/{queue_id}/events"
    async with listening(app, clinic, clinic.receptionist, queue_id):
        refusal(await client.get(path, headers=headers), 429, "RATE_LIMIT_EXCEEDED")
    async with listening(app, clinic, clinic.receptionist, queue_id):
        pass


async def test_sign_out_ends_the_stream_and_whoever_goes_is_forgotten(
    app: FastAPI, client: Client, clinic: SomeClinic, house: House
) -> None:
    queue_id = await queue_with(clinic, client)
    before = len(house.entrance.hub)
    async with listening(app, clinic, clinic.receptionist, queue_id) as stream:
        await stream.events()
        assert len(house.entrance.hub) == before + 1
        headers = clinic.receptionist.headers
        assert (await client.post("/api/v1/auth/logout", headers=headers)).status_code == 204
        assert (await stream.said())["more_body"] is False
        await asyncio.wait_for(stream.serving, SECONDS)
    assert len(house.entrance.hub) == before


async def test_reader_who_takes_nothing_is_given_up(
    app: FastAPI,
    client: Client,
    clinic: SomeClinic,
    house: House,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "PATIENCE_SECONDS", 0.05)
    queue_id = await queue_with(clinic, client)
    before = len(house.entrance.hub)
    stream = Stream(app, f"/api/v1/queues/{queue_id}/events", clinic.acting(clinic.receptionist))
    stream._out = asyncio.Queue(1)  # noqa: SLF001 - the start, and nothing after it
    await asyncio.wait_for(stream.serving, SECONDS)
    assert len(house.entrance.hub) == before
