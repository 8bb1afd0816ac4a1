"""A bus on which all may go wrong: messages wait until they are delivered, twice or never."""

from collections.abc import Callable, Iterable

from cliniq.platform.bus import Heard, LocalBus, Message


class LossyBus:
    """Several processes' hubs may share it. Whoever loses something must say `gap` later."""

    def __init__(self) -> None:
        self._inner = LocalBus()
        self._gaps: list[Callable[[], None]] = []
        self.waiting: list[Message] = []

    async def publish(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.post(message)

    def post(self, message: Message) -> None:
        self.waiting.append(message)

    async def listen(self, channel: str, heard: Heard) -> None:
        await self._inner.listen(channel, heard)

    async def ignore(self, channel: str, heard: Heard) -> None:
        await self._inner.ignore(channel, heard)

    def on_gap(self, act: Callable[[], None]) -> None:
        self._gaps.append(act)

    def deliver(self, which: int = 0) -> None:
        if self.waiting:
            self._inner.post(self.waiting.pop(which % len(self.waiting)))

    def deliver_twice(self, which: int = 0) -> None:
        if self.waiting:
            self.waiting.insert(0, self.waiting[which % len(self.waiting)])
            self.deliver(0)

    def lose(self, which: int = 0) -> None:
        if self.waiting:
            self.waiting.pop(which % len(self.waiting))

    def gap(self) -> None:
        for act in self._gaps:
            act()
