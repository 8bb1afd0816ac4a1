"""Serving: from settings to a listening socket, and cleanly back."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from signal import SIGINT, SIGTERM

import uvicorn
from rich.console import Console
from typing_extensions import override

from cliniq.app import House, build_app, open_house, tools_of
from cliniq.cli.crews import QuietServer, supervise
from cliniq.cli.rehearsals import Demonstration, Running, playing, rehearse
from cliniq.demo import Stage
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.clock import Clocks
from cliniq.platform.crew import Crew
from cliniq.platform.health import complaints
from cliniq.platform.http.system import exposition
from cliniq.platform.http.wire import Door, LiveSocket
from cliniq.platform.line import Line
from cliniq.platform.live import Hub
from cliniq.platform.memory import settle
from cliniq.platform.migrate import migrate
from cliniq.platform.processes import at_work
from cliniq.platform.rehearsal import ensure_rehearsal, load_clocks, mark, wipe
from cliniq.platform.settings import Settings, load_settings, master_secret
from cliniq.platform.source import database_urls, owner_of
from cliniq.platform.telemetry import configure_logs
from cliniq.platform.traces import configure_traces
from cliniq.platform.upkeep import upkeep
from cliniq.worker import working

REFUSED = 2  # the exit code of what an operator can mend
GRACE_SECONDS = 10
DRAIN_SECONDS = 5  # over which sockets are sent away, so that they do not all return at once
LINGER_SECONDS = 0.2  # in which whoever was let in last says what they want
CREW_SECONDS = 30  # for one of a crew: it drains, has its grace, and lets go of its connections
DEAF_MILLISECONDS = 30_000
LARGEST_FRAME_BYTES = 4096
BACKLOG = 2048
PING_SECONDS = 20  # a socket that answers none within as many more is closed

console = Console(stderr=True)


class StartRefused(Exception):
    """The process cannot start; the message is one sentence for the operator."""


class _Server(QuietServer):
    """Says when it serves, and ends in order."""

    def __init__(self, config: uvicorn.Config, hub: Hub, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.servers = []  # none until it has started
        self._hub = hub
        self._started = started
        self._ending: asyncio.Task[None] | None = None

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    def end(self) -> None:
        """Stop gracefully; told a second time, do not wait for those still being served."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
            return
        self.force_exit = True
        self.should_exit = True

    async def _end(self) -> None:
        """Let nobody in, send the sockets away one after the other, and then the rest."""
        for each in self.servers:
            each.close()
        try:
            await asyncio.sleep(LINGER_SECONDS)
            if len(self._hub):
                await self._hub.drain(DRAIN_SECONDS)
        finally:
            self.should_exit = True


async def up(*, demo: bool, pace: float = 0) -> None:
    """Migrate, then serve; with a demo if asked, which goes at `pace` or stands still at 0.

    A demo that goes is emptied when it starts, and again whenever somebody has it begin anew.
    Raises: SettingsRefused, EmbeddedDatabaseRefused, MigrationRefused, LeaseRefused, StartRefused,
    RealInstallation.
    """
    settings = load_settings()
    # People come and go all the time in a demo that goes: what they are refused is no news.
    quiet = demo and pace and settings.log_level == "info"
    configure_logs("warning" if quiet else settings.log_level)
    with configure_traces(settings.otlp_url, "api"), _listening(settings) as listener:
        async with database_urls(settings) as urls:
            await migrate(owner_of(urls), Clocks())
            if not (demo and pace):
                await _serve(settings, urls.application, listener, "up", demo=demo)
                return
            await mark(owner_of(urls))
            running = Running(settings, pace)
            listener.listen(BACKLOG)  # whoever comes while it begins anew waits a little
            while running.begins():
                await wipe(owner_of(urls))
                with listener.dup() as shared:
                    await _serve(running.settings, urls.application, shared, "up", demo=running)


async def serve_only() -> None:
    """Serve a database that is migrated already.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, LeaseRefused, StartRefused.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    with configure_traces(settings.otlp_url, "api"), _listening(settings) as listener:
        async with database_urls(settings) as urls:
            await _serve(settings, urls.application, listener, "serve")


async def serve_together(size: int, metrics_port: int | None) -> None:
    """Serve with a crew of processes on one port.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, StartRefused, CrewFailed.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    if size > 1 and settings.redis_url is None:
        raise StartRefused(
            f"{size} processes need Redis between them: set CLINIQ_REDIS_URL, or serve with one."
        )
    master_secret(settings)  # made once, before several look for it
    with _listening(settings) as listener:
        listener.listen(BACKLOG)
        shared = listener.fileno()

        def words(line: int) -> list[str]:
            return [sys.executable, "-m", "cliniq.cli.main", "member", str(shared), str(line)]

        def tell_where() -> None:
            served_by = f"{size} processes" if size > 1 else "one process"
            announce(f"Cliniq is at {settings.address}, served by {served_by}")

        async with database_urls(settings):
            crew = Crew(words, [shared], patience=CREW_SECONDS, refused=REFUSED)
            await supervise(
                crew, size, tell_where, metrics_port=metrics_port, stopping=listener.close
            )


async def serve_as_member(listener: int, line: int) -> None:
    """Serve as one of a crew, on the files that its supervisor has left open.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, LeaseRefused, StartRefused.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    with (
        configure_traces(settings.otlp_url, "api"),
        socket.socket(fileno=listener) as shared,
        socket.socket(fileno=line) as end,
    ):
        async with database_urls(settings) as urls:
            await _serve(settings, urls.application, shared, "serve", line=end)


def announce(sentence: str) -> None:
    """Say to the operator what is so from now on."""
    console.print(sentence, style="bold", highlight=False, soft_wrap=True)


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
    kind: str,
    *,
    demo: Running | bool = False,
    line: socket.socket | None = None,
) -> None:
    if wrong := await complaints(dsn):
        raise StartRefused(wrong[0])
    clocks = load_clocks(settings)
    async with (
        open_house(
            dsn, master_secret(settings), settings.pool_size, clocks, settings.backends
        ) as house,
        at_work(
            house.entrance.database,
            kind,
            has_redis=settings.redis_url is not None,
            lost=lambda: signal.raise_signal(SIGTERM),
            say=announce,
        ),
        house.relay.running(),
    ):
        if settings.clinic_clock is not None:
            await ensure_rehearsal(house.entrance.database)
        await _look_ahead(house)
        async with AsyncExitStack() as stack:
            if kind == "up":
                await stack.enter_async_context(_working(house, settings))
            demonstration = None
            if demo:
                running = demo if isinstance(demo, Running) else None
                demonstration = await rehearse(house, running)
            await _answer(settings, house, demonstration, listener, line)


async def _answer(
    settings: Settings,
    house: House,
    shown: Demonstration | None,
    listener: socket.socket,
    line: socket.socket | None,
) -> None:
    """Answer requests until told to stop."""
    stage = shown.stage if shown and not shown.running else None  # shown once it is open
    app = build_app(house, settings.address, stage, settings.trusted_proxies)
    settle()
    started = asyncio.Event()
    server = _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=Door,
            ws=LiveSocket,
            ws_max_size=LARGEST_FRAME_BYTES,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            ws_per_message_deflate=False,
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # the envelope knows the proxies
            timeout_graceful_shutdown=GRACE_SECONDS,
            backlog=BACKLOG,
        ),
        house.entrance.hub,
        started.set,
    )
    for each in (SIGINT, SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, server.end)
    if line is None and not (shown and shown.running):
        announce(f"Cliniq is at {settings.address}")
    tell = partial(exposition, app)
    async with _on_line(line, tell, server, started) if line else nullcontext() as joined:
        app.state.metrics_of_all = joined.ask if joined else None
        app.state.reset_demo = None

        def offer(stage: Stage, begin_anew: Callable[[], None]) -> None:
            app.state.stage, app.state.reset_demo = stage, begin_anew

        async with playing(house, settings, shown, server.end, offer, announce):
            await server.serve([listener])
        if server.force_exit:  # uvicorn has left at once, and all else is still open
            house.entrance.database.cut()
            await server.lifespan.shutdown()
    for each in (SIGINT, SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(each)


def _working(house: House, settings: Settings) -> AbstractAsyncContextManager[None]:
    """Work off jobs in this process, with half of the connections: requests have the other half."""
    hands = max(1, settings.pool_size // 2)
    tools = tools_of(house, settings.address)
    return working(tools, house.entrance.bus, house.metrics, hands=hands)


@asynccontextmanager
async def _on_line(
    end: socket.socket,
    tell: Callable[[], Awaitable[bytes]],
    server: _Server,
    started: asyncio.Event,
) -> AsyncIterator[Line]:
    """Be one of a crew: say when we serve, tell metrics, and go when the supervisor has gone."""

    async def watch() -> None:
        await started.wait()
        line.say_ready()
        await line.ended()
        server.end()

    line = await Line.over(end, tell)
    watching = asyncio.create_task(watch())
    try:
        yield line
    finally:
        watching.cancel()
        await line.close()


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
