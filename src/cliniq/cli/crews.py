"""Supervising: a crew from its first process to its last, told by signals what to do."""

import asyncio
import socket
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from signal import SIGHUP, SIGINT, SIGTERM
from typing import Any

import structlog
import uvicorn
from typing_extensions import override

from cliniq.platform.crew import Crew, breathe
from cliniq.platform.http.scrape import metrics_page
from cliniq.platform.staffing import Bounds

log = structlog.get_logger(__name__)


class CrewFailed(Exception):
    """The processes of a crew die as soon as they are started; `code` is how the last one ended."""

    def __init__(self, code: int) -> None:
        super().__init__("The processes do not start: see what they said above.")
        self.code = abs(code)


class QuietServer(uvicorn.Server):
    """uvicorn without signal handlers of its own, which would end us before we have cleaned up."""

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


Tending = Callable[[], Coroutine[Any, Any, None]]


async def supervise(
    crew: Crew,
    size: int,
    announce: Callable[[], None],
    *,
    metrics_port: int | None = None,
    stopping: Callable[[], None] = lambda: None,
    tending: Tending | None = None,
) -> None:
    """Run a crew until SIGTERM or SIGINT; a second one does not wait. SIGHUP replaces everybody.

    The first process goes ahead, so that what all would refuse is said once. `announce` is called
    when everybody serves, `stopping` before anybody is told to end; `tending` runs in between.
    Raises: CrewFailed, or OSError where the metrics' port cannot be had.
    """
    orders = _Orders(crew)
    async with _scraped(crew, metrics_port):
        work = asyncio.create_task(_man(crew, size, announce, tending))
        ending = asyncio.create_task(orders.told.wait())
        try:
            await asyncio.wait([work, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            work.cancel()
            stopping()
            await crew.stop()
            await orders.finished()
    with suppress(asyncio.CancelledError):
        await work
    if crew.failed.done():
        raise CrewFailed(crew.failed.result())


async def keep_workers(
    words: Callable[[int], Sequence[str]],
    bounds: Bounds,
    depths: Callable[[], Awaitable[Mapping[str, int]]],
    *,
    patience: float,
    metrics_port: int | None = None,
    refused: int | None = None,
) -> None:
    """Keep between least and most processes at work, as many as the lanes need; see `supervise`.

    `words` start one, by the number of the file that is its line; `patience`: seconds for what one
    took when it is told to leave. Raises: CrewFailed.
    """
    crew = Crew(words, patience=patience, refused=refused)

    def announce() -> None:
        log.info("workers are at work", least=bounds.least, most=bounds.most)

    await supervise(
        crew,
        bounds.least,
        announce,
        metrics_port=metrics_port,
        tending=partial(breathe, crew, bounds, depths),
    )


class _Orders:
    """What signals have told us."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._rolling: asyncio.Task[None] | None = None
        self.told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (SIGTERM, SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(SIGHUP, self._renew)

    def _end(self) -> None:
        if self.told.is_set():
            self._crew.cut()
        self.told.set()

    def _renew(self) -> None:
        if not self.told.is_set() and (self._rolling is None or self._rolling.done()):
            self._rolling = asyncio.create_task(self._roll())

    async def _roll(self) -> None:
        log.info("everybody is replaced, one by one")
        if await self._crew.roll():
            log.info("everybody was replaced")
        elif not self.told.is_set():
            log.error("a successor did not get ready: the others stay")

    async def finished(self) -> None:
        """Wait until nobody is being replaced."""
        if self._rolling is not None:
            await asyncio.wait([self._rolling])


async def _man(
    crew: Crew, size: int, announce: Callable[[], None], tending: Tending | None
) -> None:
    """Start everybody, and see to them until the crew has failed."""
    for each in sorted({min(1, size), size}):
        crew.resize(each)
        if not await crew.ready():
            return
    announce()
    tended = asyncio.create_task(tending()) if tending else None
    try:
        await asyncio.shield(crew.failed)
    finally:
        if tended is not None:
            tended.cancel()
            await asyncio.gather(tended, return_exceptions=True)


@asynccontextmanager
async def _scraped(crew: Crew, port: int | None) -> AsyncIterator[None]:
    """Show the metrics of everybody on a port of this machine's own, if asked."""
    if port is None:
        yield
        return

    config = uvicorn.Config(
        metrics_page(crew.metrics),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = QuietServer(config)
    listener = socket.create_server(("127.0.0.1", port))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
