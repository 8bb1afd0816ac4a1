"""Takes a request straight to its route, past the layers that Cliniq's routes do not use.

FastAPI's own stack stands behind it and answers whatever is no address of a guarded route: sockets,
assets, the document, and the refusals of paths that nobody serves.
"""

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from cliniq.kernel.problem import MethodNotAllowed
from cliniq.platform.http.body import StrictRequest
from cliniq.platform.http.problems import say
from cliniq.platform.http.route import GuardedRoute

Serve: TypeAlias = Callable[[StrictRequest], Coroutine[Any, Any, Response]]


@dataclass(slots=True)
class _Place:
    """An address, and what is served there by which method."""

    pattern: re.Pattern[str]
    served: dict[str, Serve] = field(default_factory=dict)


class Switchboard:
    """Finds the place of a path, and there the route of a method.

    A place that is spelt out goes before one with a parameter that would fit as well, whatever the
    method: `/appointments/mine` is no appointment. Source: OpenAPI 3.1, Paths Object.
    """

    def __init__(self, app: FastAPI, behind: ASGIApp) -> None:
        self._app = app
        self._behind = behind
        places: dict[str, _Place] = {}
        for context in iter_route_contexts(app.routes):
            route = context.original_route
            if isinstance(route, GuardedRoute):
                path = f"{route.base}{route.path}"
                place = places.setdefault(path, _Place(compile_path(path)[0]))
                for method in route.methods or ():
                    place.served.setdefault(method, route.serving())
        self._spelt = {path: place for path, place in places.items() if "{" not in path}
        self._open: dict[int, list[_Place]] = {}
        for path in sorted(places.keys() - self._spelt.keys(), key=_openness):
            self._open.setdefault(path.count("/"), []).append(places[path])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "http" and not scope.get("root_path"):
            found = self._find(scope["path"])
            if found is not None:
                place, parameters = found
                scope["app"] = self._app
                scope["path_params"] = parameters
                serve = place.served.get(scope["method"]) or _refusing(place)
                response = await _answered(serve, StrictRequest(scope, receive))
                await response(scope, receive, send)
                return
        await self._behind(scope, receive, send)

    def _find(self, path: str) -> tuple[_Place, dict[str, str]] | None:
        """Find a path's place, and the values of its parameters."""
        if (spelt := self._spelt.get(path)) is not None:
            return spelt, {}
        for place in self._open.get(path.count("/"), ()):
            if (found := place.pattern.match(path)) is not None:
                return place, found.groupdict()
        return None


def _openness(path: str) -> list[bool]:
    """Sort what is spelt out further before what is left open sooner."""
    return [part.startswith("{") for part in path.split("/")]


def _refusing(place: _Place) -> Serve:
    """Refuse a method that nobody serves at a place."""

    async def refuse(_request: StrictRequest) -> Response:
        raise MethodNotAllowed(place.served)

    return refuse


async def _answered(serve: Serve, request: StrictRequest) -> Response:
    try:
        return await serve(request)
    except Exception as error:  # noqa: BLE001 - every one has an answer, and a line in the log
        return await say(request, error)
