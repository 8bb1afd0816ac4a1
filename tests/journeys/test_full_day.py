"""In full only: the public appointments of a city as eight clinics, and a day of theirs, twice."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import vitoria
from tests.hatchery import SCRIPT
from tests.journeys import sizes
from tests.journeys.conftest import Note
from tests.journeys.served import Installation

pytestmark = [
    pytest.mark.skipif(not sizes.FULL, reason="takes ten minutes: in full only"),
    pytest.mark.skipif(not vitoria.APPOINTMENTS.exists(), reason="the public files are not here"),
]
ROOT = Path(__file__).parents[2]
DAY, ROWS, VISITS = "2016-05-11", 75_283, 4_474
WRONG = ("lost", "doubled", "stuck", "astray")


def ran(installation: Installation, *words: str) -> str:
    """Run a program to its end; what it printed."""
    done = subprocess.run(
        words, cwd=ROOT, env=installation.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def played(installation: Installation, seed: int) -> dict[str, Any]:
    words = ("simulate", "--from", DAY, "--speed", "600", "--seed", str(seed), "--json")
    return dict(json.loads(ran(installation, str(SCRIPT), *words).splitlines()[-1]))


def test_city_is_imported_and_its_day_loses_doubles_and_leaves_nothing(
    tmp_path: Path, note: Note
) -> None:
    first = Installation(tmp_path / "first")
    first.folder.mkdir()
    said = ran(first, sys.executable, "-m", "bench.vitoria", str(tmp_path / "files"), "--install")
    assert f"{ROWS:,} rows read, {ROWS:,} placed, 0 left out." in said
    assert said.count(", 0 refused") == 16
    other = Installation(tmp_path / "second")
    subprocess.run(["cp", "-a", str(first.folder), str(other.folder)], check=True)
    once, again = played(first, 1), played(other, 1)
    for each in (once, again):
        assert not any(each[name] for name in WRONG), each["wrong"]
    assert once["digest"] == again["digest"]
    ended = once["completed"] + once["no_show"] + once["cancelled"] - once["walk_ins"]
    assert ended == VISITS
    told = ("patients", "checked_in", "called", "completed", "no_show", "cancelled", "requests")
    note(
        f"{ROWS:,} rows, a day of {VISITS:,} visits, twice",
        **{name: once[name] for name in (*told, *WRONG)},
        p95_ms=once["p95_ms"],
    )
