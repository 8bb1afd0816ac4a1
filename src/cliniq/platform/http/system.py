"""Routes at the root: pages, health, metrics, the documents that describe the API."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import resources
from typing import Annotated

import msgspec
from fastapi import APIRouter, FastAPI
from starlette.requests import Request

from cliniq.kernel.problem import DependencyUnavailable, NotFound, Problem
from cliniq.kernel.record import Record
from cliniq.platform.db import Pool
from cliniq.platform.health import Pulse
from cliniq.platform.http.asyncapi import describe_live
from cliniq.platform.http.guards import Entrance, public
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import Content, RootRoute
from cliniq.platform.http.terms import terms
from cliniq.platform.http.traffic import Traffic
from cliniq.platform.jobs_depths import measure_jobs
from cliniq.platform.provision import SEATS
from cliniq.platform.telemetry import Metrics

router = APIRouter(tags=["system"], route_class=RootRoute)

Anyone = Annotated[None, public("a page, without any data of a patient")]
Network = Annotated[None, public("guarded by the network: not routed to from outside")]
HTML = "text/html; charset=utf-8"
UNCOUNTED = terms(traffic=Traffic.NETWORK)


class Health(Record, frozen=True):
    """Whether the process is well."""

    status: str


class Readiness(Record, frozen=True):
    """Whether requests should come here: `ready`, or `degraded` without what is `missing`."""

    status: str
    missing: list[str]


class ProblemKind(Record, frozen=True):
    """A kind of refusal, as `type` of a problem points at it."""

    code: str
    status: int
    title: str
    meaning: str


def _page(name: str) -> Content:
    return Content((resources.files("cliniq.web") / name).read_bytes(), HTML)


@router.get("/", include_in_schema=False, response_model=None)
async def get_landing_page(door: Anyone) -> Content:
    """Serve the landing page."""
    return _page("index.html")


@router.get("/c/{code}", include_in_schema=False, response_model=None)
async def get_check_in_page(door: Anyone, code: str) -> Content:
    """Serve the page behind every code at a door. It changes nothing: a tap on it does."""
    return _page("checkin.html")


@router.get("/board", include_in_schema=False, response_model=None)
async def get_board_page(door: Anyone) -> Content:
    """Serve a waiting room's board; whose it is, its address says, and a sign-in shows it."""
    return _page("board.html")


@router.get("/asyncapi.json", include_in_schema=False, response_model=None)
async def get_live_document(door: Anyone, request: Request) -> Content:
    """Describe the live socket, as AsyncAPI."""
    return Content(msgspec.json.encode(describe_live(request.app.state.topics)), "application/json")


@router.get("/health/live", **UNCOUNTED)
async def get_liveness(door: Network) -> Health:
    """Say that the process answers."""
    return Health("live")


@router.get("/health/startup", **UNCOUNTED)
async def get_startup(door: Network) -> Health:
    """Say that start-up is over: nothing is answered before."""
    return Health("started")


@router.get("/health/ready", responses=problems(DependencyUnavailable), **UNCOUNTED)
async def get_readiness(door: Network, request: Request) -> Readiness:
    """Say that the database serves. Without Redis we serve on, more slowly: that is no refusal."""
    pulse: Pulse = request.app.state.pulse
    missing = await pulse.ensure_serves()
    return Readiness("degraded" if missing else "ready", missing)


@router.get("/metrics", include_in_schema=False, response_model=None, **UNCOUNTED)
async def get_metrics(door: Network, request: Request) -> Content:
    """Write the metrics for Prometheus: of all processes of this crew, whichever is asked."""
    of_all: Callable[[], Awaitable[bytes]] | None = request.app.state.metrics_of_all
    text = b""
    if of_all is not None:
        with suppress(OSError, TimeoutError):  # the supervisor has gone, and we are about to
            text = await of_all()
    text = text or await exposition(request.app)
    return Content(text, "text/plain; version=0.0.4; charset=utf-8")


async def exposition(app: FastAPI) -> bytes:
    """Write the metrics of this process alone."""
    metrics: Metrics = app.state.metrics
    entrance: Entrance = app.state.entrance
    metrics.sockets.set(len(entrance.hub))
    metrics.unshared_hits.set(entrance.limits.unshared)
    database = entrance.database
    pools: dict[str, Pool] = {
        "clinic": database.clinic,
        "person": database.person,
        "platform": database.platform,
    }
    for name, pool in pools.items():
        idle = pool.get_idle_size()
        metrics.connections.labels(name, "idle").set(idle)
        metrics.connections.labels(name, "busy").set(pool.get_size() - idle)
    for role in SEATS:
        metrics.waiting.labels(role).set(database.waiting[role])
    await measure_jobs(database, metrics)
    return metrics.exposition()


@router.get("/problems/{code}", responses=problems(NotFound))
async def get_problem_kind(door: Anyone, code: str) -> ProblemKind:
    """Explain a refusal by its code."""
    for kind in all_problems():
        if kind.code == code:
            return ProblemKind(kind.code, kind.status, kind.title, meaning_of(kind))
    raise NotFound


def all_problems() -> list[type[Problem]]:
    """List every kind of refusal, by code; the shared roots of the family that have a code too."""
    found: dict[str, type[Problem]] = {}
    waiting = [Problem]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("cliniq."):
            found.setdefault(kind.code, kind)
    return [found[code] for code in sorted(found)]


def meaning_of(kind: type[Problem]) -> str:
    """Say what a refusal means, from where it is defined."""
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
