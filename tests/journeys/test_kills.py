"""Whatever is killed at whatever moment, nothing that was acknowledged is lost, nor done twice."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import pytest

from tests.domains.sizes import seeded
from tests.journeys import sizes
from tests.journeys.busy import SCAN_SECONDS, UNLIMITED, Busy, busy_day
from tests.journeys.conftest import Note
from tests.journeys.faults import Whole, whole_installation
from tests.journeys.follower import Follower
from tests.journeys.receiver import Receiver, receiving
from tests.journeys.recording import PROGRAM, settings_of

RECOVERY_SECONDS = 30  # the bound of the product
QUIET_SECONDS = 90
OFTEN = 0.25
PEOPLE = 24  # who arrive in a round
STRIKES = (
    ("server-1", signal.SIGKILL),
    ("server-2", signal.SIGKILL),
    ("worker-1", signal.SIGKILL),
    ("postgresql", signal.SIGKILL),
    ("postgresql", signal.SIGQUIT),
    ("redis", signal.SIGKILL),
)


def strikes(many: int, dice: random.Random) -> list[tuple[str, signal.Signals]]:
    """Draw whom to strike: everybody in turn, in an order that nobody knows."""
    drawn: list[tuple[str, signal.Signals]] = []
    while len(drawn) < many:
        drawn += dice.sample(STRIKES, len(STRIKES))
    return drawn[:many]


def second_blow(first: str, dice: random.Random) -> list[tuple[str, signal.Signals]]:
    """Draw who else is struck in the same round, if anybody: before the first is up, or after."""
    others = [each for each in STRIKES if each[0] != first]
    return [dice.choice(others)] if dice.random() < OFTEN else []


async def strike_and_mend(whole: Whole, name: str, how: signal.Signals, after: float) -> float:
    """Strike in a while, start again at once, and wait until all is well; say how long it took."""
    await asyncio.sleep(after)
    began = monotonic()
    await whole.parts[name].strike(how)
    try:
        async with asyncio.timeout(RECOVERY_SECONDS):
            await whole.parts[name].start()
            await whole.recovered()
    except TimeoutError:
        said = [f"{each.name}:\n{each.said()[-4000:]}" for each in whole.programs]
        raise AssertionError("\n".join([f"not back after {name} {how.name}", *said])) from None
    return monotonic() - began


async def test_kills_at_random_moments_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, note: Note
) -> None:
    dice = seeded()
    slowest: Counter[str] = Counter()
    struck = 0
    async with (
        receiving(seeded(1)) as receiver,
        whole_installation(
            tmp_path,
            workers=1,
            program=PROGRAM,
            settings={**UNLIMITED, **settings_of(receiver.port)},
        ) as whole,
        busy_day(whole, dice) as busy,
    ):
        for name, how in strikes(sizes.KILLS, dice):
            people = await busy.expect(PEOPLE)
            blows = [(name, how), *second_blow(name, dice)]
            struck += len(blows)
            mending = (
                strike_and_mend(whole, *each, dice.uniform(0, SCAN_SECONDS)) for each in blows
            )
            _, back = await asyncio.gather(busy.wave(people), asyncio.gather(*mending))
            about = name if len(blows) == 1 else "two at once"
            slowest[about] = max(slowest[about], *(round(1000 * each) for each in back))
        await quiet(busy, receiver)
        await ensure_whole(busy, receiver)
    heard = sum((each.counts for each in busy.followers), Counter[str]())
    note(
        f"{sizes.KILLS} rounds, {struck} kills",
        scans=len(busy.ledger.tickets),
        calls=len(busy.ledger.called),
        lost=0,
        twice=0,
        tries=busy.doors.tries.total(),
        answers_that_broke_off=busy.doors.lost,
        told=len(receiver.done),
        told_again=receiver.repeated,
        events_followed=heard["event"],
        returns_of_followers=heard["snapshot"] + heard["resumed"] - len(busy.followers),
        versions_missed=0,
        starts_repeated=busy.whole.restarts,
        **{f"{name}_back_in_ms": slowest[name] for name in sorted(slowest)},
    )


async def quiet(busy: Busy, receiver: Receiver) -> None:
    """Wait until nothing is on its way any more."""
    async with asyncio.timeout(QUIET_SECONDS), busy.whole.admin() as admin:
        while (  # noqa: ASYNC110 - the database tells nobody
            await admin.fetchval("select count(*) from outbox")
            or await admin.fetchval("select count(*) from pgqueuer where status <> 'failed'")
            or len(receiver.done) < len(busy.ledger.tickets)
        ):
            await asyncio.sleep(0.1)
        await busy.up_to_date()


async def ensure_whole(busy: Busy, receiver: Receiver) -> None:
    """Fail unless all is there that was acknowledged, once, and everybody knows of it."""
    async with busy.whole.admin() as admin:
        entries = await admin.fetch("select * from queue_entry")
        queues = await admin.fetch("select * from queue")
        check_ins = await admin.fetch("select check_in_id::text from check_in")
        held = await admin.fetchval(
            "select (select count(*) from outbox_held)"
            " + (select count(*) from pgqueuer where status = 'failed')"
        )
    missing = busy.ledger.missing(entries)
    assert set(missing.values()) == {0}, missing
    assert len(entries) == len(check_ins) == len(busy.ledger.tickets)
    for each in queues:
        tickets = sorted(row["ticket"] for row in entries if row["queue_id"] == each["queue_id"])
        assert tickets == list(range(1, each["last_ticket"] + 1))
    faults = receiver.faults({row["check_in_id"] for row in check_ins})
    assert set(faults.values()) == {0}, faults
    assert held == 0
    astray = [each for follower in busy.followers for each in follower.astray]
    assert not astray, astray


# The proof does notice


def test_everybody_is_struck_in_turn() -> None:
    assert set(strikes(len(STRIKES), seeded())) == set(STRIKES)
    assert len(strikes(20, seeded())) == 20


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"k": "a"}, "never told"),
        ({"k": "a", "l": "b", "m": "b"}, "told with two keys"),
        ({"k": "a", "l": "b", "m": "c"}, "told and not there"),
    ],
)
def test_receiver_counts_what_is_wrong(told: Mapping[str, str], fault: str) -> None:
    receiver = Receiver(seeded())
    for key, check_in_id in told.items():
        receiver.take(key, {"check_in_id": check_in_id})
    wrong = {name for name, many in receiver.faults({"a", "b"}).items() if many}
    assert wrong == {fault}


def test_receiver_does_once_what_comes_twice() -> None:
    receiver = Receiver(seeded())
    for check_in_id in ("a", "a"):
        receiver.take("k", {"check_in_id": check_in_id})
    assert (receiver.done, receiver.repeated) == ({"k": "a"}, 1)
    assert set(receiver.faults({"a"}).values()) == {0}


def follower_at(version: int) -> Follower:
    follower = Follower([], {}, "q", seeded())
    state = {"queue_id": "0" * 32, "on_day": "2026-01-01", "line_name": "x"}
    tickets: dict[str, list[int]] = {"waiting": [], "called": [], "in_progress": []}
    follower.hear({"type": "snapshot", "version": version, "epoch": "e", "state": state | tickets})
    return follower


JOINED = {"type": "event", "kind": "queue.entry_joined.v1", "body": {"ticket": 1, "position": 1}}


@pytest.mark.parametrize(
    "said",
    [
        JOINED | {"version": 9},
        JOINED | {"version": 7},
        JOINED | {"version": 6},
        {"type": "beat", "version": 8},
        {"type": "resumed", "version": 8, "epoch": "e"},
        {"type": "resumed", "version": 7, "epoch": "another"},
    ],
)
def test_follower_notices_what_it_missed(said: Mapping[str, object]) -> None:
    follower = follower_at(7)
    follower.hear(said)
    assert len(follower.astray) == 1


def test_follower_that_hears_every_event_knows_the_board() -> None:
    follower = follower_at(7)
    follower.hear(JOINED | {"version": 8})
    assert follower.board is not None
    assert (follower.version, follower.board.waiting, follower.astray) == (8, [1], [])
