"""The public visits of Vitória, as clinics: every row goes somewhere, nobody is in two places."""

import csv
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from bench import vitoria

pytestmark = pytest.mark.skipif(
    not vitoria.APPOINTMENTS.exists(), reason="the public file is not here"
)
ROWS, PATIENTS, NEIGHBOURHOODS = 75_283, 47_827, 81


def test_rows_are_seated_so_that_no_doctor_sees_more_than_forty_and_nobody_is_in_two_places() -> (
    None
):
    lines = vitoria.read_lines()
    assert len(lines) == ROWS
    assert len({each.patient for each in lines}) == PATIENTS
    places = vitoria.spread(lines)
    assert len(places) == NEIGHBOURHOODS
    assert set(places.values()) == set(range(16))
    doctors = vitoria.count_doctors(lines, places)
    seats = vitoria.seat(lines, places, doctors, 1)
    assert len(seats) == ROWS
    loads: Counter[object] = Counter()
    at_once: Counter[object] = Counter()
    for each in lines:
        where = seats[each.reference]
        assert where.site == places[each.neighbourhood]
        assert where.doctor < doctors[where.site]
        loads[each.day, where.site, where.doctor] += 1
        at_once[each.day, each.patient, where.slot] += 1
        at_once[each.day, where.site, where.doctor, where.slot] += 1
    assert max(loads.values()) <= vitoria.MOST_A_DAY
    assert max(at_once.values()) == 1
    by_site = Counter(where.site for where in seats.values())
    assert max(by_site.values()) / min(by_site.values()) < 1.15


def test_same_seed_writes_the_same_files_and_past_days_keep_their_outcome(tmp_path: Path) -> None:
    for name in ("one", "two"):
        vitoria.write(tmp_path / name, 1, date(2016, 5, 11))
    names = sorted(each.name for each in (tmp_path / "one").iterdir())
    assert len(names) == 20
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    states: Counter[tuple[bool, str]] = Counter()
    for number in range(1, 9):
        with (tmp_path / "one" / f"vitoria-{number}.visits.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                states[row["starts_at"] < "2016-05-11", row["status"]] += 1
    lines = vitoria.read_lines()
    past = [each for each in lines if each.day < date(2016, 5, 11)]
    came = sum(each.came for each in past)
    assert states == {
        (True, "completed"): came,
        (True, "no_show"): len(past) - came,
        (False, "booked"): ROWS - len(past),
    }
    with (tmp_path / "one" / "outcomes.csv").open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.DictReader(file)) == ROWS - len(past)
