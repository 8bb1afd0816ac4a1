"""The relay: whoever dies when, the bus hears each topic in order and jobs hear each fact once."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typing_extensions import override

from cliniq.app import House, build_app
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import events_store, relay
from cliniq.platform.backends import Backends
from cliniq.platform.bus import LocalBus, Message
from cliniq.platform.db import Unit, open_read_unit
from cliniq.platform.events import SHARDS, Event, Told, shard_of, tell
from cliniq.platform.live import Connection, Known, LiveEvent, Snapshot, topic_in
from cliniq.platform.relay import CHANNEL, LEASE, TRIES, Bell, Forward, Relay
from cliniq.platform.source import Urls
from cliniq.platform.upkeep import upkeep
from tests.conftest import house_of
from tests.journeys.served import Installation
from tests.platform.chance import STEADY
from tests.relays import Ear, free_leases, next_frame, relay_of
from tests.support import NOON, Admin, Hands, SomeClinic, found_clinic

EVERY = frozenset(range(SHARDS))
AFTER = LEASE + timedelta(seconds=1)


class Rung(Event, frozen=True):
    """A bell was rung, for the nth time."""

    kind: ClassVar[str] = "tests.rung.v1"
    subject_type: ClassVar[str] = "bell"

    bell_id: UUID
    times: int

    @property
    @override
    def subject_id(self) -> UUID:
        return self.bell_id

    @property
    @override
    def topic(self) -> str:
        return f"bell:{self.bell_id}" if self.times else ""

    @property
    @override
    def topic_version(self) -> int:
        return self.times

    @override
    def shown(self) -> object:
        return {"times": self.times}


class Death(BaseException):
    """The process is gone."""


class Jobs:
    """Makes jobs as a subscriber's are made: in the transaction, so that they share its fate."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self.name = f"jobs-{new_id()}"

    async def forward(self, unit: Unit, told: Sequence[Told]) -> None:
        for each in told:
            await events_store.add_security_event(
                unit, new_id(), unit.wall, None, self.name, str(each.outbox_id), each.body.decode()
            )

    async def made(self) -> list[dict[str, Any]]:
        rows = await self._admin.fetch(
            "select request_id from security_event where action = $1 order by event_id", self.name
        )
        return [json.loads(row["request_id"]) for row in rows]

    async def times_of(self, bell_id: UUID) -> list[int]:
        return [each["times"] for each in await self.made() if each["bell_id"] == str(bell_id)]


@pytest.fixture
async def jobs(house: House, admin: Admin, hands: Hands) -> Jobs:
    """Nobody else's facts wait, and nobody else holds a shard."""
    await free_leases(admin)
    await admin.execute("delete from outbox; delete from outbox_held")
    return Jobs(admin)


async def ring(clinic: SomeClinic, bell_id: UUID, *times: int) -> None:
    for each in times:
        async with clinic.unit() as unit:
            tell(unit, Rung(bell_id, each))


def bells_of(shards: Iterable[int]) -> list[UUID]:
    """A bell whose topic stands in each of these shards."""
    found: dict[int, UUID] = {}
    while len(found) < SHARDS:
        bell_id = new_id()
        found[shard_of(f"bell:{bell_id}", bell_id)] = bell_id
    return [found[shard] for shard in shards]


def versions(events: list[LiveEvent], bell_id: UUID) -> list[int]:
    return [each.version for each in events if each.topic.endswith(str(bell_id))]


def as_watchers_see(heard: list[int]) -> list[int]:
    """What is left once a watcher has passed over what it knows already."""
    seen: list[int] = []
    for version in heard:
        if not seen or version > seen[-1]:
            seen.append(version)
    return seen


async def left(admin: Admin) -> int:
    return int(await admin.fetchval("select count(*) from outbox"))


# --- what it passes on ----------------------------------------------------------------------------


async def test_fact_reaches_the_bus_and_the_jobs_once_and_is_gone(
    clinic: SomeClinic, admin: Admin, jobs: Jobs
) -> None:
    ear, told = Ear(), list[Told]()

    async def forward(unit: Unit, facts: Sequence[Told]) -> None:
        told.extend(facts)

    relay = relay_of(clinic.house, ear, forward)
    bell_id = new_id()
    await ring(clinic, bell_id, 1, 0)
    await relay.drain()
    topic = topic_in(clinic.clinic_id, f"bell:{bell_id}")
    assert ear.events == [LiveEvent(topic, 1, Rung.kind, b'{"times": 1}')]
    fact, unwatched = told
    assert json.loads(fact.body) == {"bell_id": str(bell_id), "times": 1}
    assert fact == Told(
        fact.outbox_id,
        clinic.clinic_id,
        Rung.kind,
        bell_id,
        f"bell:{bell_id}",
        1,
        fact.body,
        NOON,
        "",
    )
    assert (unwatched.topic, unwatched.version) == ("", 0)
    assert await left(admin) == 0
    await relay.drain()
    assert (len(ear.events), len(told)) == (1, 2)


async def test_more_than_a_batch_is_passed_on_in_order(
    clinic: SomeClinic, jobs: Jobs, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH", 7)
    ear, bells = Ear(), bells_of(EVERY)
    for times in range(1, 6):
        async with clinic.unit() as unit:
            for bell_id in bells:
                tell(unit, Rung(bell_id, times))
    await relay_of(clinic.house, ear, jobs.forward).drain()
    for bell_id in bells:
        assert versions(ear.events, bell_id) == await jobs.times_of(bell_id) == [1, 2, 3, 4, 5]


async def test_fact_that_commits_late_is_not_passed_over(
    clinic: SomeClinic, admin: Admin, jobs: Jobs
) -> None:
    """Its number is lower than that of others which were passed on before it was there."""
    ear = Ear()
    relay = relay_of(clinic.house, ear, jobs.forward)
    late, early = bells_of([3]) + bells_of([3])
    async with clinic.unit() as unit:
        tell(unit, Rung(late, 1))
        parts, unit._parting = unit._parting, {}  # noqa: SLF001
        for write, items in parts.items():
            await write(unit, items)  # its number is drawn, and it has yet to commit
        await ring(clinic, early, 1)
        await relay.drain()
        assert versions(ear.events, early) == [1]
        assert versions(ear.events, late) == []
    await relay.drain()
    assert versions(ear.events, late) == [1]
    numbers = await admin.fetch(
        "select request_id, code::bigint as number from security_event where action = $1"
        " order by event_id",
        jobs.name,
    )
    assert [json.loads(row["request_id"])["bell_id"] for row in numbers] == [str(early), str(late)]
    assert numbers[0]["number"] > numbers[1]["number"]


async def test_numbers_are_drawn_one_by_one(admin: Admin) -> None:
    """A backend that kept some in store would number a later change of a topic lower."""
    assert await admin.fetchval("select seqcache from pg_sequence where seqrelid = $1::regclass",
                                "outbox_number") == 1  # fmt: skip


async def test_fact_of_the_release_before_is_made_into_jobs_and_left_to_its_own_process_to_show(
    clinic: SomeClinic, admin: Admin, jobs: Jobs
) -> None:
    ear = Ear()
    await admin.execute(
        "insert into outbox (clinic_id, recorded_at, kind, subject_id, topic, version, body)"
        " values ($1, $2, 'tests.rung.v1', $1, 'bell:1', 1, '{\"times\": 1}')",
        clinic.clinic_id,
        NOON,
    )
    await relay_of(clinic.house, ear, jobs.forward).drain()
    assert ear.events == []
    assert await jobs.made() == [{"times": 1}]


# --- whoever dies when ----------------------------------------------------------------------------

MOMENTS = (
    "has taken leases",
    "says nothing",
    "says some",
    "says all",
    "holds the leases",
    "has made jobs",
    "commits",
    "has committed",
)


class Mortal:
    """A relay that dies at some moment of its next batch."""

    def __init__(self, house: House, ear: Ear, jobs: Jobs, moment: str) -> None:
        self._moment = moment
        self._jobs = jobs
        self.relay = relay_of(house, _Gag(ear, moment), self._forward)

    async def _forward(self, unit: Unit, told: Sequence[Told]) -> None:
        if self._moment == "holds the leases":
            raise Death
        await self._jobs.forward(unit, told)
        if self._moment == "has made jobs":
            raise Death
        if self._moment == "commits":
            unit.before_commit(_die, None)
        if self._moment == "has committed":
            unit.after_commit(_die_at_once)

    async def live(self) -> None:
        """Pass on until death, if there is anything to die of."""
        with suppress(Death):
            await self.relay.renew()
            if self._moment != "has taken leases":
                await self.relay.pass_on()


async def _die(_unit: Unit, _items: list[None]) -> None:
    raise Death


def _die_at_once() -> None:
    raise Death


class _Gag(LocalBus):
    """Lets somebody say only so much."""

    def __init__(self, ear: Ear, moment: str) -> None:
        super().__init__()
        self._ear = ear
        self._moment = moment

    @override
    async def publish(self, messages: Iterable[Message]) -> None:
        said = list(messages)
        if self._moment == "says nothing":
            raise Death
        if self._moment == "says some":
            await self._ear.publish(said[: len(said) // 2])
            raise Death
        await self._ear.publish(said)
        if self._moment == "says all":
            raise Death


LIVES = st.lists(
    st.tuples(st.sampled_from(MOMENTS), st.lists(st.integers(0, 2), max_size=4)),
    min_size=1,
    max_size=6,
)


@given(lives=LIVES)
@settings(STEADY, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_relays_that_die_at_any_moment_lose_nothing_and_keep_the_order(
    clinic: SomeClinic,
    admin: Admin,
    jobs: Jobs,
    hands: Hands,
    lives: list[tuple[str, list[int]]],
) -> None:
    ear, bells, rung = Ear(), [new_id() for _ in range(3)], [0, 0, 0]
    for moment, which in lives:
        for each in which:
            rung[each] += 1
            await ring(clinic, bells[each], rung[each])
        await Mortal(clinic.house, ear, jobs, moment).live()
        hands.wall += AFTER
    last = relay_of(clinic.house, ear, jobs.forward)
    await last.drain()
    await last.leave()
    assert await left(admin) == 0
    for bell_id, times in zip(bells, rung, strict=True):
        expected = list(range(1, times + 1))
        assert as_watchers_see(versions(ear.events, bell_id)) == expected
        assert await jobs.times_of(bell_id) == expected


async def test_relay_that_deletes_before_it_speaks_would_be_noticed(
    clinic: SomeClinic, admin: Admin, jobs: Jobs, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sin, planted: who is done with facts first and says them later loses them by death."""
    ear, bell_id = Ear(), new_id()
    await ring(clinic, bell_id, 1, 2)
    mortal = Mortal(clinic.house, ear, jobs, "says nothing")
    told = mortal.relay._is_published  # noqa: SLF001

    async def late(waiting: Any) -> bool:
        await mortal.relay._settle(waiting, is_published=True)  # noqa: SLF001
        return await told(waiting)

    monkeypatch.setattr(mortal.relay, "_is_published", late)
    await mortal.live()
    hands.wall += AFTER
    await relay_of(clinic.house, ear, jobs.forward).drain()
    assert as_watchers_see(versions(ear.events, bell_id)) != [1, 2]


# --- leases ---------------------------------------------------------------------------------------


async def shards_of(*relays: Relay) -> list[int]:
    """How many shards each holds, after all have renewed twice."""
    for _ in range(2):
        for each in relays:
            await each.renew()
    held = [each._bell.held for each in relays]  # noqa: SLF001
    assert sorted(shard for each in held for shard in each) == sorted(EVERY)
    return [len(each) for each in held]


async def test_relays_share_the_shards_fairly_as_they_come_and_go(house: House, jobs: Jobs) -> None:
    first, second, third = (relay_of(house) for _ in range(3))
    assert await shards_of(first) == [8]
    assert await shards_of(first, second) == [4, 4]
    assert sorted(await shards_of(first, second, third)) == [2, 3, 3]
    await first.leave()
    assert await shards_of(second, third) == [4, 4]
    await third.leave()
    assert await shards_of(second) == [8]


async def test_more_relays_than_shards_hold_one_or_none(house: House, jobs: Jobs) -> None:
    relays = [relay_of(house) for _ in range(SHARDS + 2)]
    assert sorted(await shards_of(*relays)) == [0, 0] + [1] * SHARDS


async def test_shards_of_a_relay_that_died_are_taken_once_its_lease_has_expired(
    house: House, hands: Hands, jobs: Jobs
) -> None:
    dead, heir = relay_of(house), relay_of(house)
    await dead.renew()
    hands.wall += LEASE - timedelta(milliseconds=1)
    await heir.renew()
    assert heir._bell.held == frozenset()  # noqa: SLF001
    hands.wall += timedelta(milliseconds=1)
    assert await shards_of(heir) == [8]


async def test_upkeep_forgets_relays_that_died_and_no_others(
    house: House, hands: Hands, jobs: Jobs, admin: Admin
) -> None:
    dead, living = relay_of(house), relay_of(house)
    await dead.renew()
    hands.wall += LEASE
    await living.renew()
    await upkeep(house.entrance.database)
    assert await admin.fetchval("select count(*) from relay") == 1
    assert await shards_of(living) == [8]


async def test_relays_that_all_slept_renew_at_once_without_a_deadlock(
    urls: Urls, hands: Hands, jobs: Jobs
) -> None:
    async with house_of(urls, size=30) as house:
        relays = [relay_of(house) for _ in range(10)]
        for _ in range(30):
            await asyncio.gather(*(each.renew() for each in relays))
            hands.wall += AFTER
        assert sorted(await shards_of(*relays)) == [0, 0] + [1] * SHARDS


class Slow(LocalBus):
    """A bus on which saying something takes until the test lets it go on."""

    def __init__(self, ear: Ear) -> None:
        super().__init__()
        self._ear = ear
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()

    @override
    async def publish(self, messages: Iterable[Message]) -> None:
        self.has_begun.set()
        await self.may_end.wait()
        await self._ear.publish(messages)


async def test_relay_that_comes_back_after_its_lease_was_taken_makes_no_job_again(
    clinic: SomeClinic, admin: Admin, hands: Hands, jobs: Jobs
) -> None:
    ear, bell_id = Ear(), new_id()
    slow = Slow(ear)
    sleeper = relay_of(clinic.house, slow, jobs.forward)
    heir = relay_of(clinic.house, ear, jobs.forward)
    await ring(clinic, bell_id, 1, 2)
    await sleeper.renew()
    sleeping = asyncio.ensure_future(sleeper.pass_on())
    await slow.has_begun.wait()
    hands.wall += AFTER
    await heir.drain()
    await ring(clinic, bell_id, 3)
    await heir.drain()
    await ring(clinic, bell_id, 4)
    slow.may_end.set()
    assert await sleeping == 0
    assert await left(admin) == 1, "what came later is not the sleeper's to take out"
    assert sleeper._bell.held == frozenset() or await sleeper.pass_on() == 0  # noqa: SLF001
    await heir.drain()
    assert await jobs.times_of(bell_id) == [1, 2, 3, 4]
    assert versions(ear.events, bell_id) == [1, 2, 3, 1, 2, 4], "which watchers pass over"


async def test_lease_cannot_be_taken_while_a_batch_is_being_handed_over(
    clinic: SomeClinic, hands: Hands, jobs: Jobs
) -> None:
    heir = relay_of(clinic.house)
    bell_id = new_id()

    async def forward(unit: Unit, told: Sequence[Told]) -> None:
        hands.wall += AFTER
        await heir.renew()
        await jobs.forward(unit, told)

    await ring(clinic, bell_id, 1)
    holder = relay_of(clinic.house, LocalBus(), forward)
    await holder.drain()
    assert shard_of(f"bell:{bell_id}", bell_id) not in heir._bell.held  # noqa: SLF001
    assert await jobs.times_of(bell_id) == [1]


async def test_relay_trusts_its_lease_no_longer_than_it_lasts(
    clinic: SomeClinic, admin: Admin, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the database cannot be asked."""
    ear = Ear()
    sleeper = relay_of(clinic.house, ear, jobs.forward)
    monkeypatch.setattr(relay, "LEASE", timedelta(0))
    await sleeper.renew()
    await ring(clinic, new_id(), 1)
    assert await sleeper.pass_on() == 0
    assert ear.events == []


# --- what cannot be passed on ---------------------------------------------------------------------


def refusing(jobs: Jobs, poison: UUID) -> Forward:
    async def forward(unit: Unit, told: Sequence[Told]) -> None:
        if any(each.subject_id == poison for each in told):
            raise KeyError(str(poison))
        await jobs.forward(unit, told)

    return forward


async def test_fact_that_fails_is_set_aside_after_some_tries_and_its_neighbours_go_on(
    clinic: SomeClinic, admin: Admin, jobs: Jobs
) -> None:
    poison, neighbour = bells_of([2])[0], bells_of([2])[0]
    stranger = bells_of([5])[0]
    ear = Ear()
    relay = relay_of(clinic.house, ear, refusing(jobs, poison))
    await ring(clinic, poison, 1)
    await ring(clinic, neighbour, 1)
    await ring(clinic, stranger, 1)
    await relay.renew()
    with capture_logs() as said:
        for _ in range(TRIES - 1):
            await relay.pass_on()
            assert await jobs.times_of(stranger) == [1], "another shard does not wait"
            assert await jobs.times_of(neighbour) == [], "the order of a shard is kept"
        await relay.pass_on()
    assert await jobs.times_of(neighbour) == [1]
    assert await left(admin) == 0
    async with open_read_unit(clinic.house.entrance.database, PlatformScope("test")) as unit:
        (held,) = await events_store.list_held(unit, 10)
    assert (held.subject_id, held.clinic_id, held.reason) == (poison, clinic.clinic_id, "KeyError")
    assert held.held_at == NOON
    (logged,) = [each for each in said if each["event"] == "a fact is held"]
    assert logged["outbox_id"] == held.outbox_id
    assert relay.figures.held._value.get() == 1  # noqa: SLF001
    assert as_watchers_see(versions(ear.events, poison)) == [1], "the bus has heard of it"


async def test_operator_sees_what_is_held_and_releases_it_once_it_is_mended(
    clinic: SomeClinic, urls: Urls, admin: Admin, jobs: Jobs, tmp_path: Path
) -> None:
    ear, bell_id = Ear(), new_id()
    failing = relay_of(clinic.house, ear, refusing(jobs, bell_id))
    await ring(clinic, bell_id, 1, 2)
    await failing.renew()
    with capture_logs():
        for _ in range(2 * TRIES):
            await failing.pass_on()
    await failing.leave()
    ear.events.clear()
    here = Installation(tmp_path, {"CLINIQ_DATABASE_URL": urls.application})
    listed = await here.tried("facts", "list")
    assert listed.stdout.count("KeyError") == 2, listed
    told = await here.tried("doctor")
    assert "2 are held" in told.stdout
    assert told.returncode == 1
    assert (await here.tried("facts", "release")).stdout == "2 are released.\n"
    assert "None is held." in (await here.tried("facts", "list")).stdout
    told = await here.tried("doctor")
    assert "none is held" in told.stdout
    await relay_of(clinic.house, ear, jobs.forward).drain()
    assert await jobs.times_of(bell_id) == [1, 2]
    assert ear.events == [], "watchers have seen it before"


async def test_database_that_is_away_for_a_moment_is_nobodys_poison(
    clinic: SomeClinic, admin: Admin, jobs: Jobs
) -> None:
    tries = iter(range(TRIES + 2))

    async def forward(unit: Unit, told: Sequence[Told]) -> None:
        if next(tries, None) is not None:
            raise DependencyUnavailable("postgresql")
        await jobs.forward(unit, told)

    bell_id = new_id()
    relay = relay_of(clinic.house, Ear(), forward)
    await ring(clinic, bell_id, 1)
    await relay.renew()
    for _ in range(TRIES + 2):
        with pytest.raises(DependencyUnavailable):
            await relay.pass_on()
    await relay.drain()
    assert await jobs.times_of(bell_id) == [1]


class Mute(Ear):
    """A bus that takes nothing while it is mute."""

    is_mute = True

    @override
    async def publish(self, messages: Iterable[Message]) -> None:
        if self.is_mute:
            raise DependencyUnavailable("redis")
        await super().publish(messages)


async def test_jobs_do_not_wait_for_the_bus_and_the_bus_hears_all_of_it_later(
    clinic: SomeClinic, admin: Admin, jobs: Jobs
) -> None:
    mute, bell_id = Mute(), new_id()
    relay = relay_of(clinic.house, mute, jobs.forward)
    await ring(clinic, bell_id, 1, 2, 0)
    await relay.drain()
    assert await jobs.times_of(bell_id) == [1, 2, 0]
    assert await left(admin) == 2
    await ring(clinic, bell_id, 3)
    await relay.drain()
    assert await jobs.times_of(bell_id) == [1, 2, 0, 3]
    mute.is_mute = False
    await ring(clinic, bell_id, 4)
    await relay.drain()
    assert versions(mute.events, bell_id) == [1, 2, 3, 4]
    assert await jobs.times_of(bell_id) == [1, 2, 0, 3, 4]
    assert await left(admin) == 0


# --- being woken ----------------------------------------------------------------------------------


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for by the clock: whoever is not woken sleeps through the test."""
    monkeypatch.setattr(relay, "POLL_SECONDS", 1000)
    monkeypatch.setattr(relay, "RENEW_SECONDS", 1000)


async def until(come: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(30):
        while not await come():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_relay_is_woken_by_a_commit_of_its_process(
    clinic: SomeClinic, admin: Admin, jobs: Jobs, unhurried: None
) -> None:
    async with clinic.house.relay.running():
        await until(lambda: holds_everything(admin))
        for number in range(1, 20):
            await ring(clinic, new_id(), number)
            await until(lambda: is_empty(admin))


async def is_empty(admin: Admin) -> bool:
    return await left(admin) == 0


async def holds_everything(admin: Admin) -> bool:
    held = "select count(holder) = count(*) from relay_lease"
    return bool(await admin.fetchval(held))


async def test_relay_is_woken_by_a_commit_of_another_process_and_takes_over_when_it_leaves(
    urls: Urls, redis_url: str, admin: Admin, jobs: Jobs, unhurried: None
) -> None:
    backends = Backends(redis_url=redis_url)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(house_of(urls, backends=backends, relays=True))
        await until(lambda: holds_everything(admin))
        there = await stack.enter_async_context(house_of(urls, backends=backends))
        clinic = await found_clinic(there)
        await until(lambda: is_empty(admin))
        for number in range(1, 20):
            await ring(clinic, new_id(), number)
            await until(lambda: is_empty(admin))
        async with there.relay.running():  # who is here shares at once
            await until(lambda: holders(admin, 2))
        await until(lambda: holders(admin, 1))
        await until(lambda: holds_everything(admin))


async def holders(admin: Admin, number: int) -> bool:
    found = await admin.fetchval("select count(distinct holder) from relay_lease")
    return bool(found == number)


async def test_bell_rings_here_at_once_and_elsewhere_once_for_many() -> None:
    bus, heard = LocalBus(), list[bytes]()
    await bus.listen(CHANNEL, heard.append)
    bell = Bell(bus)
    bell.held = frozenset({0, 1})
    bell.ring({0})
    await asyncio.wait_for(bell.wait(1000), 10)
    bell.rest()
    for shard in (5, 4, 5):
        bell.ring({shard})
    bell.hear(b"\x05")
    assert not bell._rung.is_set()  # noqa: SLF001
    async with asyncio.timeout(10):
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert heard == [b"\x04\x05"]
    bell.hear(b"\x01\x07")
    await asyncio.wait_for(bell.wait(1000), 10)


async def test_relay_survives_whatever_goes_wrong_in_a_turn(
    clinic: SomeClinic, admin: Admin, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles = iter([DependencyUnavailable("postgresql"), RuntimeError()])
    renew = relay.Relay.renew

    async def stumble(self: Relay) -> None:
        if trouble := next(troubles, None):
            raise trouble
        await renew(self)

    monkeypatch.setattr(relay.Relay, "renew", stumble)
    with capture_logs() as said:
        async with clinic.house.relay.running():
            await ring(clinic, new_id(), 1)
            await until(lambda: is_empty(admin))
    assert "the relay stumbled" in [each["event"] for each in said]
    assert await admin.fetchval("select count(holder) from relay_lease") == 0, "it has left"


# --- seen by sockets of other processes, and by operators -----------------------------------------


async def test_watcher_in_one_process_sees_what_is_told_in_another(
    urls: Urls, redis_url: str, admin: Admin, jobs: Jobs
) -> None:
    backends = Backends(redis_url=redis_url)
    async with (
        house_of(urls, backends=backends) as here,
        house_of(urls, backends=backends, relays=True) as there,
    ):
        clinic = await found_clinic(there)
        bell_id = new_id()
        watcher = Connection(new_id())

        async def load(_known: Known | None) -> Snapshot:
            return Snapshot(0, None)

        topic = topic_in(clinic.clinic_id, f"bell:{bell_id}")
        await here.entrance.hub.subscribe(watcher, topic, load)
        await ring(clinic, bell_id, *range(1, 30))
        seen = [json.loads(await next_frame(watcher)) for _ in range(30)]
        here.entrance.hub.unsubscribe(watcher, topic)
    assert [each["version"] for each in seen] == list(range(30))


async def test_lag_is_the_age_of_the_oldest_fact_of_the_whole_installation(
    clinic: SomeClinic, hands: Hands, jobs: Jobs, admin: Admin
) -> None:
    idle = relay_of(clinic.house)
    busy = relay_of(clinic.house)
    await shards_of(busy)
    await ring(clinic, new_id(), 1)
    hands.wall += timedelta(seconds=3)
    await idle.renew()
    assert idle.figures.lag._value.get() == 3  # noqa: SLF001
    await busy.drain()
    await idle.drain()
    await idle.renew()
    assert idle.figures.lag._value.get() == 0  # noqa: SLF001


async def test_metrics_tell_of_the_relay(clinic: SomeClinic, jobs: Jobs) -> None:
    await ring(clinic, new_id(), 1)
    await clinic.house.relay.drain()
    exposition = build_app(clinic.house).state.metrics.exposition().decode()
    await clinic.house.relay.leave()
    for name in ("lag_seconds", "shards", "published_total", "passed_on_total", "held_total"):
        assert f"\ncliniq_relay_{name} " in exposition
    assert "\ncliniq_relay_batch_size_bucket" in exposition
