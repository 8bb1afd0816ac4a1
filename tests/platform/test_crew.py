"""A crew of real processes: started, watched, replaced, grown, shrunk, and never left behind."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform import crew as crews
from cliniq.platform import staffing
from cliniq.platform.crew import Crew, breathe
from cliniq.platform.exposition import merged
from cliniq.platform.staffing import BUSY, Bounds
from cliniq.platform.telemetry import Metrics

MATE = Path(__file__).parent / "crewmate.py"
TRIES, PAUSE_SECONDS = 600, 0.05


@asynccontextmanager
async def crew_of(folder: Path, habits: str = "", patience: float = 20) -> AsyncIterator[Crew]:
    crew = Crew(
        lambda line: (sys.executable, str(MATE), str(folder), habits, str(line)),
        patience=patience,
        refused=2,
    )
    try:
        yield crew
    finally:
        await crew.stop()
        assert [pid for pid in begun(folder) if psutil.pid_exists(pid)] == []


async def until(true: Callable[[], object]) -> None:
    for _ in range(TRIES):
        if true():
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("it does not come")


def finished(folder: Path) -> set[int]:
    return {int(each.name.partition("-")[2]) for each in folder.glob("finished-*")}


def begun(folder: Path) -> list[int]:
    return [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]


async def test_crew_that_is_told_to_stop_has_everybody_finish(tmp_path: Path) -> None:
    async with crew_of(tmp_path) as crew:
        crew.resize(2)
        assert await crew.ready()
        pids = set(crew.pids.values())
        assert len(pids) == 2
        await crew.stop()
    assert finished(tmp_path) == pids


async def test_process_that_was_killed_is_replaced_and_its_neighbour_is_not(tmp_path: Path) -> None:
    async with crew_of(tmp_path) as crew:
        crew.resize(2)
        assert await crew.ready()
        first, second = crew.pids[1], crew.pids[2]
        os.kill(first, signal.SIGKILL)
        await until(lambda: crew.pids.get(1, first) != first)
        assert crew.pids[2] == second
        assert not crew.failed.done()


async def test_crew_whose_processes_die_at_once_is_given_up_after_some(tmp_path: Path) -> None:
    async with crew_of(tmp_path, "dies") as crew:
        crew.resize(1)
        assert not await crew.ready()
        assert await crew.failed == 7
    assert len(begun(tmp_path)) == staffing.MOST_DEATHS


async def test_process_that_refuses_to_start_is_not_asked_again(tmp_path: Path) -> None:
    async with crew_of(tmp_path, "refuses") as crew:
        crew.resize(1)
        assert not await crew.ready()
        assert await crew.failed == 2
    assert len(begun(tmp_path)) == 1


async def test_command_that_does_not_exist_fails_the_crew(tmp_path: Path) -> None:
    crew = Crew(lambda _line: (str(tmp_path / "nothing"),), patience=1)
    crew.resize(1)
    assert not await crew.ready()
    await crew.stop()


async def test_crew_that_has_served_is_tried_on_while_its_processes_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staffing, "LONGEST_PAUSE_SECONDS", 0.05)
    async with crew_of(tmp_path) as crew:
        crew.resize(1)
        assert await crew.ready()
        (tmp_path / "die").touch()
        os.kill(crew.pids[1], signal.SIGKILL)
        await until(lambda: len(begun(tmp_path)) > staffing.MOST_DEATHS + 1)
        (tmp_path / "die").unlink()
        await until(lambda: crew.pids)
        assert not crew.failed.done()


async def test_everybody_is_replaced_and_never_is_one_missing(tmp_path: Path) -> None:
    async with crew_of(tmp_path) as crew:
        crew.resize(2)
        assert await crew.ready()
        before = set(crew.pids.values())
        rolling = asyncio.create_task(crew.roll())
        while not rolling.done():
            assert len(crew.pids) == 2
            await asyncio.sleep(0.01)
        assert await rolling
        assert not before & set(crew.pids.values())
        assert finished(tmp_path) == before


async def test_successor_that_dies_leaves_the_others_where_they_are(tmp_path: Path) -> None:
    async with crew_of(tmp_path) as crew:
        crew.resize(2)
        assert await crew.ready()
        before = crew.pids
        (tmp_path / "die").touch()
        assert not await crew.roll()
        assert crew.pids == before


async def test_successor_that_is_never_ready_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with crew_of(tmp_path, "late") as crew:
        crew.resize(1)
        await until(lambda: len(begun(tmp_path)) == 1)
        rolling = asyncio.create_task(crew.roll())
        await until(lambda: len(begun(tmp_path)) == 2)
        await crew.stop()
        assert not await rolling


async def test_slow_one_is_waited_for_until_the_second_word(tmp_path: Path) -> None:
    async with crew_of(tmp_path, "slow", patience=600) as crew:
        crew.resize(1)
        assert await crew.ready()
        (pid,) = crew.pids.values()
        stopping = asyncio.create_task(crew.stop())
        await asyncio.sleep(0.2)
        assert not stopping.done()
        assert psutil.pid_exists(pid)
        crew.cut()
        await stopping
        assert finished(tmp_path) == {pid}


async def test_stubborn_one_is_killed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "CUT_SECONDS", 0.1)
    async with crew_of(tmp_path, "stubborn", patience=0.1) as crew:
        crew.resize(1)
        assert await crew.ready()
        (pid,) = crew.pids.values()
        await crew.stop()
        assert not psutil.pid_exists(pid)
        assert finished(tmp_path) == set()


SUPERVISOR = """
import asyncio, sys
from cliniq.platform.crew import Crew

async def live():
    words = lambda line: (sys.executable, *sys.argv[1:], str(line))
    crew = Crew(words, patience=20)
    crew.resize(2)
    await crew.ready()
    print("ready", flush=True)
    await asyncio.sleep(3600)

asyncio.run(live())
"""


async def test_crew_ends_with_its_supervisor_however_that_ends(tmp_path: Path) -> None:
    words = (sys.executable, "-c", SUPERVISOR, str(MATE), str(tmp_path), "")
    supervisor = await asyncio.create_subprocess_exec(*words, stdout=PIPE)
    assert supervisor.stdout is not None
    assert await supervisor.stdout.readline() == b"ready\n"
    supervisor.kill()
    await supervisor.communicate()  # until the last of the crew has let go of the output
    assert len(finished(tmp_path)) == 2


WORKERS = """
import asyncio, sys
from pathlib import Path
from cliniq.cli.crews import keep_workers
from cliniq.platform import crew
from cliniq.platform.staffing import Bounds

crew.LOOK_SECONDS = 0.05

async def depths():
    return {"email": int(Path(sys.argv[2], "depth").read_text())}

words = lambda line: (sys.executable, *sys.argv[1:], str(line))
asyncio.run(keep_workers(words, Bounds(1, 2), depths, patience=20))
"""


async def test_workers_come_and_go_with_the_work_and_end_on_request(tmp_path: Path) -> None:
    depth = tmp_path / "depth"
    depth.write_text("0")
    words = (sys.executable, "-c", WORKERS, str(MATE), str(tmp_path), "")
    supervisor = await asyncio.create_subprocess_exec(*words)
    await until(lambda: len(begun(tmp_path)) == 1)
    depth.write_text(str(10 * BUSY))
    await until(lambda: len(begun(tmp_path)) == 2)
    depth.write_text("0")
    await until(lambda: len(finished(tmp_path)) == 1)
    supervisor.send_signal(signal.SIGTERM)
    assert await supervisor.wait() == 0
    assert len(finished(tmp_path)) == 2


# How large it is


async def test_crew_grows_with_its_lanes_and_shrinks_again_by_and_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "LOOK_SECONDS", 0.01)
    depths: dict[str, int] = {"email": 10 * BUSY}
    looks = 0

    async def look() -> Mapping[str, int]:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise DependencyUnavailable("postgresql")
        if looks == 3:
            raise ValueError
        return depths

    async with crew_of(tmp_path) as crew:
        crew.resize(1)
        breathing = asyncio.create_task(breathe(crew, Bounds(1, 3), look))
        await until(lambda: len(crew.pids) == 3)
        grown = crew.pids
        depths["email"] = 0
        looks = 10
        await until(lambda: crew.size < 3)
        assert looks >= 10 + crews.CALM_LOOKS
        await until(lambda: len(finished(tmp_path)) == 2)
        assert crew.pids == {1: grown[1]}
        assert not breathing.done()
        breathing.cancel()


# What it counts


async def test_metrics_of_a_crew_are_told_by_whom_they_are(tmp_path: Path) -> None:
    async with crew_of(tmp_path) as crew:
        crew.resize(2)
        assert await crew.ready()
        page = await crew.metrics()
    assert page == (
        b"# HELP tea_total Cups.\n# TYPE tea_total counter\n"
        b'tea_total{process="1"} 1.0\ntea_total{process="2"} 1.0\n'
    )


async def test_one_of_a_crew_learns_what_all_have_counted(tmp_path: Path) -> None:
    async with crew_of(tmp_path) as crew:
        crew.resize(1)
        assert await crew.ready()
        crew._command = lambda line: (sys.executable, str(MATE), str(tmp_path), "asks", str(line))  # noqa: SLF001
        crew.resize(2)
        assert await crew.ready()
        assert b'tea_total{process="1"} 1.0' in (tmp_path / "asked").read_bytes()


def test_pages_are_joined_without_a_change() -> None:
    one, two = Metrics(), Metrics()
    for number, metrics in enumerate((one, two)):
        metrics.requests.labels("GET", '/a "b" \\ c\n', 200).observe(0.3)
        metrics.problems.labels("NOT_FOUND").inc(number + 1)
        metrics.sockets.set(number)
    whole = merged({"1": one.exposition(), "2": two.exposition()})
    assert whole.count(b"# TYPE cliniq_live_sockets gauge") == 1
    for name, metrics in (("1", one), ("2", two)):
        found = {
            (sample.name, *sorted(label.items()), sample.value)
            for family in text_string_to_metric_families(whole.decode())
            for sample in family.samples
            for label in [dict(sample.labels)]
            if label.pop("process") == name
        }
        assert found == {
            (sample.name, *sorted(sample.labels.items()), sample.value)
            for family in text_string_to_metric_families(metrics.exposition().decode())
            for sample in family.samples
        }
