"""When a patient may check in: in every zone of the world, around every change of its clocks."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliniq.app import House
from cliniq.domains.appointments.api import bounds_of_day
from cliniq.domains.checkin.api import WindowRule, add_rule
from cliniq.domains.checkin.models import Verdict, Window
from cliniq.domains.checkin.rules import choose_window, is_of_today, judge
from cliniq.kernel.ids import new_id
from cliniq.kernel.record import Record
from cliniq.platform.upkeep import upkeep
from tests.support import NOON, Client, Hands, SomeClinic, found_clinic

HERE, ELSEWHERE = UUID(int=1), UUID(int=2)
ZONES = sorted(available_timezones())
SETTINGS = settings(deadline=None, derandomize=True, max_examples=150)

TICK, MINUTE, HOUR = timedelta(microseconds=1), timedelta(minutes=1), timedelta(hours=1)
OPENS, CLOSES = -30 * MINUTE, 2 * HOUR  # the promise, not the code's own words
FIRST_DAY, LAST_DAY = datetime(2024, 1, 1, tzinfo=UTC), datetime(2028, 12, 31, tzinfo=UTC)

StartIn = Callable[[ZoneInfo], datetime]


class Visit(Record, frozen=True):
    """What the rules ask of a visit."""

    starts_at: datetime
    site_id: UUID = HERE
    visit_type: str = "consultation"
    status: str = "booked"


@cache
def turns(zone: ZoneInfo) -> list[datetime]:
    """The instants from 2024 to 2028 at which a zone's clocks change."""
    found = []
    day = FIRST_DAY
    while day < LAST_DAY:
        then = day + timedelta(days=7)
        if offset(day, zone) != offset(then, zone):
            found.append(_turn_between(day, then, zone))
        day = then
    return found


def _turn_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if offset(middle, zone) == offset(before, zone):
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def offset(instant: datetime, zone: ZoneInfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()


@st.composite
def starts(draw: st.DrawFn) -> StartIn:
    """A start as each zone understands it: around a change of its clocks, or by its wall clock."""
    if draw(st.booleans()):
        number = draw(st.integers(0, 9))
        shift = draw(st.timedeltas(-26 * HOUR, 26 * HOUR))

        def around_a_turn(zone: ZoneInfo) -> datetime:
            known = turns(zone) or [FIRST_DAY]
            return known[number % len(known)] + shift

        return around_a_turn
    leap_days = st.sampled_from([date(2024, 2, 29), date(2028, 2, 29)])
    day = draw(st.one_of(leap_days, st.dates(date(2024, 1, 2), date(2028, 12, 30))))
    midnight = st.sampled_from([0, 10, 23 * 60 + 50])
    minute = draw(st.one_of(midnight, st.integers(0, 24 * 60 - 1)))
    fold = draw(st.integers(0, 1))

    def by_the_wall(zone: ZoneInfo) -> datetime:
        hour, rest = divmod(minute, 60)
        local = datetime(day.year, day.month, day.day, hour, rest, tzinfo=zone, fold=fold)
        return local.astimezone(UTC)

    return by_the_wall


def offsets(edges: tuple[timedelta, timedelta]) -> st.SearchStrategy[timedelta]:
    """How far a scan is from the start: often at an end of the window, or just beyond."""
    at_an_edge = st.builds(
        lambda edge, ticks: edge + ticks * TICK, st.sampled_from(edges), st.integers(-1, 1)
    )
    return st.one_of(at_an_edge, st.timedeltas(-50 * HOUR, 50 * HOUR))


def test_zones_of_the_machine_are_those_of_the_world() -> None:
    assert len(ZONES) > 500
    assert {"Europe/Vienna", "Asia/Kathmandu", "Australia/Lord_Howe"} < set(ZONES)
    vienna = turns(ZoneInfo("Europe/Vienna"))
    assert len(vienna) == 10
    assert vienna[0] == datetime(2024, 3, 31, 1, tzinfo=UTC)
    assert turns(ZoneInfo("Asia/Tokyo")) == []


@SETTINGS
@given(start_in=starts(), away=offsets((OPENS, CLOSES)))
def test_patient_is_accepted_in_every_zone_exactly_within_the_window(
    start_in: StartIn, away: timedelta
) -> None:
    for name in ZONES:
        zone = ZoneInfo(name)
        start = start_in(zone)
        verdict = judge(Visit(start), HERE, Window(), start + away).verdict
        assert (verdict is Verdict.ELIGIBLE) == (OPENS <= away <= CLOSES), (name, start)
        assert (verdict is Verdict.TOO_EARLY) == (away < OPENS), (name, start)
        assert (verdict is Verdict.EXPIRED) == (away > CLOSES), (name, start)


@SETTINGS
@given(
    start_in=starts(),
    early=st.integers(0, 1440),
    late=st.integers(0, 1440),
    away=st.floats(0, 1),
)
def test_visit_with_an_open_window_is_of_today_in_every_zone(
    start_in: StartIn, early: int, late: int, away: float
) -> None:
    window = Window(early * MINUTE, late * MINUTE)
    for name in ZONES:
        zone = ZoneInfo(name)
        start = start_in(zone)
        now = start - window.early + (window.early + window.late) * away
        assert judge(Visit(start), HERE, window, now).verdict is Verdict.ELIGIBLE
        assert is_of_today(Visit(start), zone, window, now), (name, start, now)


@SETTINGS
@given(start_in=starts(), away=offsets((-24 * HOUR, 24 * HOUR)))
def test_visit_is_of_today_exactly_when_the_window_touches_the_local_day(
    start_in: StartIn, away: timedelta
) -> None:
    for name in ZONES:
        zone = ZoneInfo(name)
        start = start_in(zone)
        now = start + away
        first, last = ((start + edge).astimezone(zone).date() for edge in (OPENS, CLOSES))
        today = now.astimezone(zone).date()
        assert is_of_today(Visit(start), zone, Window(), now) == (first <= today <= last), (
            name,
            start,
            now,
        )


@SETTINGS
@given(start_in=starts())
def test_local_days_follow_each_other_without_a_gap(start_in: StartIn) -> None:
    for name in ZONES:
        zone = ZoneInfo(name)
        instant = start_in(zone)
        today = instant.astimezone(zone).date()
        first, last = bounds_of_day(today, zone)
        assert first <= instant < last, (name, instant)
        assert bounds_of_day(today + timedelta(days=1), zone)[0] == last
        assert timedelta(hours=22) <= last - first <= timedelta(hours=26)


RULES = {
    "any": WindowRule(None, None, 10, 10),
    "type": WindowRule(None, "consultation", 20, 20),
    "site": WindowRule(HERE, None, 30, 30),
    "both": WindowRule(HERE, "consultation", 40, 40),
    "other type": WindowRule(None, "vaccination", 50, 50),
    "other site": WindowRule(ELSEWHERE, "consultation", 60, 60),
}


@pytest.mark.parametrize(
    ("named", "minutes"),
    [
        (["other type", "other site"], None),
        (["other type", "any", "other site"], 10),
        (["type", "any"], 20),
        (["any", "site", "type"], 30),
        (["site", "both", "any", "type", "other site"], 40),
    ],
)
def test_most_specific_rule_wins_in_whatever_order_they_are_read(
    named: list[str], minutes: int | None
) -> None:
    rules = [RULES[name] for name in named]
    expected = Window(minutes * MINUTE, minutes * MINUTE) if minutes else Window()
    for order in (rules, rules[::-1]):
        assert choose_window(order, Visit(NOON)) == expected


async def opens_at(client: Client, clinic: SomeClinic, start: datetime) -> timedelta:
    """How long before a visit the clinic says that check-in opens."""
    someone, patient = await clinic.signed_in_patient()
    await clinic.book(patient, start)
    answer = await clinic.scan(client, someone)
    assert answer.json()["code"] == "CHECKIN_TOO_EARLY", answer.text
    return start - datetime.fromisoformat(answer.json()["opens_at"])


async def test_rule_of_the_clinic_moves_the_window_and_of_another_clinic_does_not(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    async with other.unit() as unit:
        await add_rule(unit, new_id(), WindowRule(None, None, 1440, 1440))
    starts_at = (NOON + timedelta(hours=2, minutes=15 * step) for step in range(6))
    assert await opens_at(client, clinic, next(starts_at)) == 30 * MINUTE
    here, kind = clinic.site.site_id, "consultation"
    wanted = [(None, None, 10), (None, kind, 20), (here, None, 15), (here, kind, 5)]
    for site_id, visit_type, minutes in wanted:
        async with clinic.unit() as unit:
            await add_rule(unit, new_id(), WindowRule(site_id, visit_type, minutes, 60))
        assert await opens_at(client, clinic, next(starts_at)) == minutes * MINUTE


async def test_rule_of_the_clinic_closes_the_window_at_its_end(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    async with clinic.unit() as unit:
        await add_rule(unit, new_id(), WindowRule(None, None, 30, 45))
    someone, _, _ = await clinic.visit(NOON)
    hands.clinic += 45 * MINUTE + TICK
    late = await clinic.scan(client, someone)
    assert late.json()["code"] == "APPOINTMENT_EXPIRED"
    assert datetime.fromisoformat(late.json()["closed_at"]) == NOON + 45 * MINUTE
    hands.clinic -= TICK
    assert (await clinic.scan(client, someone)).status_code == 200


NIGHTS = [
    ("UTC", date(2027, 6, 15)),
    ("Asia/Kathmandu", date(2027, 1, 1)),
    ("Europe/Vienna", date(2027, 3, 28)),  # 23 hours
    ("Europe/Vienna", date(2027, 3, 29)),  # the night after the short day
    ("Europe/Vienna", date(2027, 10, 31)),  # 25 hours
    ("Africa/Cairo", date(2027, 4, 30)),  # begins at 01:00: there is no midnight
    ("America/Havana", date(2027, 11, 7)),  # midnight comes twice
    ("America/Nuuk", date(2027, 10, 31)),  # 23 o'clock of the day before comes twice
    ("Australia/Lord_Howe", date(2027, 4, 4)),  # half an hour
    ("Asia/Tokyo", date(2028, 2, 29)),  # leap day
    ("Asia/Tokyo", date(2028, 3, 1)),
]


@pytest.mark.parametrize(("zone", "day"), NIGHTS)
async def test_patient_checks_in_across_midnight(
    client: Client, house: House, hands: Hands, zone: str, day: date
) -> None:
    midnight, _ = bounds_of_day(day, ZoneInfo(zone))
    hands.clinic = midnight - 10 * MINUTE
    await upkeep(house.entrance.database)
    clinic = await found_clinic(house, zone)
    tomorrow, _, soon = await clinic.visit(midnight + 10 * MINUTE)
    yesterday, _, late = await clinic.visit(midnight - 20 * MINUTE)

    found = await clinic.scan(client, tomorrow)
    assert [each["appointment_id"] for each in found.json()["check_ins"]] == [
        str(soon.appointment_id)
    ]
    hands.clinic = midnight + CLOSES - 20 * MINUTE
    found = await clinic.scan(client, yesterday)
    assert [each["appointment_id"] for each in found.json()["check_ins"]] == [
        str(late.appointment_id)
    ]
    places = [
        (await client.get("/api/v1/me/queue", headers=each.headers)).json()
        for each in (tomorrow, yesterday)
    ]
    assert [[place["position"] for place in each] for each in places] == [[1], [1]]


@pytest.mark.parametrize(("zone", "day"), NIGHTS)
async def test_patient_scans_at_either_end_of_a_window_across_midnight(
    client: Client, house: House, hands: Hands, zone: str, day: date
) -> None:
    midnight, _ = bounds_of_day(day, ZoneInfo(zone))
    start = midnight + 10 * MINUTE
    hands.clinic = start + OPENS - TICK
    await upkeep(house.entrance.database)
    clinic = await found_clinic(house, zone)
    someone, _, _ = await clinic.visit(start)
    assert (await clinic.scan(client, someone)).json()["code"] == "CHECKIN_TOO_EARLY"
    hands.clinic = start + CLOSES + TICK
    assert (await clinic.scan(client, someone)).json()["code"] == "APPOINTMENT_EXPIRED"
    hands.clinic = start + OPENS
    assert (await clinic.scan(client, someone)).status_code == 200
