"""A breaker opens by rate and count, lets one call find out, and never counts what is stale."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliniq.platform.outbound.breaker import Breaker, State, Trip
from tests.support import NOON

TRIP = Trip(
    failures=3,
    share=0.5,
    window_seconds=60,
    remembered=10,
    pause_seconds=15,
    longest_pause_seconds=50,
)


WELL = {"+": True, "-": False, "?": None}


def at(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def end(breaker: Breaker, ends: str, after: float = 0) -> None:
    """Let calls end: well (+), badly (-), or so that it tells nothing (?)."""
    for each in ends:
        era = breaker.enter(NOON + at(after))
        assert era is not None
        breaker.leave(era, NOON + at(after), well=WELL[each])


def opened() -> Breaker:
    breaker = Breaker(TRIP)
    end(breaker, "---")
    assert breaker.state(NOON) is State.OPEN
    return breaker


def test_breaker_stays_closed_below_the_count() -> None:
    breaker = Breaker(TRIP)
    end(breaker, "--")
    assert breaker.state(NOON) is State.CLOSED


def test_breaker_stays_closed_below_the_rate() -> None:
    breaker = Breaker(TRIP)
    end(breaker, "++++---")
    assert breaker.state(NOON) is State.CLOSED
    end(breaker, "-")
    assert breaker.state(NOON) is State.OPEN


def test_breaker_forgets_what_is_older_than_its_window() -> None:
    breaker = Breaker(TRIP)
    end(breaker, "--")
    end(breaker, "-", after=61)
    assert breaker.state(NOON + at(61)) is State.CLOSED


def test_breaker_remembers_only_so_many() -> None:
    breaker = Breaker(TRIP)
    end(breaker, "+" * 1000)
    end(breaker, "-" * 5)
    assert breaker.state(NOON) is State.OPEN


def test_what_tells_nothing_of_the_provider_is_not_counted() -> None:
    breaker = Breaker(TRIP)
    end(breaker, "?" * 20 + "--")
    assert breaker.state(NOON) is State.CLOSED


def test_open_breaker_refuses_until_its_pause_is_over() -> None:
    breaker = opened()
    assert breaker.wait_seconds(NOON) == 15
    assert breaker.enter(NOON + at(14.9)) is None
    assert breaker.state(NOON + at(15)) is State.HALF_OPEN
    assert breaker.enter(NOON + at(15)) is not None


def test_half_open_breaker_lets_one_call_pass_and_closes_if_it_ends_well() -> None:
    breaker = opened()
    probe = breaker.enter(NOON + at(15))
    assert probe is not None
    assert breaker.enter(NOON + at(16)) is None
    assert breaker.state(NOON + at(16)) is State.HALF_OPEN
    breaker.leave(probe, NOON + at(16), well=True)
    assert breaker.state(NOON + at(16)) is State.CLOSED
    end(breaker, "--", after=16)
    assert breaker.state(NOON + at(16)) is State.CLOSED, "it begins anew"


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now = opened(), NOON
    for pause in (15.0, 30, 50, 50):
        now += at(pause - 0.1)
        assert breaker.enter(now) is None
        now += at(0.1)
        probe = breaker.enter(now)
        assert probe is not None
        breaker.leave(probe, now, well=False)


def test_pause_is_short_again_after_a_recovery() -> None:
    breaker = opened()
    end(breaker, "-", after=15)
    end(breaker, "+", after=60)
    end(breaker, "---", after=61)
    assert breaker.wait_seconds(NOON + at(61)) == 15


def test_probe_that_tells_nothing_lets_the_next_one_try() -> None:
    breaker = opened()
    end(breaker, "?", after=15)
    assert breaker.state(NOON + at(15)) is State.HALF_OPEN
    assert breaker.enter(NOON + at(15)) is not None


@pytest.mark.parametrize("well", [True, False, None])
def test_call_from_before_it_opened_has_no_say_in_the_probe(*, well: bool | None) -> None:
    breaker = Breaker(TRIP)
    old = breaker.enter(NOON)
    assert old is not None
    end(breaker, "---")
    probe = breaker.enter(NOON + at(15))
    breaker.leave(old, NOON + at(15), well=well)
    assert breaker.enter(NOON + at(15)) is None, "the probe is still under way"
    assert probe is not None
    breaker.leave(probe, NOON + at(15), well=True)
    breaker.leave(old, NOON + at(15), well=False)
    assert breaker.state(NOON + at(15)) is State.CLOSED


def test_clock_that_is_put_back_does_not_keep_a_breaker_open_for_long() -> None:
    breaker = opened()
    assert breaker.wait_seconds(NOON - at(3600)) == 15
    assert breaker.enter(NOON - at(3600 - 15)) is not None


@given(
    st.lists(
        st.tuples(
            st.floats(min_value=0, max_value=40),
            st.sampled_from(["enter", "leave"]),
            st.sampled_from([True, False, None]),
            st.integers(min_value=0, max_value=9),
        ),
        max_size=200,
    )
)
def test_breaker_never_lets_two_probe_and_always_comes_to_an_end(
    steps: list[tuple[float, str, bool | None, int]],
) -> None:
    breaker, now = Breaker(TRIP), NOON
    inside: list[tuple[int, bool]] = []  # its era, and whether it is a probe
    for pause, act, well, which in steps:
        now += at(pause)
        before, wait = breaker.state(now), breaker.wait_seconds(now)
        if act == "enter":
            era = breaker.enter(now)
            assert (era is None) == (wait > 0)
            assert wait > 0 or before is not State.OPEN
            if era is not None:
                inside.append((era, before is State.HALF_OPEN))
        elif inside:
            era, _ = inside.pop(which % len(inside))
            breaker.leave(era, now, well=well)
        probes = {era for era, is_probe in inside if is_probe}
        assert len([era for era, is_probe in inside if is_probe]) == len(probes)
        assert 0 <= breaker.wait_seconds(now) <= TRIP.longest_pause_seconds
        assert len(breaker._ends) <= TRIP.remembered  # noqa: SLF001
    for era, _ in inside:
        breaker.leave(era, now, well=True)
    assert breaker.enter(now + at(TRIP.longest_pause_seconds)) is not None
