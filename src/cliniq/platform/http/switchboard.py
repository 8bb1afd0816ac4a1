"""Takes a request straight to its route, past the layers that Cliniq's routes do not use.

FastAPI's own stack stands behind it and answers whatever is no guarded route: sockets, assets, the
document, and the refusals of paths and methods that nobody serves.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from cliniq.platform.http.body import StrictRequest
from cliniq.platform.http.problems import say
from cliniq.platform.http.route import GuardedRoute

Serve: TypeAlias = Callable[[StrictRequest], Coroutine[Any, Any, Response]]


class Switchboard:
    """Finds a route by method, number of segments and pattern: the first registered that fits."""

    def __init__(self, app: FastAPI, behind: ASGIApp) -> None:
        self._app = app
        self._behind = behind
        self._lines: dict[tuple[str, int], list[tuple[re.Pattern[str], Serve]]] = {}
        for context in iter_route_contexts(app.routes):
            route = context.original_route
            if isinstance(route, GuardedRoute):
                path = f"{route.base}{route.path}"
                pattern, _, _ = compile_path(path)
                for method in route.methods or ():
                    line = self._lines.setdefault((method, path.count("/")), [])
                    line.append((pattern, route.serving()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "http" and not scope.get("root_path"):
            path = scope["path"]
            for pattern, serve in self._lines.get((scope["method"], path.count("/")), ()):
                if (found := pattern.match(path)) is not None:
                    scope["app"] = self._app
                    scope["path_params"] = found.groupdict()
                    response = await _answered(serve, StrictRequest(scope, receive))
                    await response(scope, receive, send)
                    return
        await self._behind(scope, receive, send)


async def _answered(serve: Serve, request: StrictRequest) -> Response:
    try:
        return await serve(request)
    except Exception as error:  # noqa: BLE001 - every one has an answer, and a line in the log
        return await say(request, error)
