"""What is declared: lanes, schedules, and a registry without doubles."""

from datetime import timedelta

import pytest

from cliniq.platform.jobs import (
    Duty,
    Job,
    Registry,
    Tick,
)
from cliniq.platform.jobs_worker import last_tick
from cliniq.platform.lanes import LANES, Lane
from tests.platform.tasks import Diary, writer
from tests.support import NOON


@pytest.mark.parametrize("lane", LANES)
def test_lane_waits_longer_each_time_within_its_bounds_and_never_all_at_once(lane: Lane) -> None:
    policy = LANES[lane]
    waits = [policy.wait(failed, 0.999) for failed in range(1, policy.tries + 30)]
    assert waits == sorted(waits)
    assert policy.first_wait / 2 <= policy.wait(1, 0.0) < policy.wait(1, 0.5) <= policy.first_wait
    assert max(waits) <= policy.longest_wait
    assert policy.deadline.total_seconds() > 0 < policy.at_once


def test_there_are_nineteen_lanes() -> None:
    assert len(Lane) == len(LANES) == 19


@pytest.mark.parametrize(
    ("cron", "minutes", "before"),
    [("0 12 * * *", 0, 0), ("0 12 * * *", -1, 24 * 60 - 1), ("*/5 * * * *", 7, 2)],
)
def test_tick_is_the_last_one_that_came_due(cron: str, minutes: int, before: int) -> None:
    now = NOON + timedelta(minutes=minutes)
    assert last_tick(cron, now) == now - timedelta(minutes=before)


def test_registry_refuses_doubles_and_strangers() -> None:
    with pytest.raises(ValueError, match=r"two jobs are called test\.write"):
        Registry([writer(Diary()), writer(Diary())])
    tick: Job[Tick] = Job("test.tick", Lane.UPKEEP, Tick, writer(Diary()).use_case)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no job of the registry: test\.tick"):
        Registry([], duties=[Duty("* * * * *", tick)])
