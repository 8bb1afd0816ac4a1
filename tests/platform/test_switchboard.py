"""The switchboard finds the route that the framework would find, and leaves it everything else."""

from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from cliniq.app import build_app
from cliniq.kernel.ids import new_id
from cliniq.platform.http import switchboard
from cliniq.platform.http.route import GuardedRoute
from tests.platform.wire import NIL
from tests.support import Client

APP = build_app()
ROUTES = [
    (method, f"{route.base}{route.path}")
    for context in iter_route_contexts(APP.routes)
    if isinstance(route := context.original_route, GuardedRoute)
    for method in sorted(route.methods or ())
]
SPELT = {path for _, path in ROUTES}
Scope = dict[str, Any]


def filled(path: str, word: str) -> str:
    return "/".join(word if part.startswith("{") else part for part in path.split("/"))


def scope_of(method: str, path: str) -> Scope:
    return {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}


async def _nobody(*_: object) -> Any:
    raise AssertionError("nobody reads or answers here")


async def found_by_framework(scope: Scope) -> tuple[str, dict[str, str]] | None:
    """The template and the parameters of the route that the framework's routers choose."""
    for context in iter_route_contexts(APP.routes):
        route = context.original_route
        if isinstance(route, GuardedRoute):
            match, child = context.matches(scope)
            if match.name == "FULL":
                return f"{route.base}{route.path}", child["path_params"]
    return None


@pytest.mark.parametrize("word", ["01a2119c-c4e4-75a0-96b3-0be879061e8e", "mine", "a b", "é"])
async def test_same_route_is_found_for_every_method_and_path(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, dict[str, str]]] = []

    def serving(route: GuardedRoute) -> Any:
        async def serve(request: Any) -> Any:
            found.append((f"{route.base}{route.path}", dict(request.path_params)))
            return _nothing

        return serve

    async def _nothing(*_: object) -> None: ...

    async def behind(*_: object) -> None:
        found.append(("behind", {}))

    monkeypatch.setattr(GuardedRoute, "serving", serving)
    board = switchboard.Switchboard(APP, behind)
    for method, template in ROUTES:
        scope = scope_of(method, filled(template, word))
        if (method, scope["path"]) in ROUTES or scope["path"] not in SPELT:
            await board(scope, _nobody, _nobody)
            assert found.pop() == await found_by_framework(dict(scope))
    for method, path in (("GET", "/nowhere"), ("GET", "/health/live/")):
        await board(scope_of(method, path), _nobody, _nobody)
        assert found.pop() == ("behind", {})
    assert not found


async def test_what_breaks_is_answered_by_the_switchboard(client: Client) -> None:
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    lost = await client.get(f"/problems/{new_id()}")
    assert (lost.status_code, lost.json()["code"]) == (404, "NOT_FOUND")


async def test_framework_answers_for_paths_that_nobody_serves(client: Client) -> None:
    nowhere = await client.get("/api/v1/nowhere")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/health/live", "GET"),
        ("OPTIONS", "/api/v1/appointments", "GET, POST"),
        ("POST", f"/api/v1/appointments/{NIL}", "DELETE, GET, PUT"),
        ("PUT", f"/api/v1/patients/{NIL}", "GET, PATCH"),
    ],
)
async def test_method_that_nobody_serves_hears_all_that_somebody_serves(
    client: Client, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_place_that_is_spelt_out_is_no_value_of_a_parameter(
    client: Client, method: str
) -> None:
    answer = await client.request(method, "/api/v1/appointments/mine", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
