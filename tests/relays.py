"""Somebody who hears what a house tells, passed on by hand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from typing_extensions import override

from cliniq.app import House
from cliniq.platform.bus import Bus, LocalBus, Message
from cliniq.platform.db import Unit
from cliniq.platform.events import Told
from cliniq.platform.live_connection import Connection
from cliniq.platform.live_frames import LiveEvent, event_in
from cliniq.platform.relay import Bell, Forward, Relay
from tests.support import Admin


class Ear(LocalBus):
    """A bus that keeps every live event that is said on it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[LiveEvent] = []

    @override
    def post(self, message: Message) -> None:
        super().post(message)
        if message.channel.startswith("live/"):
            self.events.append(event_in(message.body))


class Listener:
    """Hears what was told since it last asked."""

    def __init__(self, relay: Relay, ear: Ear) -> None:
        self.relay = relay
        self._ear = ear

    async def told(self) -> list[LiveEvent]:
        await self.relay.drain()
        told, self._ear.events = self._ear.events, []
        return told


async def forward_to_nobody(_unit: Unit, _told: Sequence[Told]) -> None:
    """Make no jobs: nobody hears."""


def relay_of(house: House, bus: Bus | None = None, forward: Forward = forward_to_nobody) -> Relay:
    """A relay beside the house's own, to be driven by hand."""
    bus = bus or LocalBus()
    return Relay(house.entrance.database, bus, Bell(bus), forward)


async def free_leases(admin: Admin) -> None:
    """Have no relay hold or want anything: those of other tests may have been killed."""
    await admin.execute(
        "update relay_lease set holder = null, expires_at = null; delete from relay"
    )


@asynccontextmanager
async def hearing(house: House, admin: Admin) -> AsyncIterator[Listener]:
    """Listen to a house from now on."""
    await free_leases(admin)
    ear = Ear()
    listener = Listener(relay_of(house, ear), ear)
    await listener.told()
    try:
        yield listener
    finally:
        await listener.relay.leave()


async def next_frame(connection: Connection) -> str:
    """Wait for what a connection is told next."""
    arrived = asyncio.Event()
    connection.attend(arrived.set)
    while not connection.frames:
        arrived.clear()
        await asyncio.wait_for(arrived.wait(), 30)
    return connection.frames.pop(0).text
