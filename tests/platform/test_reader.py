"""The plan by which requests are read gives what the framework itself would give, refusals too."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import httpx2
import msgspec
import pytest
from fastapi import Depends, FastAPI, Header, Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from typing_extensions import override

from cliniq.kernel.problem import Unauthenticated
from cliniq.platform.http.body import StrictRequest
from cliniq.platform.http.fields import Day, Incoming, Instant, Line
from cliniq.platform.http.reader import Reader, reader_of
from tests.platform.chance import STEADY

ID = "0190a5de-0000-7000-8000-000000000001"


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Wish(Incoming):
    what: Line
    many: int = 1
    at: Instant | None = None


class Note(Incoming):
    text: str


class Asks:
    """A dependency as our doors are: a callable that sees the connection, and perhaps the body."""

    async def __call__(self, connection: HTTPConnection) -> str:
        return connection.headers.get("x-name", "nobody")


class AsksBody:
    async def __call__(self, _connection: HTTPConnection, body: Wish) -> str:
        return body.what


async def show(  # noqa: PLR0913, PLR0917 - as a handler may
    door: Annotated[str, Depends(Asks())],
    request: Request,
    thing_id: UUID,
    day: Day | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    colour: Colour = Colour.RED,
    cursor: str | None = None,
) -> Any:
    return [door, request.method, str(thing_id), str(day), limit, colour, cursor]


async def wish(
    door: Annotated[str, Depends(AsksBody())], body: Wish, colour: Colour | None = None
) -> Any:
    return [door, body.model_dump(mode="json"), colour]


async def note(
    door: Annotated[str, Depends(Asks())], kind: Colour, body: Note | None = None
) -> Any:
    return [door, kind, body and body.text]


HANDLERS: dict[str, Any] = {"/things/{thing_id}": show, "/wishes": wish, "/notes/{kind}": note}


def refuse(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(_places(error), 422)


def _places(error: RequestValidationError) -> list[list[Any]]:
    return [[each["type"], list(each["loc"])] for each in error.errors()]


class Framework(APIRoute):
    """The framework's own way to read, with our way to read JSON."""

    @override
    def get_route_handler(self) -> Any:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Any:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


class Planned(APIRoute):
    """Ours."""

    @override
    def get_route_handler(self) -> Any:
        reader = reader_of(self.dependant)

        async def planned(request: Request) -> Any:
            given = await reader.read(StrictRequest(request.scope, request.receive))
            return JSONResponse(await reader.call(**given))

        return planned


def serving(route: type[APIRoute]) -> FastAPI:
    app = FastAPI()
    app.add_exception_handler(RequestValidationError, refuse)
    app.router.route_class = route
    for path, handler in HANDLERS.items():
        app.router.add_api_route(
            path, handler, methods=["POST"], response_model=None, response_class=JSONResponse
        )
    return app


THEIRS, OURS = serving(Framework), serving(Planned)

SCALARS = st.sampled_from(["", "1", "20", "0", "101", "x", "red", "blue", "null", "2026-02-30"])
FITTING = st.sampled_from([ID, "2026-02-28", "7", "red", "next"])
QUERIES = st.dictionaries(
    st.sampled_from(["day", "limit", "colour", "cursor", "unknown"]),
    SCALARS | FITTING | st.text(max_size=5),
)
PATHS = st.one_of(
    st.builds("/things/{}".format, st.sampled_from([ID, ID.upper(), "7", "x"])),
    st.just("/wishes"),
    st.builds("/notes/{}".format, st.sampled_from(["red", "green"])),
)
PARTS: st.SearchStrategy[Any] = st.sampled_from(
    [None, 1, "1", "a", [], {}, True, "2026-02-28T10:00:00Z", "x" * 300]
)
OBJECTS = st.dictionaries(st.sampled_from(["what", "many", "at", "text", "else"]), PARTS)
BODIES = st.one_of(
    st.just(b""),
    OBJECTS.map(msgspec.json.encode),
    PARTS.map(msgspec.json.encode),
    st.just(b'{"what": "a"}'),
    st.just(b'{"text": "a"}'),
    st.sampled_from([b"{", b'{"what": "a", "what": "b"}', b"\xff", b"[" * 100 + b"]" * 100]),
)
KINDS = st.sampled_from(
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "application/x+json",
        "text/plain",
    ]
)


@STEADY
@example("/wishes", {}, b"null", "application/json")  # there, and nothing, are not the same
@example("/notes/red", {}, b"null", "application/json")
@given(PATHS, QUERIES, BODIES, KINDS)
async def test_plan_reads_and_refuses_as_the_framework_does(
    path: str, query: dict[str, str], body: bytes, kind: str | None
) -> None:
    headers = {"content-type": kind} if kind else {}
    answers = []
    for app in (THEIRS, OURS):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://cliniq.test") as client:
            answer = await client.post(path, params=query, content=body, headers=headers)
            answers.append((answer.status_code, answer.json()))
    assert answers[0] == answers[1]


async def test_plan_reads_what_is_right() -> None:
    transport = httpx2.ASGITransport(app=OURS)
    async with httpx2.AsyncClient(transport=transport, base_url="http://cliniq.test") as client:
        answer = await client.post("/wishes?colour=blue", json={"what": " tea ", "many": 2})
        assert answer.json() == ["tea", {"what": "tea", "many": 2, "at": None}, "blue"]


async def test_plan_asks_the_door_before_it_refuses_the_rest() -> None:
    class Shut:
        async def __call__(self, _connection: HTTPConnection) -> str:
            raise Unauthenticated

    async def handler(door: Annotated[str, Depends(Shut())], limit: int) -> None: ...

    request = Request(
        {"type": "http", "query_string": b"limit=x", "headers": [], "path_params": {}}
    )
    with pytest.raises(Unauthenticated):
        await _reader(handler).read(request)


@pytest.mark.parametrize("what", ["header", "sync", "two bodies"])
def test_plan_refuses_what_it_cannot_read(what: str) -> None:
    async def header(door: Annotated[str, Header()]) -> None: ...

    def sync() -> None: ...

    async def two_bodies(one: Wish, other: Note) -> None: ...

    handler = {"header": header, "sync": sync, "two bodies": two_bodies}[what]
    with pytest.raises(TypeError, match="cannot read"):
        _reader(handler)


def _reader(handler: Any) -> Reader:
    return reader_of(APIRoute("/", handler).dependant)
