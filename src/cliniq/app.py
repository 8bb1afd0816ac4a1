"""The composition root of the web process; with `cli` and `demo`, all that knows every room."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any
from uuid import UUID

import structlog
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from cliniq import __version__, demo
from cliniq.domains.access import http as access_http
from cliniq.domains.access.api import Doorkeeper, hint_at
from cliniq.domains.appointments import http as appointments_http
from cliniq.domains.checkin import api as checkin
from cliniq.domains.checkin import http as checkin_http
from cliniq.domains.clinics import api as clinics
from cliniq.domains.clinics import http as clinics_http
from cliniq.domains.identity import http as identity_http
from cliniq.domains.identity.api import SignInDesk
from cliniq.domains.intake import http as intake_http
from cliniq.domains.patients import http as patients_http
from cliniq.domains.queue import http as queue_http
from cliniq.kernel.ids import ClinicId
from cliniq.kernel.scope import GuestScope, PlatformScope
from cliniq.platform import live_store
from cliniq.platform.backends import ALONE, Backends
from cliniq.platform.bus import Bus
from cliniq.platform.cache import Cache, open_cache
from cliniq.platform.cached import Cached, forget
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Beside, Database, Unit, open_database, open_read_unit
from cliniq.platform.endings import end_all
from cliniq.platform.events import Told
from cliniq.platform.health import Pulse, open_pulse
from cliniq.platform.http import files, system
from cliniq.platform.http import live as live_http
from cliniq.platform.http.address import Proxies
from cliniq.platform.http.envelope import Envelope
from cliniq.platform.http.guards import Entrance
from cliniq.platform.http.problems import SCHEMA, speak_problems
from cliniq.platform.http.route import API, unguarded_doors
from cliniq.platform.http.switchboard import Switchboard
from cliniq.platform.http.terms import SCHEMES
from cliniq.platform.http.topics import Topic
from cliniq.platform.http.traffic import PACES, scaled
from cliniq.platform.jobs import Registry, Tools, lane_waker
from cliniq.platform.limits_backends import open_limits
from cliniq.platform.live import Hub
from cliniq.platform.live_passes import Passes, open_spent
from cliniq.platform.outbound.client import Outbound, open_outbound
from cliniq.platform.passwords import Passwords
from cliniq.platform.redis_bus import open_bus
from cliniq.platform.relay import Bell, Forward, Relay
from cliniq.platform.sealing import Sealer
from cliniq.platform.signing import Keyring
from cliniq.platform.slow import slow_log
from cliniq.platform.storage import open_storage
from cliniq.platform.telemetry import CacheCounts, Metrics
from cliniq.platform.tokens import AccessTokens
from cliniq.platform.upkeep import keep_up
from cliniq.worker import REGISTRY

ROOMS = (
    identity_http,
    access_http,
    clinics_http,
    intake_http,
    patients_http,
    appointments_http,
    checkin_http,
    queue_http,
    live_http,
    demo,
)
WARMED = 200  # clinics of an installation, at start
# What the cache keeps of a clinic, and the facts that make it stale.
STALE: Mapping[str, Cached[Any]] = {
    clinics.SiteOpened.kind: clinics.SITES,
    clinics.PointOpened.kind: clinics.PLACES,
    clinics.PointRekeyed.kind: clinics.PLACES,
    checkin.WindowRuleAdded.kind: checkin.RULES,
}

log = structlog.get_logger(__name__)

NO_PROMISES = Registry(())
TOPICS: Mapping[str, Topic] = {"queue": queue_http.queue_topic}


@dataclass(frozen=True, slots=True)
class House:
    """Everything that one process opens once, joined."""

    entrance: Entrance
    desk: SignInDesk
    passwords: Passwords
    relay: Relay
    outbound: Outbound
    metrics: Metrics
    pulse: Pulse


@asynccontextmanager
async def open_house(
    dsn: str,
    master: str,
    pool_size: int,
    clocks: Clocks,
    backends: Backends = ALONE,
    promises: Registry | None = REGISTRY,
) -> AsyncIterator[House]:
    """Open pools, keys and desks; close them in the other order.

    What is told is passed on, and the `promises` of those who hear of it are made, once the root
    runs the relay of the house: not before the process is known to be one that may.
    """
    keyring, metrics = Keyring(master), Metrics()
    tokens = AccessTokens(keyring, clocks.wall)
    storage = open_storage(backends, keyring, clocks.wall)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        passwords = stack.enter_context(Passwords())
        pulse = await enter(open_pulse(dsn, backends))
        outbound = await enter(open_outbound(clocks.wall, metrics))
        opening = partial(open_database, dsn, pool_size, clocks, pooler=backends.pooler)
        cache, database, bus, bell = await _open_base(
            stack, opening, backends, metrics, Sealer(keyring)
        )
        forward = _forwarding(promises or NO_PROMISES, cache)
        hub, relay = Hub(bus), Relay(database, bus, bell, forward)
        limits = await enter(open_limits(backends.redis_url, database, keyring.key("limits")))
        spent = await enter(open_spent(backends.redis_url, database, clocks.wall))
        metrics.show(relay.figures.collectors)
        doorkeeper = Doorkeeper(tokens, clocks.wall)
        passes = Passes(keyring, clocks.wall, spent)
        paces = scaled(PACES, backends.rate_scale)
        entrance = Entrance(database, doorkeeper, keyring, hub, limits, bus, storage, passes, paces)
        desk = SignInDesk(database, passwords, tokens, keyring, limits, hub, hint_at)
        await hub.open(partial(_read_epoch, database))
        stack.callback(hub.close)
        yield House(entrance, desk, passwords, relay, outbound, metrics, pulse)


async def _open_base(
    stack: AsyncExitStack,
    opening: Callable[[Beside], AbstractAsyncContextManager[Database]],
    backends: Backends,
    metrics: Metrics,
    sealer: Sealer,
) -> tuple[Cache, Database, Bus, Bell]:
    """Open the database and what stands beside it."""
    bus = await stack.enter_async_context(open_bus(backends.redis_url))
    cache = await stack.enter_async_context(open_cache(backends.redis_url, bus))
    metrics.show([CacheCounts(cache.counts)])
    bell = Bell(bus)
    slow = slow_log(backends.slow_query_ms, metrics.count_slow)
    beside = Beside(bell.ring, lane_waker(bus), cache, slow, sealer)
    return cache, await stack.enter_async_context(opening(beside)), bus, bell


def tools_of(house: House, address: str) -> Tools:
    """Give errands what this house has."""
    entrance = house.entrance
    return Tools(entrance.database, entrance.storage, house.outbound, entrance.keyring, address)


def _forwarding(promises: Registry, cache: Cache) -> Forward:
    """Pass facts on to the jobs of those who hear of them, and to the cache."""

    async def forward(unit: Unit, told: Sequence[Told]) -> None:
        await promises.forward(unit, told)
        for each in told:
            unit.after_commit(partial(forget_told, cache, each.kind, each.clinic_id))

    return forward


async def _read_epoch(database: Database) -> str:
    """Name the history of the database, for the hub."""
    async with open_read_unit(database, PlatformScope("read the epoch")) as unit:
        return await live_store.read_epoch(unit)


def build_app(
    house: House | None = None,
    address: str = "",
    stage: demo.Stage | None = None,
    trusted_proxies: str | None = None,
) -> FastAPI:
    """Join the rooms into one application. Without a house it can only describe itself."""
    app = FastAPI(
        title="Cliniq",
        version=__version__,
        lifespan=_keep_up if house else None,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,  # an address with a slash too many does not exist
    )
    app.state.address = address
    app.state.topics = TOPICS
    app.state.metrics = house.metrics if house is not None else Metrics()
    app.state.metrics_of_all = None
    app.state.stage = stage
    app.state.reset_demo = None
    if house is not None:
        app.state.entrance = house.entrance
        app.state.sign_in_desk = house.desk
        app.state.pulse = house.pulse
    speak_problems(app)
    for room in ROOMS:
        app.include_router(room.router, prefix=API)
    app.include_router(system.router)
    app.include_router(files.router)
    if naked := unguarded_doors(app):
        raise RuntimeError(f"unguarded: {naked}")
    assets = StaticFiles(directory=str(resources.files("cliniq.web") / "assets"))
    app.mount("/assets", GZipMiddleware(assets))
    _describe_further(app)
    # Outermost, around even what FastAPI answers before any middleware of ours could see it.
    switchboard = Switchboard(app, app.build_middleware_stack())
    app.middleware_stack = Envelope(switchboard, app.state.metrics, Proxies(trusted_proxies))
    return app


def _describe_further(app: FastAPI) -> None:
    """Put into the document what FastAPI does not know: the shape of a refusal, and the sign-in."""
    describe = app.openapi

    def with_more() -> dict[str, object]:
        document = describe()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = SCHEMA
        components["securitySchemes"] = SCHEMES
        return document

    app.openapi = with_more  # type: ignore[method-assign]


@asynccontextmanager
async def _keep_up(app: FastAPI) -> AsyncIterator[None]:
    entrance: Entrance = app.state.entrance
    tasks = [
        asyncio.create_task(keep_up(entrance.database)),
        asyncio.create_task(warm_up(entrance.database)),
    ]
    try:
        yield
    finally:
        await end_all(*tasks)


def forget_told(cache: Cache, kind: str, clinic_id: UUID) -> None:
    """Have what a fact makes stale forgotten again, now that its telling has come through.

    Whoever told it has done so already, unless it was killed right after its COMMIT.
    """
    if (stale := STALE.get(kind)) is not None:
        forget(cache, stale, ClinicId(clinic_id))


async def warm_up(database: Database) -> None:
    """Have what many will ask for in memory before they do.

    Bounds: the first `WARMED` clinics, one after the other. Never raises: it is only a favour.
    """
    try:
        async with open_read_unit(database, PlatformScope("warm the cache")) as unit:
            known = await clinics.list_clinics(unit)
        for clinic in known[:WARMED]:
            async with open_read_unit(database, GuestScope(ClinicId(clinic.clinic_id))) as unit:
                await clinics.warm(unit)
                await checkin.warm(unit)
    except Exception as error:  # noqa: BLE001 - whoever comes finds it cold
        log.warning("the cache is not warm", error=type(error).__name__)
