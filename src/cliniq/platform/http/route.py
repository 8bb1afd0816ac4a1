"""Routes behind one door each, encoded inside it and answered after it closed."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ClassVar

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from typing_extensions import override

from cliniq.kernel.problem import Problem, RequestInvalid, Unauthenticated
from cliniq.kernel.record import Record
from cliniq.platform.http.body import StrictRequest
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.guards import Policy, signed_in
from cliniq.platform.http.problems import joined, problems
from cliniq.platform.http.reader import reader_of

API = "/api/v1"


class Content(Record, frozen=True):
    """An answer that is not JSON, such as a picture."""

    body: bytes
    media_type: str


class GuardedRoute(APIRoute):
    """A route behind one door: it cannot be registered without a `Policy` parameter.

    The door is entered around the handler, so COMMIT has happened before an answer exists, whatever
    FastAPI does with its own `yield` dependencies. A refusal is remembered after the rollback.
    """

    base: ClassVar[str] = API

    @override
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        @wraps(endpoint)
        async def answer(**given: Any) -> Response:
            door = given[name]
            try:
                async with door as given[name]:
                    body, media_type = _encoded(await endpoint(**given))
            except Problem as problem:
                await door.remember(problem)
                raise
            return Response(body, self.status_code or 200, media_type=media_type)

        super().__init__(path, answer, **options)
        doors = [each for each in self.dependant.dependencies if each.name and is_policy(each)]
        if len(doors) != 1 or doors[0].name is None:
            raise TypeError(
                f"{path}: take may(...), own...(...) or public(...) as a parameter, once"
            )
        name = doors[0].name
        policy: Any = doors[0].call
        self.asks_who = Unauthenticated in policy.refusals
        self.responses = joined(problems(RequestInvalid, *policy.refusals), self.responses)
        self.openapi_extra = {"x-permission": policy.words, **(self.openapi_extra or {})}

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Answer as the switchboard does, should a request come by way of the framework."""
        serve = self.serving()

        async def handle(request: Request) -> Response:
            return await serve(StrictRequest(request.scope, request.receive))

        return handle

    def serving(self) -> Callable[[StrictRequest], Coroutine[Any, Any, Response]]:
        """Say how a request is answered: read strictly, and behind the door.

        Raises: TypeError for a handler that takes what is never read.
        """
        template = f"{self.base}{self.path}"
        reader = reader_of(self.dependant)

        async def serve(request: StrictRequest) -> Response:
            exchange_of(request).route = template
            try:
                request.ensure_bounded()
                given = await reader.read(request)
            except (RequestValidationError, HTTPException):
                if self.asks_who:  # 401 goes before 422 and 413: the body is read before the door
                    signed_in(request)
                raise
            answer: Response = await reader.call(**given)
            return answer

        return serve


class RootRoute(GuardedRoute):
    """A route outside the versioned API: pages, health, metrics."""

    base: ClassVar[str] = ""


def _encoded(answer: Any) -> tuple[bytes, str | None]:
    if isinstance(answer, Content):
        return answer.body, answer.media_type
    if answer is None:
        return b"", None
    return msgspec.json.encode(answer), "application/json"


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
