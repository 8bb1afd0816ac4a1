"""Every route counts as a class of traffic, and every POST takes a key or says why not."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from cliniq.app import build_app
from cliniq.kernel.permissions import Permission
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.http.guards import may, may_read, public
from cliniq.platform.http.route import GuardedRoute, room
from cliniq.platform.http.terms import terms
from cliniq.platform.http.traffic import PACES, Traffic, scaled

# What counts as something else than its method says: GET reads, all else writes.
TRAFFIC = """
POST /api/v1/auth/login = auth
POST /api/v1/auth/refresh = auth
POST /api/v1/auth/logout = auth
POST /api/v1/live/passes = live
GET /api/v1/queues/{queue_id}/events = live
POST /api/v1/appointments/check-in/scans = scan
POST /api/v1/appointments/check-in/scan-qr = scan
GET /api/v1/demo = public
POST /api/v1/demo/resets = public
GET /board = public
GET / = public
GET /c/{code} = public
GET /files/{token} = public
GET /asyncapi.json = public
GET /problems/{code} = public
GET /health/live = network
GET /health/ready = network
GET /health/startup = network
GET /metrics = network
"""
# Every POST: what it says of keys.
KEYS = """
POST /api/v1/demo/resets = none: it begins anew, and twice is as good
POST /api/v1/auth/login = none: a sign-in is never given twice
POST /api/v1/auth/refresh = none: a sign-in is never given twice
POST /api/v1/auth/logout = none: a sign-in is never given twice
POST /api/v1/live/passes = none: it hands out a secret, and a new one is as good
POST /api/v1/appointments/check-in/scans = none: it writes nothing, and nobody is known yet
POST /api/v1/appointments/check-in/scan-qr = optional
POST /api/v1/queues/entries/{entry_id}/start = optional
POST /api/v1/queues/entries/{entry_id}/complete = optional
POST /api/v1/queues/entries/{entry_id}/no-show = optional
POST /api/v1/queues/{queue_id}/calls = required
POST /api/v1/queues/{queue_id}/walk-ins = required
POST /api/v1/queues = optional
POST /api/v1/appointments/check-in/manual = optional
POST /api/v1/appointments/{appointment_id}/no-show = optional
POST /api/v1/appointments = required
POST /api/v1/patients = required
POST /api/v1/patients/import = optional
POST /api/v1/patients/{patient_id}/dependants = required
"""


def read(text: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in text.strip().splitlines())


def routes(app: FastAPI) -> Iterator[tuple[str, APIRoute]]:
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                yield f"{method} {context.path}", route


def ensure_counted(app: FastAPI) -> dict[str, str]:
    """Every route counts as a class that has a pace; return those that need saying."""
    found = {}
    for name, route in routes(app):
        assert isinstance(route, GuardedRoute), name
        assert route.traffic in PACES, name
        usual = Traffic.READ if name.startswith("GET ") else Traffic.WRITE
        if route.traffic is not usual:
            found[name] = route.traffic.value
    return found


def ensure_keyed(app: FastAPI) -> dict[str, str]:
    """Every POST takes a key, or says why not; return what each says."""
    found = {}
    for name, route in routes(app):
        if name.startswith("POST "):
            said: str = getattr(route, "key", "")
            assert said in {"required", "optional"} or said.startswith("none: "), name
            found[name] = said
    return found


def test_every_route_counts_as_a_class_of_traffic() -> None:
    assert set(PACES) == set(Traffic)
    assert ensure_counted(build_app()) == read(TRAFFIC)


def test_every_post_takes_a_key_or_says_why_not() -> None:
    assert ensure_keyed(build_app()) == read(KEYS)


async def planted() -> None: ...


def test_route_that_counts_as_nothing_and_takes_no_key_is_found() -> None:
    app, plain = build_app(), APIRouter()
    plain.post("/planted")(planted)
    app.include_router(plain)
    with pytest.raises(AssertionError, match="POST /planted"):
        ensure_counted(app)
    with pytest.raises(AssertionError, match="POST /planted"):
        ensure_keyed(app)


@pytest.mark.parametrize(
    "door", [public("a test"), may_read(Permission.QUEUE_READ)], ids=["public", "reading"]
)
def test_post_that_could_keep_no_answer_cannot_be_registered_without_a_reason(door: Any) -> None:
    router = room("", "x")

    async def keyless(door: Any) -> None: ...

    keyless.__annotations__["door"] = Annotated[Any, door]
    with pytest.raises(TypeError, match="/keyless: keeps no answer"):
        router.post("/keyless")(keyless)
    router.post("/keyless", **terms(no_key="there is a reason"))(keyless)


async def keyed(unit: Annotated[Unit, may(Permission.QUEUE_CALL)]) -> None: ...


async def reading(unit: Annotated[ReadUnit, may_read(Permission.QUEUE_READ)]) -> None: ...


def test_document_shows_the_key_where_one_is_taken() -> None:
    document = build_app().openapi()
    said = read(KEYS)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            headers = {
                each["name"]: each["required"]
                for each in operation.get("parameters", ())
                if each["in"] == "header" and each["name"] != "X-Clinic-Id"
            }
            key = said.get(name, "")
            assert headers == (
                {"Idempotency-Key": key == "required"} if key in {"required", "optional"} else {}
            ), name
            described = str(operation["responses"])
            assert ("IDEMPOTENCY_KEY_REUSED" in described) == bool(headers), name
            assert ("IDEMPOTENCY_KEY_MISSING" in described) == (key == "required"), name
            is_counted = operation["x-traffic"] != "network"
            assert ("RATE_LIMIT_EXCEEDED" in described) == is_counted, name


def test_other_methods_take_no_key() -> None:
    router = room("", "x")
    router.get("/reading")(reading)
    router.put("/replacing")(keyed)
    router.delete("/deleting")(keyed)
    assert [getattr(route, "takes_key") for route in router.routes] == [False] * 3  # noqa: B009


def test_pace_is_multiplied_as_the_operator_says() -> None:
    more = scaled(PACES, 10)
    assert more.keys() == PACES.keys()
    assert more[Traffic.SCAN].person == "1200/minute"
    assert more[Traffic.AUTH].clinic is None
