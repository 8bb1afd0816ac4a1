"""A crew: processes that do the same work, each started afresh, watched, and started again.

Each gets one end of a line as an inherited file, and stops by itself once the other end is gone:
a crew does not outlive its supervisor, however that ended. SIGTERM asks a process to finish what it
took and end; a second one not to wait. Each has a session of its own, so that Ctrl-C in a terminal
reaches the supervisor alone.
"""

import asyncio
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from signal import SIGKILL, SIGTERM
from typing import Any

import structlog

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.exposition import merged
from cliniq.platform.line import Line
from cliniq.platform.staffing import Bounds, pause_after, wanted

log = structlog.get_logger(__name__)

CUT_SECONDS = 5  # for one that was told twice
START_SECONDS = 60  # for a successor to get ready
LOOK_SECONDS = 2.0
CALM_LOOKS = 5
STEADY_SECONDS = 10  # whoever lives longer did not die of its start


@dataclass(frozen=True, eq=False)
class Member:
    """One process that runs, and the line to it."""

    process: Process
    line: Line
    began: float

    @property
    def is_ready(self) -> bool:
        """Tell whether it serves."""
        return self.line.other_is_ready.is_set() and self.process.returncode is None

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self, patience: float) -> None:
        """Have it finish and end; whoever takes longer than `patience` seconds is killed."""
        for number, seconds in ((SIGTERM, patience), (SIGTERM, CUT_SECONDS), (SIGKILL, None)):
            self.signal(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.process.wait()
                break
        await self.line.close()


@dataclass(eq=False)
class Seat:
    """A place in the crew, and who has it now."""

    number: int
    member: Member | None = None
    deaths: int = 0
    leaving: asyncio.Event = field(default_factory=asyncio.Event)


class Crew:
    """Keeps as many processes running as it is told to.

    `command` gives the words of one, by the number of the file that is its end of the line;
    `inherited` are files that all get; `patience`: seconds in which one that is told to end must;
    `refused`: the exit code of one that will not start, however often it is tried.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        inherited: Sequence[int] = (),
        *,
        patience: float,
        refused: int | None = None,
    ) -> None:
        self._command = command
        self._inherited = tuple(inherited)
        self._patience = patience
        self._refused = refused
        self._seats: dict[int, Seat] = {}
        self._running: set[Member] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_served = False
        self.failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def size(self) -> int:
        """Say how many there should be; who is leaving does not count."""
        return len(self._seats)

    @property
    def pids(self) -> dict[int, int]:
        """List who serves now: process numbers, by seat."""
        return {seat.number: member.process.pid for seat, member in self._serving()}

    def resize(self, size: int) -> None:
        """Add seats, or have those with the highest numbers finish what they took and leave."""
        for number in range(self.size + 1, size + 1):
            seat = self._seats[number] = Seat(number)
            task = asyncio.create_task(self._keep(seat))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for number in range(self.size, size, -1):
            self._seats.pop(number).leaving.set()

    async def ready(self) -> bool:
        """Wait until everybody serves; say no where the crew has failed."""
        while len(self._serving()) < self.size:
            if self.failed.done():
                return False
            await asyncio.sleep(0.02)
        self._has_served = True
        return True

    async def roll(self) -> bool:
        """Replace everybody, one by one: who leaves has a successor that serves already.

        Say no where a successor did not get ready; then it and the rest stay as they are.
        """
        for seat in list(self._seats.values()):
            successor = await self._start()
            if not await _got_ready(successor, seat) or seat.leaving.is_set():
                await self._dismiss(successor)
                return False
            former, seat.member = seat.member, successor
            if former is not None:
                await self._dismiss(former)
        return True

    async def stop(self) -> None:
        """Have everybody finish what they took and end."""
        self.resize(0)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Tell everybody once more to end, and not to wait for what they took."""
        loop = asyncio.get_running_loop()
        for member in self._running:
            member.signal(SIGTERM)
            loop.call_later(CUT_SECONDS, member.signal, SIGKILL)

    async def metrics(self) -> bytes:
        """Write the metrics of everybody who serves, by the number of the seat."""
        asked = {
            str(seat.number): asyncio.ensure_future(member.line.ask())
            for seat, member in self._serving()
        }
        await asyncio.gather(*asked.values(), return_exceptions=True)
        return merged({name: each.result() for name, each in asked.items() if not each.exception()})

    def _serving(self) -> list[tuple[Seat, Member]]:
        seats = self._seats.values()
        return [(each, each.member) for each in seats if each.member and each.member.is_ready]

    async def _keep(self, seat: Seat) -> None:
        """Keep a process in a seat until it is given up."""
        try:
            while not seat.leaving.is_set():
                if seat.member is None:
                    seat.member = await self._start()
                member = seat.member
                await _first_of(member.process.wait(), seat.leaving.wait())
                if member is seat.member and member.process.returncode is not None:
                    seat.member = None
                    await self._dismiss(member)
                    if not seat.leaving.is_set():
                        await self._mourn(seat, member)
        except Exception:
            log.exception("a process of the crew cannot be started")
            self._fail(1)
        finally:
            if seat.member is not None:
                await self._dismiss(seat.member)

    async def _mourn(self, seat: Seat, member: Member) -> None:
        """Wait before another one is started; or find that there is no use in that."""
        code = member.process.returncode or 0
        lived = asyncio.get_running_loop().time() - member.began
        seat.deaths = 1 if lived > STEADY_SECONDS else seat.deaths + 1
        pause = pause_after(seat.deaths, serving=bool(self._serving()), has_served=self._has_served)
        if pause is None or (code == self._refused and not self._has_served):
            self._fail(code or 1)
            await seat.leaving.wait()
            return
        log.error("a process of the crew has died", seat=seat.number, code=code, again_in=pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await seat.leaving.wait()

    def _fail(self, code: int) -> None:
        if not self.failed.done():
            self.failed.set_result(code)

    async def _start(self) -> Member:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command(theirs.fileno()),
                    stdin=DEVNULL,
                    pass_fds=(theirs.fileno(), *self._inherited),
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        line = await Line.over(ours, self.metrics)
        member = Member(process, line, asyncio.get_running_loop().time())
        self._running.add(member)
        return member

    async def _dismiss(self, member: Member) -> None:
        await member.stop(self._patience)
        self._running.discard(member)


async def breathe(
    crew: Crew, bounds: Bounds, depths: Callable[[], Awaitable[Mapping[str, int]]]
) -> None:
    """Have the crew grow and shrink by what waits in the lanes, until cancelled.

    It grows at once, and shrinks when it was found too large several times in a row.
    """
    calm = 0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            size = wanted(await depths(), crew.size, bounds)
        except DependencyUnavailable:
            continue
        except Exception:
            log.exception("nobody knows how much there is to do")
            continue
        calm = calm + 1 if size < crew.size else 0
        if size > crew.size or calm >= CALM_LOOKS:
            log.info("the crew changes its size", before=crew.size, after=size)
            crew.resize(size)
            calm = 0


async def _got_ready(member: Member, seat: Seat) -> bool:
    ready, ended = member.line.other_is_ready.wait(), member.process.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            await _first_of(ready, ended, seat.leaving.wait())
    return member.is_ready


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
