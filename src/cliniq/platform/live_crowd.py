"""Who is connected to this process: how many may be, and how all are sent away."""

import asyncio
import random
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from cliniq.kernel.problem import DependencyUnavailable, RateLimitExceeded, Unauthenticated
from cliniq.platform.live_connection import POLICY_VIOLATION, SERVICE_RESTART, Connection
from cliniq.platform.live_frames import bye_frame
from cliniq.platform.live_turnstile import PACE

MOST_OF_A_PERSON = 20  # tabs and devices
MOST_OF_AN_ADDRESS = 1000  # a hospital behind one address
MOST = 12_000
FILES_FOR_OTHERS = 500  # of the process's open files: HTTP, database, Redis
DRAIN_TICK = 0.05
PATIENCE_SECONDS = 5
SOON_MS = 250  # the earliest return of somebody who was sent away
AGAIN_SECONDS = 60
RESTARTING = "RESTARTING"

KeyT = TypeVar("KeyT")


class Crowd:
    """All connections of this process."""

    def __init__(self) -> None:
        self._connections: dict[Connection, None] = {}
        self._of_person: Counter[UUID] = Counter()
        self._of_address: Counter[str] = Counter()
        self._most = min(MOST, _files_for_sockets())
        self._is_leaving = False

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def spread_ms(self) -> int:
        """Say over how long all of them should come back, if all were lost at once.

        At the pace at which they are let in: nobody then knocks for nothing.
        """
        spread = len(self._connections) * 1000 // PACE
        return spread if spread > SOON_MS else 0  # a few need not be told

    def join(self, connection: Connection) -> None:
        """Let a connection in.

        Raises: RATE_LIMIT_EXCEEDED 429 where a person, an address or the process has as many as
        may be; DEPENDENCY_UNAVAILABLE 503 where the process is about to stop.
        """
        if self._is_leaving:
            raise DependencyUnavailable("live")
        person, address = connection.person_id, connection.address
        if (
            len(self._connections) >= self._most
            or (person is not None and self._of_person[person] >= MOST_OF_A_PERSON)
            or (address is not None and self._of_address[address] >= MOST_OF_AN_ADDRESS)
        ):
            raise RateLimitExceeded(AGAIN_SECONDS)
        self._connections[connection] = None
        _count(self._of_person, person, 1)
        _count(self._of_address, address, 1)

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection in self._connections:
            del self._connections[connection]
            _count(self._of_person, connection.person_id, -1)
            _count(self._of_address, connection.address, -1)

    def end_session(self, session_id: UUID) -> None:
        """Close the connections of a sign-in that has ended."""
        for connection in tuple(self._connections):
            if connection.session_id == session_id:
                connection.close(POLICY_VIOLATION, Unauthenticated.code)

    async def drain(self, seconds: float) -> None:
        """Send everyone away, spread over some time, each told when to come back; let nobody in.

        Returns once all have gone, or after `PATIENCE_SECONDS` more.
        """
        self._is_leaving = True
        latest = SOON_MS + max(1000 * (1 + seconds), self.spread_ms)
        for group in self._groups(max(1, round(seconds / DRAIN_TICK))):
            for connection in group:
                pause = random.uniform(SOON_MS, latest)  # noqa: S311 - no secret
                connection.send(bye_frame(round(pause)))
                connection.finish(SERVICE_RESTART, RESTARTING)
            await asyncio.sleep(DRAIN_TICK)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self._connections:  # noqa: ASYNC110 - of thousands, none is waited for alone
                    await asyncio.sleep(DRAIN_TICK)

    def close(self) -> None:
        """Close every connection at once."""
        self._is_leaving = True
        for connection in tuple(self._connections):
            connection.close(SERVICE_RESTART, RESTARTING)

    def _groups(self, number: int) -> Iterator[list[Connection]]:
        everyone = list(self._connections)
        random.shuffle(everyone)
        size = max(1, -(-len(everyone) // number))
        for begin in range(0, len(everyone), size):
            yield everyone[begin : begin + size]


def _count(counter: Counter[KeyT], key: KeyT | None, change: int) -> None:
    if key is not None:
        counter[key] += change
        if not counter[key]:
            del counter[key]


def _files_for_sockets() -> int:
    """Say how many sockets the process may open; a small allowance is shared evenly."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(soft // 2, soft - FILES_FOR_OTHERS)
