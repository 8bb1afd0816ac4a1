"""What makes a clinic act: each thing when it is due, one after the other, in clinic time."""

import heapq
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from cliniq.kernel.ids import new_id
from cliniq.simulation.ledger import Ledger
from cliniq.simulation.models import Actor, Company
from cliniq.simulation.script import Outage, is_said
from cliniq.simulation.wire import Answer, Wire

Act: TypeAlias = Callable[["Deed"], Awaitable[None]]

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
LAST_CALL = 26 * HOUR  # from midnight: whoever is still here then is stuck


class Unreached(Exception):
    """The clinic's network is down until `until`."""

    def __init__(self, until: datetime) -> None:
        self.until = until


class Deed:
    """Something that is due; its keys stay the same however often it is tried."""

    def __init__(self, at: datetime, number: int, who: str, act: Act) -> None:
        self.at, self.number, self.who, self.act = at, number, who, act
        self._keys: list[str] = []
        self._asked = 0

    def __lt__(self, other: "Deed") -> bool:
        return (self.at, self.number) < (other.at, other.number)

    def begin(self) -> None:
        """Begin, or begin anew."""
        self._asked = 0

    def key(self) -> str:
        """Give the key of the next request."""
        if self._asked == len(self._keys):
            self._keys.append(str(new_id()))
        self._asked += 1
        return self._keys[self._asked - 1]


class Clockwork:
    """A clinic's day as a list of what is due, and the way to its server."""

    def __init__(self, company: Company, wire: Wire, seed: int, midnight: datetime) -> None:
        """Begin at midnight, in the zone of the clinic."""
        self.company, self.wire, self.seed, self.midnight = company, wire, seed, midnight
        self.day = midnight.date().isoformat()
        self.ledger = Ledger()
        self.now = midnight
        self.outages: Sequence[Outage] = ()
        self._due: list[Deed] = []
        self._number = 0

    def at(self, when: datetime, who: str, act: Act) -> None:
        """Have something done."""
        self._number += 1
        heapq.heappush(self._due, Deed(when, self._number, who, act))

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more will happen."""
        return not self._due or self.now > self.midnight + LAST_CALL

    @property
    def begins(self) -> datetime:
        """Say when something happens first."""
        return self._due[0].at if self._due else self.midnight

    async def tick(self, now: datetime) -> None:
        """Do all that is due by now, then settle, unless nobody can be reached."""
        self.now = now
        while self._due and self._due[0].at <= now:
            deed = heapq.heappop(self._due)
            deed.begin()
            try:
                await deed.act(deed)
            except Unreached as gone:
                deed.at = max(gone.until, now + SECOND)
                heapq.heappush(self._due, deed)
        if self._outage() is None:
            await self.settle()

    async def settle(self) -> None:
        """Look at what has come of it."""

    def _outage(self) -> Outage | None:
        since = self.now - self.midnight
        return next((each for each in self.outages if each.begins <= since < each.ends), None)

    async def ask(
        self, deed: Deed, actor: Actor, method: str, path: str, body: object = None
    ) -> Answer:
        """Ask in somebody's name. Raises: Unreached while the network is down."""
        key = deed.key()
        headers = self.wire.headers(actor, self.company.clinic_id)
        if method == "POST":
            headers |= {"Idempotency-Key": key}
        if (outage := self._outage()) is not None:
            if method != "GET" and is_said(self.seed, f"{self.day} {deed.who} {deed.number}"):
                await self.wire.ask(method, path, headers, body)  # and nobody hears the answer
            raise Unreached(self.midnight + outage.ends)
        answer = await self.wire.ask(method, path, headers, body)
        if answer.code != "OK":
            self.ledger.refused[answer.code] += 1
        return answer
