"""Serving: from settings to a listening socket, and cleanly back."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from signal import SIGINT, SIGTERM

import uvicorn
from rich.console import Console
from typing_extensions import override

from cliniq.app import House, build_app, open_house
from cliniq.demo import set_stage
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.clock import Clocks
from cliniq.platform.health import complaints
from cliniq.platform.migrate import migrate
from cliniq.platform.settings import Settings, load_settings, master_secret
from cliniq.platform.source import database_urls, owner_of
from cliniq.platform.telemetry import Metrics, configure_logs
from cliniq.platform.traces import configure_traces
from cliniq.platform.upkeep import upkeep
from cliniq.worker import working

GRACE_SECONDS = 10
DEAF_MILLISECONDS = 30_000
LARGEST_FRAME_BYTES = 4096
PING_SECONDS = 20  # a socket that answers none within as many more is closed

console = Console(stderr=True)


class StartRefused(Exception):
    """The process cannot start; the message is one sentence for the operator."""


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own, which would end us before we have cleaned up."""

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def up(*, demo: bool) -> None:
    """Migrate, then serve; with a demo if asked.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, MigrationRefused, StartRefused.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    with configure_traces(settings.otlp_url, "api"), _listening(settings) as listener:
        async with database_urls(settings) as urls:
            await migrate(owner_of(urls), Clocks())
            await _serve(settings, urls.application, listener, demo=demo, works=True)


async def serve_only() -> None:
    """Serve a database that is migrated already.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, StartRefused.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    with configure_traces(settings.otlp_url, "api"), _listening(settings) as listener:
        async with database_urls(settings) as urls:
            await _serve(settings, urls.application, listener)


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Take the port first: whoever finds it taken has disturbed nothing."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: whoever takes nothing is let go
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAF_MILLISECONDS)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise StartRefused(
                f"Port {settings.port} of {settings.host} cannot be had ({error.strerror}):"
                " choose another with CLINIQ_PORT."
            ) from None
        yield listener


async def _serve(
    settings: Settings,
    dsn: str,
    listener: socket.socket,
    *,
    demo: bool = False,
    works: bool = False,
) -> None:
    if wrong := await complaints(dsn):
        raise StartRefused(wrong[0])
    async with open_house(
        dsn,
        master_secret(settings),
        settings.pool_size,
        Clocks(),
        settings.backends,
    ) as house:
        await _look_ahead(house)
        stage = await set_stage(house.entrance, house.desk) if demo else None
        app = build_app(house, settings.address, stage, settings.trusted_proxies)
        server = _Server(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=LARGEST_FRAME_BYTES,
                ws_ping_interval=PING_SECONDS,
                ws_ping_timeout=PING_SECONDS,
                ws_per_message_deflate=False,
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,  # the envelope knows the proxies
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        for signal in (SIGINT, SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signal, _stop, server)
        console.print(f"Cliniq is at {settings.address}", style="bold", highlight=False)
        async with _working(house, app.state.metrics, settings) if works else nullcontext():
            await server.serve([listener])
            if server.force_exit:  # uvicorn has left at once, and all else is still open
                house.entrance.database.cut()
                await server.lifespan.shutdown()


def _working(
    house: House, metrics: Metrics, settings: Settings
) -> AbstractAsyncContextManager[None]:
    """Work off jobs in this process, with half of the connections: requests have the other half."""
    hands = max(1, settings.pool_size // 2)
    return working(house.entrance.database, house.entrance.bus, metrics, hands=hands)


async def work_only() -> None:
    """Work off jobs until told to stop; then finish what was taken.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, StartRefused.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    stopped = asyncio.Event()
    async with database_urls(settings) as urls:
        if wrong := await complaints(urls.application):
            raise StartRefused(wrong[0])
        secret = master_secret(settings)
        async with open_house(
            urls.application, secret, settings.pool_size, Clocks(), settings.backends
        ) as house:
            entrance = house.entrance
            async with working(
                entrance.database, entrance.bus, Metrics(), hands=settings.pool_size
            ):
                for signal in (SIGINT, SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(signal, stopped.set)
                console.print("Cliniq works off jobs", style="bold", highlight=False)
                await stopped.wait()


async def _look_ahead(house: House) -> None:
    """Open the partitions of today before anybody writes into them.

    Raises: StartRefused.
    """
    try:
        await upkeep(house.entrance.database)
    except DependencyUnavailable:
        raise StartRefused(
            "The partitions ahead cannot be opened: something holds their tables locked."
        ) from None


def _stop(server: uvicorn.Server) -> None:
    """Stop gracefully; a second signal does not wait for those who are still being served."""
    server.force_exit = server.should_exit
    server.should_exit = True
