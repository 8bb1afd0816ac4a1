"""A dial: clinic time that is turned by hand, for all processes of a rehearsal."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cliniq.platform.clock import Dial, NoDial, utc_now

MAY = datetime(2016, 5, 11, 7, tzinfo=UTC)
MANY = 20_000


def test_dial_that_stands_still_shows_what_it_was_turned_to(tmp_path: Path) -> None:
    dial = Dial.make(tmp_path / "dial", MAY, 0)
    assert dial.read() == dial.read() == MAY
    dial.turn(MAY + timedelta(microseconds=1), 0)
    assert dial.read() == MAY + timedelta(microseconds=1)


def test_dial_goes_as_many_times_as_fast_as_the_wall_s(tmp_path: Path) -> None:
    before = utc_now()
    dial = Dial.make(tmp_path / "dial", MAY, 600)
    after = utc_now()
    read = dial.read() - MAY
    now = utc_now()
    assert timedelta() <= read <= (now - before) * 600
    assert dial.speed == 600
    dial.turn(MAY, 1)
    assert dial.read() - MAY <= utc_now() - after


def test_dial_of_the_past_goes_on_from_there(tmp_path: Path) -> None:
    """Its time is aware and in UTC, whatever zone it was turned in."""
    at = MAY.replace(year=1969)
    dial = Dial.make(tmp_path / "dial", at, 0)
    assert dial.read() == at
    assert dial.read().utcoffset() == timedelta()


@pytest.mark.parametrize("speed", [-1.0, 100_001.0, float("nan")])
def test_dial_refuses_a_speed_out_of_bounds_and_keeps_its_time(
    tmp_path: Path, speed: float
) -> None:
    dial = Dial.make(tmp_path / "dial", MAY, 0)
    with pytest.raises(ValueError, match="speed"):
        dial.turn(MAY + timedelta(days=1), speed)
    assert dial.read() == MAY


@pytest.mark.parametrize("content", [None, b"", b"cliniq dial", bytes(200)])
def test_file_that_is_no_dial_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "dial").write_bytes(content)
    with pytest.raises(NoDial, match="no clock of a rehearsal"):
        Dial(tmp_path / "dial")


def test_dial_is_made_in_place_of_an_older_one(tmp_path: Path) -> None:
    Dial.make(tmp_path / "dial", MAY, 0)
    Dial.make(tmp_path / "dial", MAY + timedelta(days=1), 0)
    assert Dial(tmp_path / "dial").read() == MAY + timedelta(days=1)
    assert [each.name for each in tmp_path.iterdir()] == ["dial"]


def test_other_process_reads_each_turn_whole(tmp_path: Path) -> None:
    """One turns as fast as it can, between two times that share no digit; none is read mixed."""
    one, other = datetime(1999, 1, 2, 3, 4, 5, 678901, UTC), MAY
    path = tmp_path / "dial"
    dial = Dial.make(path, one, 0)
    turner = (
        "import sys, pathlib; from datetime import datetime as d; from cliniq.platform.clock import"
        " Dial; dial = Dial(pathlib.Path(sys.argv[1])); print('turning', flush=True)\n"
        "while True:\n    for each in sys.argv[2:]: dial.turn(d.fromisoformat(each), 0)"
    )
    words = [sys.executable, "-c", turner, str(path), one.isoformat(), other.isoformat()]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"turning\n"
            seen = {dial.read() for _ in range(MANY)}
        finally:
            process.kill()
    assert seen == {one, other}
