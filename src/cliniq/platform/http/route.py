"""Routes behind one door each, encoded inside it and answered after it closed."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from json import JSONDecodeError
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from typing_extensions import override

from cliniq.kernel.problem import Problem, RateLimitExceeded, RequestInvalid, Unauthenticated
from cliniq.kernel.record import Record
from cliniq.platform.db import Unit
from cliniq.platform.denials import Knock
from cliniq.platform.http.body import LARGEST_BODY_BYTES, StrictRequest
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.guards import Policy, entrance_of, signed_in
from cliniq.platform.http.problems import joined, problems
from cliniq.platform.http.reader import reader_of
from cliniq.platform.http.terms import (
    KEY,
    LARGEST,
    OPTIONAL,
    REQUIRED,
    SIGNED_IN,
    TRAFFIC,
    clinic_parameter,
    key_parameter,
    traffic_of,
)
from cliniq.platform.http.traffic import Traffic, address_of, hits_of
from cliniq.platform.idempotency import (
    HEADER,
    Answer,
    Asked,
    KeyExpired,
    KeyInFlight,
    KeyMissing,
    KeyReused,
    fingerprint,
    keep,
    read_key,
    recall,
)
from cliniq.platform.limits import Hit

API = "/api/v1"
REPLAYED = {"Idempotency-Replayed": "true"}


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Content(Record, frozen=True):
    """An answer that is not JSON, such as a picture; or, with a status of its own, none at all."""

    body: bytes
    media_type: str | None
    headers: Mapping[str, str] = NO_HEADERS
    status: int | None = None


class Streamed(Record, frozen=True):
    """An answer too big to be held, in pieces."""

    pieces: AsyncIterator[bytes]
    media_type: str
    headers: Mapping[str, str] = NO_HEADERS


class Untyped(Response):
    """An answer that is no JSON, as the framework is to describe it: by `contents` alone."""

    media_type: str | None = None


def contents(media_types: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    """Describe an answer of these types, for a route whose `response_class` is `Untyped`."""
    found: dict[str, Any] = {each.partition(";")[0]: {} for each in media_types}
    return {200: {"description": "Successful Response", "content": found}}


class Afterwards(Record, frozen=True):
    """What is left to do for an answer once the transaction is over: another system is asked."""

    act: Callable[[], Awaitable[Content | Streamed]]


class GuardedRoute(APIRoute):
    """A route behind one door: it cannot be registered without a `Policy` parameter.

    The door is entered around the handler, so COMMIT has happened before an answer exists, whatever
    FastAPI does with its own `yield` dependencies. A refusal is remembered after the rollback.
    Before the door stand the limits; within it a key, if one was sent, makes it happen once.
    """

    base: ClassVar[str] = API

    @override
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        said = dict(options.pop("openapi_extra", None) or {})
        super().__init__(path, endpoint, **options)
        doors = [each for each in self.dependant.dependencies if each.name and is_policy(each)]
        if len(doors) != 1 or doors[0].name is None:
            raise TypeError(
                f"{path}: take may(...), own...(...) or public(...) as a parameter, once"
            )
        self._door = doors[0].name
        policy: Any = doors[0].call
        self._settle(policy, said)

    def _settle(self, policy: Policy, said: dict[str, Any]) -> None:
        """Settle who may come in, as what they count, and whether a key is taken.

        Raises: TypeError where a key would be taken and no answer could be kept.
        """
        method = next(iter(self.methods or ()))
        is_public = Unauthenticated not in policy.refusals
        self.asks_who = not is_public
        self.traffic = traffic_of(method, said, is_public=is_public)
        self.key = said.get(KEY, OPTIONAL if method == "POST" else "")
        self.takes_key = self.key in {REQUIRED, OPTIONAL}
        self.takes_file = LARGEST in said
        self.largest = said.get(LARGEST, LARGEST_BODY_BYTES)
        if self.takes_key and policy.gives is not Unit:
            raise TypeError(f"{self.path}: keeps no answer; say why with terms(no_key=...)")
        common: list[type[Problem]] = [RequestInvalid, *policy.refusals]
        if self.traffic is not Traffic.NETWORK:
            common.append(RateLimitExceeded)
        if self.takes_key:
            common += [KeyMissing] * (self.key == REQUIRED) + [KeyReused, KeyInFlight, KeyExpired]
        self.responses = joined(problems(*common), self.responses)
        terms = {TRAFFIC: self.traffic.value} | ({KEY: self.key} if self.key else {})
        self.openapi_extra = {
            "x-permission": policy.words,
            **self._headers(policy),
            **said,
            **terms,
        }

    def _headers(self, policy: Policy) -> dict[str, Any]:
        """Describe the headers that the framework does not know of: they are read elsewhere."""
        taken = [clinic_parameter()] if policy.asks_where else []
        if self.takes_key:
            taken.append(key_parameter(required=self.key == REQUIRED))
        return {"parameters": taken} | ({"security": SIGNED_IN} if self.asks_who else {})

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Answer as the switchboard does, should a request come by way of the framework."""
        serve = self.serving()

        async def answer(request: Request) -> Response:
            return await serve(StrictRequest(request.scope, request.receive))

        return answer

    def serving(self) -> Callable[[StrictRequest], Coroutine[Any, Any, Response]]:
        """Say how a request is answered: read strictly, and behind the door.

        Raises: TypeError for a handler that takes what is never read.
        """
        template = f"{self.base}{self.path}"
        reader = reader_of(self.dependant)

        async def serve(request: StrictRequest) -> Response:
            exchange_of(request).route = template
            request.largest = self.largest
            try:
                request.ensure_bounded()
                given = await reader.read(request)
                await self._ensure_file(request)
                asked = await self._asked(request) if self.takes_key else None
            except (Problem, RequestValidationError, HTTPException) as error:
                await self._count(request, None)  # who is refused early is counted all the same
                if self.asks_who and not isinstance(error, Problem):
                    signed_in(request)  # 401 before 422 and 413: the body is read before the door
                raise
            return await self._answer(reader.call, request, given, asked)

        return serve

    async def _answer(
        self,
        handler: Callable[..., Awaitable[Any]],
        request: StrictRequest,
        given: dict[str, Any],
        asked: Asked | None,
    ) -> Response:
        """Count the request, open the door, and do what is asked unless it was done before."""
        door = given[self._door]
        hits = await self._count(request, door.knock)
        try:
            async with door as given[self._door]:
                kept = await recall(given[self._door], asked) if asked else None
                if kept is not None:
                    return Response(kept.body, kept.status, REPLAYED, kept.media_type)
                said = await handler(**given)
                if isinstance(said, Response):  # a stream, which has let go of its door
                    return said
                response = _encoded(said, self.status_code)
                if asked:
                    keep(given[self._door], asked, _whole(response))
            if response is None:
                response = _encoded(await said.act(), self.status_code)
        except Problem as problem:
            if not door.is_open:
                await _take_back(request, hits)
            await door.remember(problem)
            raise
        assert response is not None  # noqa: S101 - nothing is put off twice
        return response

    async def _ensure_file(self, request: StrictRequest) -> None:
        """Refuse a request without the file that it should be; a body of nothing is none.

        Raises: RequestValidationError, which is answered as REQUEST_INVALID.
        """
        if self.takes_file and not await request.body():
            raise RequestValidationError([{"type": "missing", "loc": ("body",)}])

    async def _asked(self, request: StrictRequest) -> Asked | None:
        """Read the key that came with a request, and tell the request from every other.

        Raises: IDEMPOTENCY_KEY_MISSING 400, REQUEST_INVALID 422.
        """
        sent = request.headers.getlist(HEADER)
        if not sent:
            if self.key == REQUIRED:
                raise KeyMissing
            return None
        key = read_key(sent)
        method, route = request.method, f"{request.method} {exchange_of(request).route}"
        body: object = await request.body()
        with suppress(JSONDecodeError):  # what no handler reads may be anything
            body = await request.json()
        scope = request.scope
        told_by = fingerprint(method, route, scope["path"], scope["query_string"], body)
        return Asked(route, key, told_by)

    async def _count(self, request: StrictRequest, knock: Knock | None) -> list[Hit]:
        """Count a request against the limits, once.

        Raises: RATE_LIMIT_EXCEEDED 429.
        """
        entrance, exchange = entrance_of(request), exchange_of(request)
        if exchange.counted or self.traffic is Traffic.NETWORK:
            return []
        exchange.counted = True
        hits = hits_of(
            self.traffic,
            entrance.paces[self.traffic],
            address_of(request),
            knock.actor_id if knock else None,
            knock.clinic_id if knock else None,
        )
        await entrance.limits.hit_all(hits)
        return hits


class RootRoute(GuardedRoute):
    """A route outside the versioned API: pages, health, metrics."""

    base: ClassVar[str] = ""


def _encoded(answer: Any, status: int | None) -> Response | None:
    """Write an answer; nothing yet for what comes afterwards."""
    match answer:
        case Afterwards():
            return None
        case Content():
            return Response(
                answer.body, answer.status or status or 200, answer.headers, answer.media_type
            )
        case Streamed():
            return StreamingResponse(
                answer.pieces, status or 200, answer.headers, answer.media_type
            )
        case None:
            return Response(b"", status or 200)
        case _:
            return Response(
                msgspec.json.encode(answer), status or 200, media_type="application/json"
            )


def _whole(response: Response | None) -> Answer:
    """Take an answer as it will be given again. Raises: TypeError for one that is not whole yet."""
    if response is None or isinstance(response, StreamingResponse):
        raise TypeError("only an answer that is whole can be kept: declare terms(no_key=...)")
    return Answer(response.status_code, response.media_type, bytes(response.body))


async def _take_back(request: StrictRequest, hits: Sequence[Hit]) -> None:
    """Take back what was counted for a clinic: strangers do not use up what is a clinic's."""
    for hit in hits:
        if hit.key[1] == "clinic":
            await entrance_of(request).limits.undo(hit)


def room(prefix: str, tag: str) -> APIRouter:
    """Open a router whose every route is guarded."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=GuardedRoute)


def unguarded_doors(app: FastAPI) -> list[str]:
    """List what lets anybody in: HTTP routes and WebSockets without a `Policy`, mounts, the like.

    A room checks only its HTTP routes. The document that describes the API is open to all.
    """
    return [
        str(getattr(route, "path", route))
        for context in iter_route_contexts(app.routes)
        if not _is_guarded(route := context.original_route, app.openapi_url)
    ]


def _is_guarded(route: BaseRoute, document: str | None) -> bool:
    if isinstance(route, APIRoute | APIWebSocketRoute):
        return any(map(is_policy, route.dependant.dependencies))
    return isinstance(route, Route) and route.path == document


def is_policy(dependant: Dependant) -> bool:
    """Tell whether a dependency is a door."""
    return isinstance(dependant.call, Policy)
