"""In full only: a scan, a day list and a search do not feel how many people there are."""

import asyncio
import shutil
from pathlib import Path

import pytest

from bench import size
from bench.rounds import Options
from tests.journeys import sizes
from tests.journeys.conftest import Note

PEOPLE = 10_000_000
WORST = 1.5  # times: their 47 GB lie beside 128 MB of the server's own memory
ROOM = 45 << 30  # bytes that ten million people and their past take, and then some


@pytest.mark.skipif(not sizes.FULL, reason="takes an hour: in full only")
def test_ten_million_people_are_found_as_ten_thousand_are(tmp_path: Path, note: Note) -> None:
    assert shutil.disk_usage(tmp_path).free > ROOM
    result = asyncio.run(size.run(Options(), PEOPLE))
    slower = {each.words: each.measured for each in result.aims if each.measured > WORST}
    assert not slower, result.as_json()
    note(
        f"{PEOPLE:,} people and {3 * PEOPLE:,} visits, against 10,000",
        **{
            f"{name}_p95_ms": " to ".join(map(str, each))
            for name, each in result.facts["p95_ms"].items()
        },
        gigabytes=result.facts["gigabytes"][1],
    )
