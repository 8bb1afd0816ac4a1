"""One live topic in this process: its last events, who watches it, and at which version each is.

A watcher is given a snapshot, or what it missed since a version, and then every version in turn.
Why nothing is missed unnoticed stands in docs/decisions/0019.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

import msgspec

from cliniq.kernel.record import Record
from cliniq.platform.live_connection import Connection
from cliniq.platform.live_frames import (
    Frame,
    LiveEvent,
    beat_frame,
    event_frame,
    event_in,
    resumed_frame,
    snapshot_frame,
)
from cliniq.platform.traces import span

WINDOW = 128  # events that are kept for those who come back
GAP_SECONDS = 0.5  # an early event waits so long for its forerunners
LONGEST_GAP = 32  # times as long, where snapshots do not bring them either


class Snapshot(Record, frozen=True):
    """A topic as it stands at `version`, to those who sit in a `seat`.

    `state` is unset where the hub knows it already.
    """

    version: int
    state: object
    seat: str = ""


# Tells whether somebody in a seat needs no state, at a version that was read behind their door.
Known: TypeAlias = Callable[[str, int], bool]
# Opens the watcher's own door and reads; without a `Known` always the state.
Load: TypeAlias = Callable[[Known | None], Awaitable[Snapshot]]


class Subscription:
    """One connection's sight of one topic. `version` is none while it is being read."""

    __slots__ = ("connection", "is_over", "load", "topic", "version")

    def __init__(self, topic: "LiveTopic", connection: Connection, load: Load) -> None:
        self.topic = topic
        self.connection = connection
        self.load = load
        self.version: int | None = None
        self.is_over = False


class LiveTopic:
    """What this process knows of a topic."""

    def __init__(self, name: str, epoch: str, mend: Callable[[Subscription], None]) -> None:
        self.name = name
        self.watchers: dict[Subscription, None] = {}  # in the order in which they are audited
        self.newest = 0  # the highest version that is known to exist
        self.listening: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None  # the next beat, or the end
        self.audit_all = False
        self._epoch = epoch
        self._mend = mend
        self._window: dict[int, Frame] = {}
        self._snapshots: dict[str, tuple[int, Frame]] = {}
        self._gap: asyncio.TimerHandle | None = None
        self._patience = 1

    @property
    def was_seen(self) -> bool:
        """Say whether anybody was ever let in to watch it."""
        return bool(self._snapshots or self._window or self.newest)

    def hear(self, body: bytes) -> None:
        """Take what was said on the bus: decoded and encoded once, for all who watch."""
        event = event_in(body)
        seen_by = len(self.watchers)
        with span("live", parent=event.trace, kind="consumer", fact=event.kind, seen_by=seen_by):
            self.take(event)

    def take(self, event: LiveEvent) -> None:
        """Take an event, in whatever order and however often it comes."""
        if event.version in self._window or event.version <= self.newest - WINDOW:
            return
        self._window[event.version] = event_frame(event, self._epoch)
        self.newest = max(self.newest, event.version)
        if len(self._window) > WINDOW:
            del self._window[min(self._window)]
        for watcher in tuple(self.watchers):
            self._advance(watcher)

    async def begin(self, watcher: Subscription, since: int | None) -> None:
        """Give a new watcher a snapshot, or what it missed, and what happened meanwhile.

        Raises: the refusal of whoever loads; the watcher is then to be forgotten.
        """
        plan = await self._ask(watcher, since)
        if plan.resumes and since is not None:
            watcher.connection.send(resumed_frame(self.name, self._epoch, since))
        self._give(watcher, plan)

    async def renew(self, watcher: Subscription) -> None:
        """Make sure that a watcher has all there is, and may still see it.

        Raises: the refusal of whoever loads; the watcher stands where it stood.
        """
        if watcher.is_over:
            return
        before = watcher.version
        watcher.version = None
        try:
            plan = await self._ask(watcher, before)
        except BaseException:
            watcher.version = before
            if before is not None:
                self._advance(watcher)
            raise
        self._give(watcher, plan)

    def beat(self, spread_ms: int = 0) -> None:
        """Tell whoever has all there is that this is all there is."""
        frame = beat_frame(self.name, self.newest, spread_ms)
        for watcher in tuple(self.watchers):
            if watcher.version == self.newest:
                watcher.connection.send(frame)

    def audit(self, share: int) -> None:
        """Renew one in `share` of the watchers, in turn; all of them where something was lost."""
        most = len(self.watchers) if self.audit_all else -(-len(self.watchers) // share)
        self.audit_all = False
        for watcher in tuple(self.watchers)[:most]:
            del self.watchers[watcher]
            self.watchers[watcher] = None
            if watcher.version is not None:
                self._mend(watcher)

    def look(self) -> None:
        """Find out whether the topic has moved on, by the first watcher that can tell."""
        for watcher in self.watchers:
            if watcher.version is not None:
                self._mend(watcher)
                return

    def forget(self, epoch: str) -> None:
        """Begin anew: versions have another meaning now."""
        self._epoch = epoch
        self.newest = 0
        self._window.clear()
        self._snapshots.clear()
        for watcher in tuple(self.watchers):
            watcher.version = None
            self._mend(watcher)

    def end(self) -> None:
        """Wait for nothing any more."""
        for handle in (self._gap, self.timer):
            if handle:
                handle.cancel()
        self._gap = self.timer = None

    async def _ask(self, watcher: Subscription, since: int | None) -> "_Plan":
        """Open the watcher's door and decide what it needs. The decision is made at the version."""
        plan: _Plan | None = None

        def knows(seat: str, version: int) -> bool:
            nonlocal plan
            plan = self._resume(since, version) or self._share(seat, version)
            return plan is not None

        epoch = self._epoch
        is_hopeless = since is None and not self._snapshots
        found = await watcher.load(None if is_hopeless else knows)
        if epoch != self._epoch:  # the versions that were read are of another history, or may be
            return await self._ask(watcher, None)
        if found.version > self.newest:
            self.newest = found.version
            self._await_gap()  # what this watcher has found out, others may have missed
        return plan or self._plan_of(found)

    def _plan_of(self, found: Snapshot) -> "_Plan":
        frame = snapshot_frame(self.name, self._epoch, found.version, found.state)
        if found.version >= self._snapshots.get(found.seat, (0, None))[0]:
            self._snapshots[found.seat] = (found.version, frame)
        return _Plan([frame], found.version)

    def _resume(self, since: int | None, version: int) -> "_Plan | None":
        """Plan exactly what is missing, where all of it is here."""
        if since is None or since > version:
            return None
        frames = self._between(since, version)
        return None if frames is None else _Plan(frames, version, resumes=True)

    def _share(self, seat: str, version: int) -> "_Plan | None":
        """Plan the snapshot that somebody in such a seat was given at this very version."""
        at, frame = self._snapshots.get(seat, (0, None))
        return None if frame is None or at != version else _Plan([frame], version)

    def _between(self, since: int, version: int) -> list[Frame] | None:
        found = [self._window.get(each) for each in range(since + 1, version + 1)[: WINDOW + 1]]
        whole = [each for each in found if each is not None]
        return whole if len(whole) == version - since else None

    def _give(self, watcher: Subscription, plan: "_Plan") -> None:
        if watcher.is_over:
            return
        for frame in plan.frames:
            watcher.connection.send(frame)
        watcher.version = plan.version
        self._advance(watcher)

    def _advance(self, watcher: Subscription) -> None:
        """Give a watcher each next version that is here; wait for one that is not."""
        if watcher.version is None:
            return
        while (frame := self._window.get(watcher.version + 1)) is not None:
            watcher.version += 1
            watcher.connection.send(frame)
        if watcher.version < self.newest:
            self._await_gap()

    def _await_gap(self) -> None:
        """Look in a while whether everyone has got what is known to exist."""
        if self._gap is None:
            wait = GAP_SECONDS * self._patience
            self._gap = asyncio.get_running_loop().call_later(wait, self._mend_gap)

    def _mend_gap(self) -> None:
        """Renew those for whom a version has not come in time."""
        self._gap = None
        behind = list(self._behind())
        self._patience = min(self._patience * 2, LONGEST_GAP) if behind else 1
        for watcher in behind:
            self._mend(watcher)

    def _behind(self) -> Iterator[Subscription]:
        for watcher in self.watchers:
            if watcher.version is not None and watcher.version < self.newest:
                yield watcher


class _Plan(msgspec.Struct):
    """What to send so that a watcher is at `version`."""

    frames: list[Frame]
    version: int
    resumes: bool = False
