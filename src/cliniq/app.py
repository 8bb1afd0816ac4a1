"""The composition root of the web process; with `cli` and `demo`, all that knows every room."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import resources

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from cliniq import __version__, demo
from cliniq.domains.access import http as access_http
from cliniq.domains.access.api import Doorkeeper, hint_at
from cliniq.domains.appointments import http as appointments_http
from cliniq.domains.checkin import http as checkin_http
from cliniq.domains.clinics import http as clinics_http
from cliniq.domains.identity import http as identity_http
from cliniq.domains.identity.api import SignInDesk
from cliniq.domains.patients import http as patients_http
from cliniq.domains.queue import http as queue_http
from cliniq.platform.backends import ALONE, Backends
from cliniq.platform.bus import LocalBus
from cliniq.platform.clock import Clocks
from cliniq.platform.db import open_database
from cliniq.platform.health import Pulse, open_pulse
from cliniq.platform.http import live as live_http
from cliniq.platform.http import system
from cliniq.platform.http.envelope import Envelope
from cliniq.platform.http.guards import Entrance
from cliniq.platform.http.live import Topic
from cliniq.platform.http.problems import SCHEMA, speak_problems
from cliniq.platform.http.route import API, unguarded_doors
from cliniq.platform.http.switchboard import Switchboard
from cliniq.platform.limits import Limits
from cliniq.platform.live import Hub
from cliniq.platform.passwords import Passwords
from cliniq.platform.signing import Keyring
from cliniq.platform.telemetry import Metrics
from cliniq.platform.tokens import AccessTokens
from cliniq.platform.upkeep import keep_up

ROOMS = (
    identity_http,
    access_http,
    clinics_http,
    patients_http,
    appointments_http,
    checkin_http,
    queue_http,
    live_http,
    demo,
)
TOPICS: Mapping[str, Topic] = {"queue": queue_http.queue_topic}


@dataclass(frozen=True, slots=True)
class House:
    """Everything that one process opens once, joined."""

    entrance: Entrance
    desk: SignInDesk
    passwords: Passwords
    pulse: Pulse


@asynccontextmanager
async def open_house(
    dsn: str,
    master: str,
    pool_size: int,
    clocks: Clocks,
    backends: Backends = ALONE,
) -> AsyncIterator[House]:
    """Open pools, keys and desks; close them in the other order."""
    bus = LocalBus()
    hub, keyring, limits = Hub(), Keyring(master), Limits(clocks.wall)
    tokens = AccessTokens(keyring, clocks.wall)
    with Passwords() as passwords:
        async with (
            open_pulse(dsn, backends) as pulse,
            open_database(dsn, pool_size, clocks, hub.publish, pooler=backends.pooler) as database,
        ):
            doorkeeper = Doorkeeper(tokens, clocks.wall)
            entrance = Entrance(database, doorkeeper, keyring, hub, limits, bus)
            desk = SignInDesk(database, passwords, tokens, keyring, limits, hub, hint_at)
            yield House(entrance, desk, passwords, pulse)
            hub.close()


def build_app(
    house: House | None = None, address: str = "", stage: demo.Stage | None = None
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
    app.state.metrics = Metrics()
    app.state.metrics_of_all = None
    app.state.stage = stage
    if house is not None:
        app.state.entrance = house.entrance
        app.state.sign_in_desk = house.desk
        app.state.pulse = house.pulse
    speak_problems(app)
    for room in ROOMS:
        app.include_router(room.router, prefix=API)
    app.include_router(system.router)
    if naked := unguarded_doors(app):
        raise RuntimeError(f"unguarded: {naked}")
    assets = StaticFiles(directory=str(resources.files("cliniq.web") / "assets"))
    app.mount("/assets", GZipMiddleware(assets))
    _describe_problems(app)
    # Outermost, around even what FastAPI answers before any middleware of ours could see it.
    switchboard = Switchboard(app, app.build_middleware_stack())
    app.middleware_stack = Envelope(switchboard, app.state.metrics)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Put the shape of a refusal into the document, which FastAPI does not know."""
    describe = app.openapi

    def with_problems() -> dict[str, object]:
        document = describe()
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = SCHEMA
        return document

    app.openapi = with_problems  # type: ignore[method-assign]


@asynccontextmanager
async def _keep_up(app: FastAPI) -> AsyncIterator[None]:
    entrance: Entrance = app.state.entrance
    upkeep = asyncio.create_task(keep_up(entrance.database))
    try:
        yield
    finally:
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep
