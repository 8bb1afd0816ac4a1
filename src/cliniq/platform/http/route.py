"""Routes behind one door each, encoded inside it and answered after it closed."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from inspect import Parameter, Signature, signature
from json import JSONDecodeError
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

from cliniq.kernel.problem import Problem, RateLimitExceeded, RequestInvalid, Unauthenticated
from cliniq.kernel.record import Record
from cliniq.platform.db import Unit
from cliniq.platform.denials import Knock
from cliniq.platform.http.body import StrictRequest
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.guards import Policy, entrance_of, signed_in
from cliniq.platform.http.problems import joined, problems
from cliniq.platform.http.terms import KEY, OPTIONAL, REQUIRED, TRAFFIC, key_parameter, traffic_of
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
ASKING = "asking"  # under which name a handler's request is handed over where it takes none
REPLAYED = {"Idempotency-Replayed": "true"}


class Content(Record, frozen=True):
    """An answer that is not JSON, such as a picture."""

    body: bytes
    media_type: str


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
        asking, signature = _with_request(endpoint)

        @wraps(endpoint)
        async def answer(**given: Any) -> Response:
            request = given[asking] if asking != ASKING else given.pop(asking)
            return await self._answer(endpoint, request, name, given)

        answer.__signature__ = signature  # type: ignore[attr-defined]
        super().__init__(path, answer, **options)
        doors = [each for each in self.dependant.dependencies if each.name and is_policy(each)]
        if len(doors) != 1 or doors[0].name is None:
            raise TypeError(
                f"{path}: take may(...), own...(...) or public(...) as a parameter, once"
            )
        name = doors[0].name
        policy: Any = doors[0].call
        self._settle(policy, said)

    def _settle(self, policy: Policy, said: dict[str, Any]) -> None:
        """Settle who may come in, as what they count, and whether a key is taken."""
        method = next(iter(self.methods or ()))
        is_public = Unauthenticated not in policy.refusals
        self.asks_who = not is_public
        self.traffic = traffic_of(method, said, is_public=is_public)
        self.key = said.get(KEY, OPTIONAL if method == "POST" else "")
        self.takes_key = self.key in {REQUIRED, OPTIONAL}
        if self.takes_key and policy.gives is not Unit:
            raise TypeError(f"{self.path}: keeps no answer; say why with terms(no_key=...)")
        common: list[type[Problem]] = [RequestInvalid, *policy.refusals]
        if self.traffic is not Traffic.NETWORK:
            common.append(RateLimitExceeded)
        if self.takes_key:
            common += [KeyMissing] * (self.key == REQUIRED) + [KeyReused, KeyInFlight, KeyExpired]
            said = {"parameters": [key_parameter(required=self.key == REQUIRED)], **said}
        self.responses = joined(problems(*common), self.responses)
        terms = {TRAFFIC: self.traffic.value} | ({KEY: self.key} if self.key else {})
        self.openapi_extra = {"x-permission": policy.words, **said, **terms}

    async def _answer(
        self, endpoint: Callable[..., Any], request: Request, name: str, given: dict[str, Any]
    ) -> Response:
        """Count the request, open the door, do what is asked or give the answer that is kept."""
        door = given[name]
        asked = await self._asked(request)
        hits = await self._count(request, door.knock)
        try:
            async with door as unit:
                kept = await recall(unit, asked) if asked else None
                if kept is not None:
                    return Response(kept.body, kept.status, REPLAYED, media_type=kept.media_type)
                body, media_type = _encoded(await endpoint(**{**given, name: unit}))
                answer = Answer(self.status_code or 200, media_type, body)
                if asked:
                    keep(unit, asked, answer)
        except Problem as problem:
            if not door.is_open and hits and hits[-1].key[1] == "clinic":
                # Strangers do not use up what is a clinic's.
                await entrance_of(request).limits.undo(hits[-1])
            await door.remember(problem)
            raise
        return Response(answer.body, answer.status, media_type=answer.media_type)

    async def _asked(self, request: Request) -> Asked | None:
        """Read the key that came with a request, and tell the request from every other.

        Raises: IDEMPOTENCY_KEY_MISSING 400, REQUEST_INVALID 422.
        """
        if not self.takes_key:
            return None
        sent = request.headers.getlist(HEADER)
        if not sent:
            if self.key == REQUIRED:
                raise KeyMissing
            return None
        route = f"{request.method} {exchange_of(request).route}"
        url, body = request.scope, await request.body()
        with suppress(JSONDecodeError):  # what no handler reads may be anything
            body = await request.json()
        return Asked(
            route,
            read_key(sent),
            fingerprint(request.method, route, url["path"], url["query_string"], body),
        )

    async def _count(self, request: Request, knock: Knock | None) -> list[Hit]:
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

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Read bodies strictly, and say which route serves the exchange."""
        handle = super().get_route_handler()
        template = f"{self.base}{self.path}"

        async def strict(request: Request) -> Response:
            exchange_of(request).route = template
            bounded = StrictRequest(request.scope, request.receive)
            try:
                bounded.ensure_bounded()
                return await handle(bounded)
            except (Problem, RequestValidationError, HTTPException) as error:
                await self._count(bounded, None)  # who is refused early is counted all the same
                if self.asks_who and not isinstance(error, Problem):
                    signed_in(bounded)  # 401 before 422 and 413: the framework reads the body first
                raise

        return strict


class RootRoute(GuardedRoute):
    """A route outside the versioned API: pages, health, metrics."""

    base: ClassVar[str] = ""


def _with_request(endpoint: Callable[..., Any]) -> tuple[str, Signature]:
    """Have the framework hand over the request too; say under which name.

    It knows one name for a request, so the handler's own is taken where there is one.
    """
    known = signature(endpoint)
    for parameter in known.parameters.values():
        if parameter.annotation is Request:
            return parameter.name, known
    asking = Parameter(ASKING, Parameter.KEYWORD_ONLY, annotation=Request)
    return ASKING, known.replace(parameters=[*known.parameters.values(), asking])


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
