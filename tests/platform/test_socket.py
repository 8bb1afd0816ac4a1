"""The live socket: who gets in, what may be said on it, and when it is closed."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from cliniq.app import House
from cliniq.kernel.ids import new_id
from cliniq.kernel.permissions import Role
from cliniq.platform import live_crowd
from cliniq.platform.http.live import MOST_TOPICS
from cliniq.platform.live import POLICY_VIOLATION, TRY_AGAIN_LATER, Snapshot
from tests.platform.wire import MARK
from tests.platform.world import World, denials
from tests.support import Admin, Client, Hands, SomeClinic, Someone, found_clinic, sign_up

SECONDS = 5


class Socket:
    """One socket, spoken to the application as a server would."""

    def __init__(self, app: FastAPI, live_pass: str | None, headers: Mapping[str, str]) -> None:
        query = b"" if live_pass is None else b"pass=" + live_pass.encode()
        self._app = app
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self._scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/api/v1/live",
            "raw_path": b"/api/v1/live",
            "query_string": query,
            "root_path": "",
            "headers": [
                (name.encode(), value.encode("latin-1")) for name, value in headers.items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("cliniq.test", 80),
            "subprotocols": [],
        }

    async def serve(self) -> None:
        await self._app(self._scope, self._in.get, self._out.put)

    async def said(self) -> Any:
        """What the server said next."""
        return await asyncio.wait_for(self._out.get(), SECONDS)

    async def frame(self) -> dict[str, Any]:
        message = await self.said()
        assert message["type"] == "websocket.send", message
        frame: dict[str, Any] = json.loads(message["text"])
        return frame

    def send_text(self, text: str) -> None:
        self._in.put_nowait({"type": "websocket.receive", "text": text})

    def send_bytes(self, raw: bytes) -> None:
        self._in.put_nowait({"type": "websocket.receive", "bytes": raw})

    def send(self, op: str, topic: str, clinic: SomeClinic) -> None:
        self.send_text(json.dumps({"op": op, "topic": topic, "clinic_id": str(clinic.clinic_id)}))

    async def closed(self) -> int:
        """Fail unless the next thing is the end; return its code."""
        message = await self.said()
        assert message["type"] == "websocket.close", message
        code: int = message["code"]
        return code


HOST = {"host": "cliniq.test"}


@asynccontextmanager
async def knocking(
    app: FastAPI, live_pass: str | None, headers: Mapping[str, str] = HOST
) -> AsyncIterator[Socket]:
    socket = Socket(app, live_pass, headers)
    socket._in.put_nowait({"type": "websocket.connect"})  # noqa: SLF001
    serving = asyncio.create_task(socket.serve())
    try:
        yield socket
    finally:
        socket._in.put_nowait({"type": "websocket.disconnect", "code": 1005})  # noqa: SLF001
        await asyncio.wait_for(serving, SECONDS)


@asynccontextmanager
async def inside(app: FastAPI, client: Client, someone: Someone) -> AsyncIterator[Socket]:
    async with knocking(app, await bought(client, someone)) as socket:
        assert (await socket.said())["type"] == "websocket.accept"
        yield socket


async def bought(client: Client, someone: Someone) -> str:
    answer = await client.post("/api/v1/live/passes", headers=someone.headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["expires_in"] == 30
    live_pass: str = answer.json()["live_pass"]
    return live_pass


async def is_let_in(app: FastAPI, live_pass: str | None, headers: Mapping[str, str] = HOST) -> bool:
    async with knocking(app, live_pass, headers) as socket:
        answer = await socket.said()
        if answer["type"] == "websocket.close":
            assert answer["code"] == POLICY_VIOLATION
            assert not answer.get("reason")
        return bool(answer["type"] == "websocket.accept")


# Getting in.


@pytest.mark.parametrize("strange", [None, "", "short", "x" * 32, "x" * 65, "%00" * 20, "x" * 9999])
async def test_pass_that_is_unknown_opens_nothing(app: FastAPI, hands: Hands, strange: str) -> None:
    assert not await is_let_in(app, strange)


async def test_pass_works_once(app: FastAPI, client: Client, clinic: SomeClinic) -> None:
    live_pass = await bought(client, clinic.doctor)
    assert await is_let_in(app, live_pass)
    assert not await is_let_in(app, live_pass)


async def test_pass_that_many_show_at_once_lets_one_in(
    app: FastAPI, client: Client, clinic: SomeClinic
) -> None:
    live_pass = await bought(client, clinic.doctor)
    let_in = await asyncio.gather(*(is_let_in(app, live_pass) for _ in range(20)))
    assert sum(let_in) == 1


@pytest.mark.parametrize(("after", "works"), [(29.999, True), (30, False), (3600, False)])
async def test_pass_works_for_thirty_seconds_of_the_wall_clock(
    app: FastAPI,
    client: Client,
    clinic: SomeClinic,
    hands: Hands,
    after: float,
    works: bool,
) -> None:
    live_pass = await bought(client, clinic.doctor)
    hands.clinic += timedelta(days=1)
    hands.wall += timedelta(seconds=after)
    assert await is_let_in(app, live_pass) is works


@pytest.mark.parametrize(
    ("origin", "works"),
    [
        (None, True),
        ("http://cliniq.test", True),
        ("https://evil.example", False),
        ("http://cliniq.test.evil.example", False),
        ("http://cliniq.test:81", False),
        ("http://evil.example/cliniq.test", False),
        ("http://user@cliniq.test", False),
        ("cliniq.test", False),
        ("null", False),
        ("", False),
        ("http://[", False),
        ("\xff", False),
    ],
)
async def test_page_of_somebody_else_opens_nothing_and_uses_nothing_up(
    app: FastAPI,
    client: Client,
    clinic: SomeClinic,
    origin: str | None,
    works: bool,
) -> None:
    live_pass = await bought(client, clinic.doctor)
    headers = HOST | ({} if origin is None else {"origin": origin})
    assert await is_let_in(app, live_pass, headers) is works
    assert await is_let_in(app, live_pass) is not works


async def test_pass_of_a_sign_in_that_has_ended_opens_nothing(
    app: FastAPI, client: Client, clinic: SomeClinic
) -> None:
    live_pass = await bought(client, clinic.doctor)
    answer = await client.post("/api/v1/auth/logout", headers=clinic.doctor.headers)
    assert answer.status_code == 204
    assert not await is_let_in(app, live_pass)


async def test_passes_are_sold_some_sixty_a_minute(client: Client, clinic: SomeClinic) -> None:
    headers = clinic.doctor.headers
    answers = [await client.post("/api/v1/live/passes", headers=headers) for _ in range(90)]
    sold = [each for each in answers if each.status_code == 201]
    refused = [each.json()["code"] for each in answers if each.status_code == 429]
    assert len(sold) >= 60
    assert refused == ["RATE_LIMIT_EXCEEDED"] * (90 - len(sold))
    assert refused
    await bought(client, clinic.admin)


async def test_person_with_too_many_sockets_is_let_into_no_more(
    app: FastAPI, client: Client, clinic: SomeClinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_crowd, "MOST_OF_A_PERSON", 2)
    async with inside(app, client, clinic.doctor), inside(app, client, clinic.doctor):
        async with inside(app, client, clinic.doctor) as third:
            assert await third.closed() == TRY_AGAIN_LATER
        async with inside(app, client, clinic.admin) as other:
            other.send_text("{}")
            assert (await other.frame())["type"] == "refused"
    async with inside(app, client, clinic.doctor) as later:
        later.send_text("{}")
        assert (await later.frame())["type"] == "refused"


# Speaking.

NIL = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{",
        "[]",
        '"subscribe"',
        "null",
        "{}",
        '{"op": "subscribe"}',
        '{"topic": "queue:1"}',
        '{"op": "publish", "topic": "queue:1"}',
        '{"op": ["subscribe"], "topic": "queue:1"}',
        '{"op": "subscribe", "topic": 1}',
        '{"op": "subscribe", "topic": null}',
        '{"op": "subscribe", "topic": "queue:1", "role": "admin"}',
        '{"op": "subscribe", "topic": "queue:1", "clinic_id": "1"}',
        '{"op": "subscribe", "topic": "queue:1", "clinic_id": NaN}',
        json.dumps({"op": "subscribe", "topic": "queue:" + "x" * 100}),
        '{"op":' * 600 + "1" + "}" * 600,
        "[" * 4000,
        '{"op": "subscribe", "topic": "\\ud800"}',
        '{"op": "subscribe", "topic": "queue:\x00"}',
        "\x00",
    ],
)
async def test_frame_that_is_malformed_is_refused_and_the_socket_goes_on(
    app: FastAPI, client: Client, clinic: SomeClinic, text: str
) -> None:
    async with inside(app, client, clinic.doctor) as socket:
        socket.send_text(text)
        refused = {"type": "refused", "topic": "", "code": "REQUEST_INVALID"}
        assert await socket.frame() == refused
        socket.send_text(text)
        assert await socket.frame() == refused


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("queue:1", "REQUEST_INVALID"),
        ("queue:", "REQUEST_INVALID"),
        ("queue", "REQUEST_INVALID"),
        (f"queue:{NIL}\x00", "REQUEST_INVALID"),
        (f"queue:{NIL}:{NIL}", "REQUEST_INVALID"),
        ("", "NOT_FOUND"),
        (f"nothing:{NIL}", "NOT_FOUND"),
        (f"Queue:{NIL}", "NOT_FOUND"),
        (f"{NIL}/queue:{NIL}", "NOT_FOUND"),
        (f"queue:{NIL}", "QUEUE_NOT_FOUND"),
    ],
)
async def test_topic_that_is_unknown_is_refused_by_its_own_name(
    app: FastAPI, client: Client, clinic: SomeClinic, topic: str, code: str
) -> None:
    async with inside(app, client, clinic.doctor) as socket:
        socket.send("subscribe", topic, clinic)
        assert await socket.frame() == {"type": "refused", "topic": topic, "code": code}


async def test_topic_without_a_clinic_is_refused(
    app: FastAPI, client: Client, clinic: SomeClinic
) -> None:
    async with inside(app, client, clinic.doctor) as socket:
        topic = f"queue:{NIL}"
        socket.send_text(json.dumps({"op": "subscribe", "topic": topic}))
        assert await socket.frame() == {"type": "refused", "topic": topic, "code": "NOT_FOUND"}


async def test_binary_frame_closes_the_socket(
    app: FastAPI, client: Client, clinic: SomeClinic
) -> None:
    async with inside(app, client, clinic.doctor) as socket:
        socket.send_bytes(b"{}")
        assert await socket.closed() == POLICY_VIOLATION


async def test_whoever_says_too_much_is_told_so_and_closed(
    app: FastAPI, client: Client, clinic: SomeClinic
) -> None:
    async with inside(app, client, clinic.doctor) as socket:
        for _ in range(600):
            socket.send_text("{}")
        codes = [(await socket.frame())["code"]]
        while codes[-1] == "REQUEST_INVALID":
            codes.append((await socket.frame())["code"])
        assert codes[-1] == "RATE_LIMIT_EXCEEDED"
        assert len(codes) > 120
        assert await socket.closed() == TRY_AGAIN_LATER
    async with inside(app, client, clinic.doctor) as socket:
        socket.send_text("{}")
        assert (await socket.frame())["code"] == "REQUEST_INVALID"


async def test_error_of_ours_on_the_socket_is_told_to_nobody(
    app: FastAPI, client: Client, world: World, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError(MARK)

    monkeypatch.setattr("cliniq.domains.queue.store.find_head", broken)
    here = world.here
    with capture_logs():
        async with inside(app, client, here.clinic.receptionist) as socket:
            socket.send("subscribe", f"queue:{here.ids['queue_id']}", here.clinic)
            message = await socket.said()
            while message["type"] == "websocket.send":
                assert MARK not in message["text"]
                message = await socket.said()
            assert message["type"] == "websocket.close"
            assert MARK not in str(message)


# Watching.


async def test_staff_are_refused_the_queue_of_another_clinic_and_are_remembered(
    app: FastAPI, client: Client, world: World, admin: Admin, hands: Hands
) -> None:
    here, there = world.here.clinic, world.there.clinic
    someone = await here.member(Role.RECEPTIONIST)
    topic = f"queue:{world.there.ids['queue_id']}"
    async with inside(app, client, someone) as socket:
        for clinic, code in ((here, "QUEUE_NOT_FOUND"), (there, "NOT_FOUND")):
            socket.send("subscribe", topic, clinic)
            assert await socket.frame() == {"type": "refused", "topic": topic, "code": code}
            assert await denials(admin, clinic, someone) == [
                ("queue:read", "SUBSCRIBE queue", code)
            ]


async def test_patient_is_refused_a_queue_without_a_place_in_it_and_is_remembered(
    app: FastAPI, client: Client, world: World, admin: Admin, hands: Hands
) -> None:
    here = world.here.clinic
    someone, _ = await here.signed_in_patient()
    topic = f"queue:{world.here.ids['queue_id']}"
    async with inside(app, client, someone) as socket:
        socket.send("subscribe", topic, here)
        assert (await socket.frame())["code"] == "QUEUE_NOT_FOUND"
    refusal = ("queue:read", "SUBSCRIBE queue", "QUEUE_NOT_FOUND")
    assert await denials(admin, here, someone) == [refusal]


async def test_staff_who_may_not_read_queues_are_refused(
    app: FastAPI, client: Client, world: World, hands: Hands
) -> None:
    here = world.here
    someone = here.staff[Role.FINANCE_BILLING]
    async with inside(app, client, someone) as socket:
        socket.send("subscribe", f"queue:{here.ids['queue_id']}", here.clinic)
        assert (await socket.frame())["code"] == "FORBIDDEN"


async def test_staff_and_whoever_waits_watch_the_same_queue_without_names(
    app: FastAPI, client: Client, world: World, hands: Hands
) -> None:
    here = world.here
    topic = f"queue:{here.ids['queue_id']}"
    snapshots = []
    for someone in (here.staff[Role.NURSE], here.someone, here.neighbour):
        async with inside(app, client, someone) as socket:
            socket.send("subscribe", topic.upper().replace("QUEUE", "queue"), here.clinic)
            snapshots.append(await socket.frame())
    assert snapshots[0]["type"] == "snapshot"
    assert snapshots[0]["topic"] == topic
    assert snapshots[1] == snapshots[2] == snapshots[0]
    for each in (here.patient, here.child, here.neighbours_patient):
        assert each.given_name not in str(snapshots)
        assert str(each.patient_id) not in str(snapshots)
        assert str(each.person_id) not in str(snapshots)


async def test_staff_who_are_patients_too_watch_as_staff(
    app: FastAPI, client: Client, world: World, hands: Hands
) -> None:
    here = world.here.clinic
    someone = await sign_up(here.house, here.clinic_id, Role.RECEPTIONIST)
    await here.patient(someone)
    async with inside(app, client, someone) as socket:
        socket.send("subscribe", f"queue:{world.here.ids['queue_id']}", here)
        assert (await socket.frame())["type"] == "snapshot"


async def test_watcher_hears_a_call_once_and_nothing_after_unsubscribing(
    app: FastAPI, client: Client, clinic: SomeClinic, relaying: None
) -> None:
    someone, _, _ = await clinic.visit()
    (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
    topic = f"queue:{receipt['queue_id']}"
    desk = clinic.acting(clinic.doctor)
    async with inside(app, client, someone) as socket:
        socket.send("subscribe", topic, clinic)
        snapshot = await socket.frame()
        called = await client.post(f"/api/v1/queues/{receipt['queue_id']}/calls", headers=desk)
        assert called.status_code == 200
        event = await socket.frame()
        assert (event["type"], event["topic"]) == ("event", topic)
        assert event["version"] == snapshot["version"] + 1
        assert event["body"]["ticket"] == receipt["ticket"]
        socket.send("unsubscribe", topic, clinic)
        socket.send("unsubscribe", topic, clinic)
        socket.send_text("{}")
        assert (await socket.frame())["type"] == "refused"  # so the two were obeyed
        path = f"/api/v1/queues/entries/{receipt['entry_id']}/start"
        assert (await client.post(path, headers=desk)).status_code == 200
        socket.send_text("{}")
        assert (await socket.frame())["type"] == "refused"


async def test_watcher_of_too_many_topics_is_refused_more(
    app: FastAPI, client: Client, clinic: SomeClinic, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(_unit: object, _queue: object) -> object:
        return live_snapshot()

    def live_snapshot() -> Snapshot:
        return Snapshot(1, None)

    queue_topic = app.state.topics["queue"]

    async def first(_unit: object, _queue: object) -> int:
        return 1

    topics_now = {"queue": replace(queue_topic, load=found, version=first)}
    monkeypatch.setitem(app.state._state, "topics", topics_now)  # noqa: SLF001 - it can be undone
    async with inside(app, client, clinic.doctor) as socket:
        names = [f"queue:{new_id()}" for _ in range(MOST_TOPICS + 1)]
        for topic in names[:-1]:
            socket.send("subscribe", topic, clinic)
            assert (await socket.frame())["type"] == "snapshot"
        socket.send("subscribe", names[0], clinic)
        assert (await socket.frame())["type"] == "snapshot", "a topic that is watched already"
        socket.send("subscribe", names[-1], clinic)
        assert (await socket.frame())["code"] == "RATE_LIMIT_EXCEEDED"


# The end.


async def test_sign_out_closes_the_sockets_of_that_sign_in_and_no_others(
    app: FastAPI, client: Client, clinic: SomeClinic, house: House
) -> None:
    elsewhere = await found_clinic(house)
    async with (
        inside(app, client, clinic.doctor) as mine,
        inside(app, client, clinic.doctor) as again,
        inside(app, client, elsewhere.doctor) as other,
    ):
        answer = await client.post("/api/v1/auth/logout", headers=clinic.doctor.headers)
        assert answer.status_code == 204
        assert await mine.closed() == POLICY_VIOLATION
        assert await again.closed() == POLICY_VIOLATION
        other.send_text("{}")
        assert (await other.frame())["code"] == "REQUEST_INVALID"


async def test_subscription_after_the_sign_in_has_ended_is_refused_and_closes_the_socket(
    app: FastAPI, client: Client, clinic: SomeClinic, admin: Admin, hands: Hands
) -> None:
    async with inside(app, client, clinic.doctor) as socket:
        await admin.execute(
            "update session set ended_at = $2 where session_id = $1",
            clinic.doctor.session_id,
            hands.wall,
        )  # by another process
        socket.send("subscribe", f"queue:{NIL}", clinic)
        assert (await socket.frame())["code"] == "UNAUTHENTICATED"
        assert await socket.closed() == POLICY_VIOLATION


async def test_socket_that_goes_away_is_forgotten(
    app: FastAPI, client: Client, clinic: SomeClinic, house: House
) -> None:
    before = len(house.entrance.hub)
    async with inside(app, client, clinic.doctor) as socket:
        socket.send_text("{}")
        await socket.frame()
        assert len(house.entrance.hub) == before + 1
    assert len(house.entrance.hub) == before
