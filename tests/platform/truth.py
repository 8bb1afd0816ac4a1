"""What a cache is asked about: a number that changes, and those who read it as transactions do."""

import asyncio
from collections.abc import Callable

from cliniq.platform.bus import Message
from cliniq.platform.cache import Cache, Codec, Key

NUMBER = Codec[int](int)


class Truth:
    """A number, how often it was loaded, and a gate before each load's end."""

    def __init__(self, value: int, fails: int = 0) -> None:
        self.value, self.fails, self.loads = value, fails, 0
        self.asked, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def load(self) -> int:
        self.loads += 1
        self.asked.set()
        seen = self.value
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise ConnectionError
        return seen


class Reader:
    """A transaction that begins, asks, and is answered: a step at a time, again and again.

    What it loads is what was true when it began.
    """

    def __init__(self, cache: Cache, key: Key, truth: Truth, clock: Callable[[], float]) -> None:
        self._cache, self._key, self._truth, self._clock = cache, key, truth, clock
        self._began, self._seen = 0.0, 0
        self._gate: asyncio.Event | None = None
        self._task: asyncio.Task[int] | None = None
        self._steps = 0

    def step(self) -> None:
        if self._steps % 3 == 0:
            self._began, self._seen = self._clock(), self._truth.value
        elif self._steps % 3 == 1 and (self._task is None or self._task.done()):
            gate = self._gate = asyncio.Event()
            self._task = asyncio.create_task(self._ask(self._began, self._seen, gate))
        else:
            self.open()
        self._steps += 1

    async def _ask(self, began: float, seen: int, gate: asyncio.Event) -> int:
        async def load() -> int:
            await gate.wait()
            return seen

        return await self._cache.get(self._key, NUMBER, began, load)

    def open(self) -> None:
        """Let the database answer."""
        if self._gate is not None:
            self._gate.set()

    async def end(self) -> None:
        """Be answered; whom it waits for must have been let through before."""
        if self._task is not None:
            await self._task


class TwoProcesses:
    """Caches whose words to each other arrive late, four readers and a writer, step by step."""

    def __init__(
        self, make: Callable[..., Cache], key: Key, truth: Truth, clock: Callable[[], float]
    ) -> None:
        self._key, self._truth = key, truth
        self._words: list[tuple[int, bytes]] = []
        self.caches = [
            make(clock=clock, post=self._post_to(1)),
            make(clock=clock, post=self._post_to(0)),
        ]
        self._readers = [Reader(self.caches[n % 2], key, truth, clock) for n in range(4)]

    def _post_to(self, process: int) -> Callable[[Message], None]:
        return lambda word: self._words.append((process, word.body))

    async def step(self, number: int) -> None:
        """Have a reader do its next step, or somebody commit a change, or a word arrive."""
        if number < len(self._readers):
            self._readers[number].step()
        elif number == len(self._readers):
            self._truth.value += 1
            self.caches[self._truth.value % 2].forget([self._key])
        elif self._words:
            self._hear(*self._words.pop(0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _hear(self, process: int, word: bytes) -> None:
        self.caches[process]._hear(word)  # noqa: SLF001

    async def end(self) -> None:
        """Let everybody finish, and every word arrive."""
        for each in self._readers:
            each.open()
        for each in self._readers:
            await each.end()
        for word in self._words:
            self._hear(*word)
