"""The bus between processes, over Redis' sharded publish and subscribe.

Redis forgets what nobody hears: a subscriber whose connection breaks has missed something and does
not know what. So this one watches its connection, and tells of the gap once it hears again.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from random import uniform

import structlog

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.bus import Bus, Heard, LocalBus, Message
from cliniq.platform.endings import end_all
from cliniq.platform.redis_link import ABSENT, Line, Link, answering, open_line, open_link

log = structlog.get_logger(__name__)

PING_SECONDS = 2.0  # silence for twice as long is the end of a connection
PATIENCE_SECONDS = 5.0  # for a subscription to be confirmed
LONGEST_PAUSE_SECONDS = 2.0  # between two tries to connect
MOST_WAITING = 1000  # posted and not yet taken
CHANNELS_AT_ONCE = 500
GAP = "bus/gap"  # somebody could not say what others should have heard


@asynccontextmanager
async def open_bus(redis_url: str | None) -> AsyncIterator[Bus]:
    """Open what carries messages: within this process alone, or through Redis.

    A Redis that is away does not keep a process from starting: it is heard as soon as it is there.
    """
    if redis_url is None:
        yield LocalBus()
        return
    async with open_link(redis_url) as link:
        bus = RedisBus(link)
        async with bus.open():
            yield bus


class RedisBus:
    """Carries messages between all processes at one Redis; one's own come back the same way."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._listening: dict[str, list[Heard]] = {GAP: [self._others_lost]}
        self._acts: list[Callable[[], None]] = []
        self._line: Line | None = None
        self._asked: Counter[str] = Counter()  # subscriptions that the line has yet to confirm
        self._confirmed: dict[str, asyncio.Event] = {}
        self._missing: set[str] = set()  # heard before the line broke, and not yet again
        self._has_gap = False
        self._posted: deque[Message] = deque()
        self._has_post = asyncio.Event()
        self._owes_gap = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen and send until closed. Waits for the first connection, but not for long."""
        tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._send())]
        try:
            with suppress(DependencyUnavailable):
                await self._await_confirmation(GAP)
            yield
        finally:
            await end_all(*tasks)

    # --- saying -----------------------------------------------------------------------------------

    async def publish(self, messages: Iterable[Message]) -> None:
        """Say something to all who listen, in this order, and know that it was taken.

        Raises: DEPENDENCY_UNAVAILABLE 503 where it was not; some may have been heard all the same.
        """
        with answering():
            async with self._link.pipeline(transaction=False) as pipeline:
                for channel, body in messages:
                    pipeline.execute_command("SPUBLISH", channel, body)
                await pipeline.execute()

    def post(self, message: Message) -> None:
        """Say something without waiting.

        Bounds: `MOST_WAITING` wait. What is lost, by that bound or by Redis, is followed by a
        gap notice to every process as soon as Redis takes one.
        """
        if len(self._posted) >= MOST_WAITING:
            self._owes_gap = True
        else:
            self._posted.append(message)
        self._has_post.set()

    async def _send(self) -> None:
        """Send what is posted, in its order; what is lost is lost, but not unnoticed."""
        while True:
            await self._has_post.wait()
            self._has_post.clear()
            messages = [self._posted.popleft() for _ in range(len(self._posted))]
            if not await self._is_taken(messages):
                self._owes_gap = True
            while self._owes_gap:
                self._owes_gap = False
                if not await self._is_taken([Message(GAP, b"")]):
                    self._owes_gap = True
                    await asyncio.sleep(uniform(0.5, 1) * LONGEST_PAUSE_SECONDS)  # noqa: S311

    async def _is_taken(self, messages: Iterable[Message]) -> bool:
        try:
            await self.publish(messages)
        except DependencyUnavailable:
            return False
        return True

    # --- hearing ----------------------------------------------------------------------------------

    async def listen(self, channel: str, heard: Heard) -> None:
        """Have `heard` called with whatever is said on a channel from when this returns.

        Bounds: waits `PATIENCE_SECONDS` for Redis to confirm it.
        Raises: DEPENDENCY_UNAVAILABLE 503 where it does not; nothing is heard then.
        """
        listening = self._listening.setdefault(channel, [])
        listening.append(heard)
        try:
            if channel not in self._confirmed:
                self._confirmed[channel] = asyncio.Event()
                await self._ask("SSUBSCRIBE", channel)
            await self._await_confirmation(channel)
        except BaseException:
            await self.ignore(channel, heard)
            raise

    async def _await_confirmation(self, channel: str) -> None:
        confirmed = self._confirmed.setdefault(channel, asyncio.Event())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await confirmed.wait()
        except TimeoutError:
            raise DependencyUnavailable("redis") from None

    async def ignore(self, channel: str, heard: Heard) -> None:
        """Stop listening. Never raises."""
        listening = self._listening.get(channel, [])
        if heard in listening:
            listening.remove(heard)
        if channel in self._listening and not listening:
            del self._listening[channel]
            self._confirmed.pop(channel, None)
            self._no_longer_missing(channel)
            await self._ask("SUNSUBSCRIBE", channel)

    def on_gap(self, act: Callable[[], None]) -> None:
        """Have `act` called whenever messages may have been lost, once all is heard again."""
        self._acts.append(act)

    async def _ask(self, word: str, *channels: str) -> None:
        """Send a command on the line, if there is one: a new line asks for all anyway."""
        line = self._line
        if line is None or not line.is_connected:  # by itself it would connect, and hear nothing
            return
        if word == "SSUBSCRIBE":
            self._asked.update(channels)
        with suppress(*ABSENT):  # who reads from the line notices
            await line.send_command(word, *channels, check_health=False)

    async def _hear(self) -> None:
        """Keep a line open: connect, subscribe to everything, read, and begin anew."""
        pause = 0.0
        while True:
            try:
                self._line = await open_line(self._link)
                await self._subscribe_to_all()
                pause = 0.0
                await self._read(self._line)
            except ABSENT as error:
                log.warning("redis is not heard", error=type(error).__name__)
            finally:
                await self._hang_up()
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2 + 0.1)
            await asyncio.sleep(pause * uniform(0.5, 1))  # noqa: S311 - it only spreads

    async def _subscribe_to_all(self) -> None:
        channels = list(self._listening)
        self._missing = set(channels)
        for at in range(0, len(channels), CHANNELS_AT_ONCE):
            await self._ask("SSUBSCRIBE", *channels[at : at + CHANNELS_AT_ONCE])

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        self._asked.clear()
        for confirmed in self._confirmed.values():
            self._has_gap = self._has_gap or confirmed.is_set()
            confirmed.clear()
        if line is not None:
            with suppress(*ABSENT):
                await line.disconnect(nowait=True)

    async def _read(self, line: Line) -> None:
        """Take what comes. Raises: TimeoutError where nothing comes although something must."""
        has_asked = False
        while True:
            said = await line.read_response(timeout=PING_SECONDS, disconnect_on_error=False)
            if said is not None:
                has_asked = False
                self._take(said)
            elif has_asked:
                raise TimeoutError
            else:
                has_asked = True
                await line.send_command("PING", check_health=False)

    def _take(self, said: object) -> None:
        match said:
            case [b"smessage", bytes(channel), bytes(body)]:
                self._tell(channel.decode(), body)
            case [b"ssubscribe", bytes(channel), _]:
                self._confirm(channel.decode())
            case _:
                pass  # an answer to a ping, or the end of a subscription

    def _tell(self, channel: str, body: bytes) -> None:
        for heard in tuple(self._listening.get(channel, ())):
            try:
                heard(body)
            except Exception:
                log.exception("a message was not understood", channel=channel)

    def _confirm(self, channel: str) -> None:
        self._asked[channel] -= 1
        if self._asked[channel] > 0:  # asked again after an end that comes first
            return
        del self._asked[channel]
        if channel in self._confirmed:
            self._confirmed[channel].set()
        self._no_longer_missing(channel)

    def _no_longer_missing(self, channel: str) -> None:
        self._missing.discard(channel)
        if self._has_gap and not self._missing and self._line is not None:
            self._has_gap = False
            self._mend()

    def _others_lost(self, _body: bytes) -> None:
        self._mend()

    def _mend(self) -> None:
        log.info("messages may have been lost")
        for act in tuple(self._acts):
            try:
                act()
            except Exception:
                log.exception("a gap was not mended")
