"""Messages between processes of one installation: fast, at most once each, in a channel's order.

Nothing may rest on the arrival of one. Who listens hears of it when some may have been lost, and
then reads the truth again.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeAlias

import structlog

from cliniq.kernel.problem import DependencyUnavailable

LATER_SECONDS = 1.0  # between two tries to hear a bus that is away

log = structlog.get_logger(__name__)

Heard: TypeAlias = Callable[[bytes], None]


class Message(NamedTuple):
    """What is said on a channel."""

    channel: str
    body: bytes


class Bus(Protocol):
    """What carries messages; which one, the composition root decides."""

    async def publish(self, messages: Iterable[Message]) -> None:
        """Say something to all who listen, in this order, and know that it was taken.

        Raises: DEPENDENCY_UNAVAILABLE 503 where it was not; some may have been heard all the same.
        """

    def post(self, message: Message) -> None:
        """Say something without waiting; where it cannot be said it is lost, and nobody is told."""

    async def listen(self, channel: str, heard: Heard) -> None:
        """Have `heard` called with whatever is said on a channel from when this returns.

        `heard` must not wait. Raises: DEPENDENCY_UNAVAILABLE 503.
        """

    async def ignore(self, channel: str, heard: Heard) -> None:
        """Stop listening. Never raises."""

    def on_gap(self, act: Callable[[], None]) -> None:
        """Have `act` called whenever messages may have been lost, once all is heard again."""


async def listen_later(
    bus: Bus, channels: Mapping[str, Heard], caught_up: Callable[[], None]
) -> None:
    """Listen to channels of a bus that is away, as soon as it is back; then call `caught_up`."""
    left = dict(channels)
    while left:
        await asyncio.sleep(LATER_SECONDS)
        with suppress(DependencyUnavailable):
            for channel, heard in tuple(left.items()):
                await bus.listen(channel, heard)
                del left[channel]
    caught_up()


class LocalBus:
    """Carries messages within one process, at once; none is ever lost."""

    def __init__(self) -> None:
        self._listening: dict[str, list[Heard]] = {}

    async def publish(self, messages: Iterable[Message]) -> None:
        """Say something to all who listen, in this order."""
        for message in messages:
            self.post(message)

    def post(self, message: Message) -> None:
        """Say something to all who listen."""
        for heard in tuple(self._listening.get(message.channel, ())):
            try:
                heard(message.body)
            except Exception:
                log.exception("a message was not understood", channel=message.channel)

    async def listen(self, channel: str, heard: Heard) -> None:
        """Have `heard` called with whatever is said on a channel."""
        self._listening.setdefault(channel, []).append(heard)

    async def ignore(self, channel: str, heard: Heard) -> None:
        """Stop listening."""
        listening = self._listening.get(channel, [])
        if heard in listening:
            listening.remove(heard)
        if not listening:
            self._listening.pop(channel, None)

    def on_gap(self, act: Callable[[], None]) -> None:
        """Within one process there are no gaps."""
