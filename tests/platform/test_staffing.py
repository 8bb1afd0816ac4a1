"""How many workers there should be, and when a process that died is started again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliniq.platform import staffing
from cliniq.platform.staffing import BUSY, CALM, Bounds, pause_after, wanted

BOUNDS = Bounds(1, 4)


@pytest.mark.parametrize(
    ("waiting", "running", "there_should_be"),
    [
        (0, 1, 1),  # never below the least
        (BUSY, 1, 1),
        (BUSY + 1, 1, 2),
        (10 * BUSY, 1, 3),  # not all at once
        (10 * BUSY, 3, 4),
        (10 * BUSY, 4, 4),  # never above the most
        (CALM + 1, 2, 2),
        (CALM, 2, 1),
        (0, 4, 3),  # one after the other
        (0, 0, 1),
        (0, 9, 4),
    ],
)
def test_crew_has_the_size_that_its_lanes_need(
    waiting: int, running: int, there_should_be: int
) -> None:
    assert wanted({"email": waiting}, running, BOUNDS) == there_should_be


def test_lanes_are_counted_together() -> None:
    assert wanted({"email": BUSY, "sms": 1}, 1, BOUNDS) == 2
    assert wanted({}, 2, BOUNDS) == 1


@given(st.integers(0, 100_000), st.integers(1, 16), st.integers(1, 16), st.integers(0, 16))
def test_crew_stays_within_bounds_and_never_grows_and_shrinks_by_the_same_depth(
    waiting: int, running: int, least: int, more: int
) -> None:
    bounds = Bounds(least, least + more)
    size = wanted({"email": waiting}, running, bounds)
    assert bounds.least <= size <= bounds.most
    if bounds.least <= running <= bounds.most and size > running:
        # What is there now would not make the larger crew shrink again.
        assert wanted({"email": waiting}, size, bounds) >= size


def test_crew_that_grew_and_shrank_by_one_depth_would_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(staffing, "CALM", BUSY * 2)
    assert wanted({"email": BUSY + 1}, 2, BOUNDS) == 1
    assert wanted({"email": BUSY + 1}, 1, BOUNDS) == 2


def test_pauses_grow_and_have_an_end() -> None:
    pauses = [pause_after(deaths, serving=True, has_served=True) for deaths in range(1, 100)]
    assert pauses[:4] == [0.25, 0.5, 1, 2]
    assert set(pauses[5:]) == {staffing.LONGEST_PAUSE_SECONDS}


@pytest.mark.parametrize(
    ("has_served", "most"), [(False, staffing.MOST_DEATHS), (True, staffing.MOST_LATER)]
)
def test_crew_of_which_nobody_serves_is_given_up(has_served: bool, most: int) -> None:
    assert pause_after(most - 1, serving=False, has_served=has_served)
    assert pause_after(most, serving=False, has_served=has_served) is None
    assert pause_after(most, serving=True, has_served=has_served)
