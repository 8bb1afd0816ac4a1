"""Redis is cut off, or killed, or a process is: no version of a queue is missed unnoticed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from tests.domains.sizes import seeded
from tests.journeys import sizes
from tests.journeys.busy import UNLIMITED, Busy, busy_day
from tests.journeys.cable import Cable, laid_cable
from tests.journeys.conftest import Note
from tests.journeys.faults import whole_installation

PEOPLE = 10  # who arrive in a wave
BOUND_SECONDS = 60


@dataclass(frozen=True)
class Severed:
    """A busy day, whose Redis stands on a host of its own."""

    busy: Busy
    cable: Cable


@pytest.fixture(scope="module")
async def severed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Severed]:
    folder: Path = tmp_path_factory.mktemp("severed")
    with laid_cable() as cable:
        async with (
            whole_installation(folder, host=cable, settings=UNLIMITED) as whole,
            busy_day(whole, seeded()) as busy,
        ):
            yield Severed(busy, cable)


async def versions(busy: Busy) -> Counter[str]:
    """Say how far the queues are."""
    async with busy.whole.admin() as admin:
        rows = await admin.fetch("select queue_id::text, version from queue")
    return Counter({row["queue_id"]: row["version"] for row in rows})


async def ensure_nothing_missed(busy: Busy) -> None:
    """Wait until all is well and everybody knows; fail where anybody had missed something."""
    async with asyncio.timeout(BOUND_SECONDS):
        await busy.whole.recovered()
        await busy.up_to_date()
    astray = [each for follower in busy.followers for each in follower.astray]
    assert not astray, astray


async def test_network_that_is_cut_hides_no_version(severed: Severed, note: Note) -> None:
    busy = severed.busy
    async with asyncio.timeout(BOUND_SECONDS):
        await busy.up_to_date()
    before, until = await versions(busy), monotonic() + sizes.CUT_SECONDS
    severed.cable.cut()
    try:
        while monotonic() < until:
            await busy.wave(await busy.expect(PEOPLE))
        after = await versions(busy)
        behind = [each for each in busy.followers if each.version < after[each.queue_id]]
        assert behind, "nothing was cut"
    finally:
        severed.cable.mend()
    began = monotonic()
    await ensure_nothing_missed(busy)
    note(
        f"cut for {sizes.CUT_SECONDS} s",
        versions_meanwhile=(after - before).total(),
        followers=len(busy.followers),
        behind_when_it_was_mended=len(behind),
        missed_unnoticed=0,
        all_know_after_ms=round(1000 * (monotonic() - began)),
    )


@pytest.mark.parametrize("name", sizes.STRUCK)
async def test_part_that_is_killed_hides_no_version(
    severed: Severed, name: str, note: Note
) -> None:
    busy = severed.busy
    before = await versions(busy)
    people = await busy.expect(PEOPLE)
    await asyncio.gather(busy.wave(people), _strike(busy, name))
    await busy.wave(await busy.expect(PEOPLE))
    await ensure_nothing_missed(busy)
    moved = (await versions(busy) - before).total()
    assert moved
    note("", **{f"versions around the end of {name}": moved})


async def _strike(busy: Busy, name: str) -> None:
    await asyncio.sleep(0.5)
    await busy.whole.strike_and_mend(name)
