"""Whatever operations a queue goes through, the board kept by its events is the fresh one."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from typing_extensions import override

from cliniq.app import House
from cliniq.domains.queue import store
from tests.domains.queue.lines import Watcher, board_of
from tests.domains.queue.machine import Known, Stage, play
from tests.domains.sizes import DAYS
from tests.journeys.crowd import Answer, Ask
from tests.platform.chance import STEADY
from tests.relays import Listener, hearing
from tests.support import NOON, Admin, Client, Hands, SomeClinic, found_clinic

PLAYED = settings(
    STEADY,
    max_examples=DAYS,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)


class Inside(Stage):
    """This process: the API without a server, and events as the relay takes them."""

    now = NOON

    def __init__(self, house: House, client: Client, listener: Listener, hands: Hands) -> None:
        self._house = house
        self._client = client
        self._listener = listener
        self._hands = hands

    @override
    async def found(self) -> SomeClinic:
        self._hands.reset()  # or check-in would be over some day
        return await found_clinic(self._house)

    @override
    async def ask(self, ask: Ask) -> Answer:
        self._hands.clinic += timedelta(seconds=1)
        answer = await self._client.post(ask.path, json=ask.body, headers=dict(ask.headers))
        return Answer(answer.status_code, answer.json())

    @override
    async def follow(self) -> None:
        await self._listener.told()
        self._watcher = Watcher.of(await board_of(self.clinic, self.queue_id))

    @override
    async def known(self, version: int) -> Known:
        self._watcher.take(await self._listener.told())
        assert not self._watcher.early, "a version is missing"
        return self._watcher.version, self._watcher.board

    @override
    async def close(self) -> None:
        await self._listener.told()


@pytest.fixture
async def listener(house: House, admin: Admin) -> AsyncIterator[Listener]:
    async with hearing(house, admin) as listener:
        yield listener


async def test_events_of_every_operation_give_the_fresh_board(
    house: House, client: Client, listener: Listener, hands: Hands
) -> None:
    await play(lambda: Inside(house, client, listener, hands), PLAYED)


@pytest.mark.parametrize("sin", ["forgets the version", "jumps over one"])
async def test_operation_whose_version_is_wrong_is_found(
    house: House,
    client: Client,
    listener: Listener,
    hands: Hands,
    sin: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bump = store.bump

    async def sinful(unit: object, queue_id: UUID) -> int:
        version: int = await bump(unit, queue_id)  # type: ignore[arg-type]
        return version - 1 if sin == "forgets the version" else version + 1

    monkeypatch.setattr(store, "bump", sinful)
    generated = settings(PLAYED, phases=[Phase.generate], print_blob=False)
    with pytest.raises(AssertionError):
        await play(lambda: Inside(house, client, listener, hands), generated)
