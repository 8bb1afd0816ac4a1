"""Every door is guarded, says who may come in, and hands over what it says; each check can fail."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import NoneType, SimpleNamespace
from typing import Annotated, Any, get_type_hints

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from cliniq import app as composition
from cliniq.app import TOPICS, build_app
from cliniq.kernel.permissions import Permission
from cliniq.kernel.scope import Caller
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.http.guards import Guard, Policy, may, may_read, public
from cliniq.platform.http.live import LivePass
from cliniq.platform.http.route import is_policy, room, unguarded_doors
from cliniq.platform.http.sse import Audience, Following
from cliniq.platform.http.topics import Topic

# Who may come in, by door, as the policy table of the design has it. A new door needs a new row.
POLICY = """
POST /api/v1/auth/login = public: one signs in here
POST /api/v1/auth/refresh = public: one signs in here
POST /api/v1/auth/logout = self
GET /api/v1/me = self
GET /api/v1/me/appointments = self
GET /api/v1/me/dependants = self
GET /api/v1/me/queue = self
POST /api/v1/live/passes = self
WEBSOCKET /api/v1/live = live pass
GET /api/v1/clinic-locations = clinics:read
GET /api/v1/practitioners = appointments:read or self
POST /api/v1/patients = patients:create
POST /api/v1/patients/import = patients:import
GET /api/v1/patients/imports = patients:import
GET /api/v1/patients/imports/{import_id} = patients:import
GET /api/v1/patients/imports/{import_id}/remarks = patients:import
GET /api/v1/patients = patients:read
PATCH /api/v1/patients/{patient_id} = patients:update
GET /api/v1/patients/{patient_id}/identifiers = patients:read or self
GET /api/v1/patients/{patient_id} = patients:read or self
POST /api/v1/patients/{patient_id}/dependants = patients:create
POST /api/v1/appointments = appointments:create or self
GET /api/v1/appointments = appointments:read or self
GET /api/v1/appointments/mine = self
GET /api/v1/appointments/{appointment_id} = appointments:read or self
GET /api/v1/appointments/{appointment_id}/history = appointments:read or self
PUT /api/v1/appointments/{appointment_id} = appointments:update or self
DELETE /api/v1/appointments/{appointment_id} = appointments:delete or self
POST /api/v1/appointments/check-in/scans = public: a code is exchanged before one signs in
POST /api/v1/appointments/check-in/scan-qr = self, with a code of the clinic
POST /api/v1/appointments/check-in/manual = checkin:create
POST /api/v1/appointments/{appointment_id}/no-show = appointments:update
GET /api/v1/appointments/check-in/locations = checkin:read
GET /api/v1/appointments/locations/{location_id}/qr-code = checkin:read
GET /api/v1/queues = queue:read
GET /api/v1/queues/{queue_id} = queue:read
GET /api/v1/queues/{queue_id}/events = queue:read
GET /api/v1/queues/{queue_id}/entries/{entry_id} = queue:read or self
POST /api/v1/queues/{queue_id}/calls = queue:call
POST /api/v1/queues/{queue_id}/walk-ins = queue:manage
POST /api/v1/queues = queue:manage
POST /api/v1/queues/entries/{entry_id}/start = queue:call
POST /api/v1/queues/entries/{entry_id}/complete = queue:call
POST /api/v1/queues/entries/{entry_id}/no-show = queue:call
GET /api/v1/demo = public: people of a play
POST /api/v1/demo/resets = public: people of a play
GET / = public: a page, without any data of a patient
GET /c/{code} = public: a page, without any data of a patient
GET /board = public: a page, without any data of a patient
GET /asyncapi.json = public: a page, without any data of a patient
GET /problems/{code} = public: a page, without any data of a patient
GET /files/{token} = public: the link itself is signed, for one file and for an hour
GET /health/live = public: guarded by the network: not routed to from outside
GET /health/ready = public: guarded by the network: not routed to from outside
GET /health/startup = public: guarded by the network: not routed to from outside
GET /metrics = public: guarded by the network: not routed to from outside
SUBSCRIBE queue = queue:read or self
"""
PERMISSION = re.compile(r"[a-z-]+:[a-z-]+")

MayRead = may_read(Permission.QUEUE_READ)


def doors(app: FastAPI) -> Iterator[tuple[str, Policy, Any]]:
    """Every guarded door: its name, its policy, and what its handler says it is given."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute | APIWebSocketRoute):
            methods = {"WEBSOCKET"} if isinstance(route, APIWebSocketRoute) else route.methods or ()
            door = next(each for each in route.dependant.dependencies if is_policy(each))
            policy: Any = door.call
            assert door.name is not None
            given = get_type_hints(route.endpoint)[door.name]
            for method in methods:
                yield f"{method} {context.path}", policy, given


def words(app: FastAPI, topics: Mapping[str, Topic]) -> dict[str, str]:
    """Who may come in, by door and by topic."""
    named = {f"SUBSCRIBE {name}": topic.guard.words for name, topic in topics.items()}
    return {name: policy.words for name, policy, _ in doors(app)} | named


def read_policy(text: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in text.strip().splitlines())


def kind_of(policy: Policy) -> Any:
    """What a policy hands over."""
    guard = getattr(policy, "_guard", policy)  # a policy may lean on a guard
    if isinstance(guard, LivePass):
        return Caller
    if isinstance(guard, Following):
        return Audience
    return guard._kind if isinstance(guard, Guard) else NoneType  # noqa: SLF001


def test_every_door_and_topic_stands_in_the_policy() -> None:
    assert words(build_app(), TOPICS) == read_policy(POLICY)


def test_door_without_a_row_is_found() -> None:
    app = build_app()

    @app.get("/new")
    async def new(unit: Annotated[ReadUnit, MayRead]) -> None: ...

    assert words(app, TOPICS).keys() - read_policy(POLICY).keys() == {"GET /new"}


def test_every_named_permission_exists() -> None:
    assert {
        name for row in read_policy(POLICY).values() for name in PERMISSION.findall(row)
    } <= set(Permission)


def ensure_described(document: Mapping[str, Any], policy: Mapping[str, str]) -> None:
    """Every operation says who may come in, as the policy does."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            assert operation.get("x-permission") == policy[name], name


def test_document_says_who_may_come_in() -> None:
    document = build_app().openapi()
    assert len(document["paths"]) > 25
    ensure_described(document, read_policy(POLICY))


@pytest.mark.parametrize("said", [{}, {"x-permission": ""}, {"x-permission": "queue:call"}])
def test_document_that_says_otherwise_is_found(said: dict[str, str]) -> None:
    document = {"paths": {"/api/v1/me": {"get": said}}}
    with pytest.raises(AssertionError, match="GET /api/v1/me"):
        ensure_described(document, read_policy(POLICY))


def ensure_honest(app: FastAPI) -> None:
    """Every handler is given what its signature says; what only reads is given what only reads."""
    for name, policy, given in doors(app):
        assert given is kind_of(policy), name
        assert not (name.startswith("GET ") and given is Unit), name


def test_handlers_are_given_what_they_say() -> None:
    ensure_honest(build_app())


@pytest.mark.parametrize(
    "given",
    [
        Annotated[Unit, may_read(Permission.QUEUE_READ)],
        Annotated[Unit, public("a lie")],
        Annotated[Unit, may(Permission.QUEUE_CALL)],
    ],
    ids=["a unit that reads only", "no unit at all", "GET that may write"],
)
def test_handler_that_says_otherwise_is_found(given: Any) -> None:
    router = room("", "x")

    async def lie(unit: Any) -> None: ...

    lie.__annotations__["unit"] = given
    router.get("/lie")(lie)
    app = FastAPI()
    app.include_router(router)
    with pytest.raises(AssertionError, match="GET /lie"):
        ensure_honest(app)


async def naked() -> None: ...


async def clothed_twice(
    one: Annotated[ReadUnit, MayRead], two: Annotated[None, public("why not")]
) -> None: ...


def test_route_without_one_policy_cannot_be_registered() -> None:
    router = room("", "x")
    with pytest.raises(TypeError, match="/naked: take may"):
        router.get("/naked")(naked)
    with pytest.raises(TypeError, match="take may"):
        router.get("/unasked", dependencies=[MayRead])(naked)
    with pytest.raises(TypeError, match="take may"):
        router.get("/twice")(clothed_twice)


async def naked_socket(socket: WebSocket) -> None: ...


async def by_another_way(request: Request) -> Response:
    raise NotImplementedError


def test_naked_doors_of_every_kind_are_found() -> None:
    router, plain, app = room("", "x"), APIRouter(), FastAPI()
    router.websocket("/room/socket")(naked_socket)
    router.websocket("/guarded")(guarded_socket)
    plain.get("/plain")(naked)
    plain.websocket("/socket")(naked_socket)
    app.include_router(router, prefix="/api")
    app.include_router(plain)
    app.router.routes.append(Route("/starlette", by_another_way))
    app.mount("/files", StaticFiles(directory="/"))
    found = unguarded_doors(app)
    assert {"/room/socket", "/plain", "/socket", "/starlette", "/files"} <= set(found)
    assert "/guarded" not in found


async def guarded_socket(
    socket: WebSocket, caller: Annotated[Caller, Depends(LivePass())]
) -> None: ...


def test_application_leaves_only_its_files_unguarded() -> None:
    assert unguarded_doors(build_app()) == ["/assets"]


def test_application_with_a_naked_door_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter()
    router.get("/naked")(naked)
    monkeypatch.setattr(composition, "ROOMS", [*composition.ROOMS, SimpleNamespace(router=router)])
    with pytest.raises(RuntimeError, match=r"unguarded: \['/naked'\]"):
        build_app()


def ensure_topics_guarded(topics: Mapping[str, Topic]) -> None:
    for name, topic in topics.items():
        assert topic.name == name
        assert isinstance(topic.guard, Guard)
        assert kind_of(topic.guard) is ReadUnit


def test_every_topic_has_a_guard_that_only_reads() -> None:
    assert TOPICS
    ensure_topics_guarded(TOPICS)
    streamed = [
        policy.topic for _, policy, _ in doors(build_app()) if isinstance(policy, Following)
    ]
    assert streamed
    for topic in streamed:
        assert TOPICS[topic.name] is topic
    assert kind_of_guard_of_streams() == {ReadUnit}


def kind_of_guard_of_streams() -> set[Any]:
    followings = [policy for _, policy, _ in doors(build_app()) if isinstance(policy, Following)]
    return {kind_of(each.guard) for each in followings}


def test_topic_without_such_a_guard_is_found() -> None:
    queue = TOPICS["queue"]
    for sin in [
        {"other": queue},
        {"queue": replace(queue, guard=Guard(Unit, Permission.QUEUE_CALL))},
        {"queue": replace(queue, guard=public("a lie"))},
    ]:
        with pytest.raises(AssertionError):
            ensure_topics_guarded(sin)
    with pytest.raises(TypeError, match="guard"):
        Topic("queue", load=queue.load)  # type: ignore[call-arg]
