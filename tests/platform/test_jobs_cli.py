"""`cliniq jobs` and `cliniq worker`, as an operator has them."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from cliniq.app import House
from cliniq.cli.main import cli
from cliniq.kernel.scope import PlatformScope
from cliniq.platform.clock import utc_now
from cliniq.platform.db import Unit, open_unit
from cliniq.platform.duties import PASSES
from cliniq.platform.jobs import Job, Tick, report
from cliniq.platform.lanes import Lane
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.platform.tasks import (
    Diary,
    Number,
    failures,
    is_empty,
    states,
    until_true,
    worker_of,
    writer,
)
from tests.support import SECRET, Admin, Client, SomeClinic

WIDE = {"COLUMNS": "300"}


@pytest.fixture
def settings(urls: Urls, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of an operator; the logs of this process stay as they are."""
    monkeypatch.setattr("cliniq.cli.jobs.configure_logs", lambda _level: None)
    return {"CLINIQ_DATABASE_URL": urls.application, "CLINIQ_SECRET": SECRET}


async def say(settings: dict[str, str], *words: str) -> Result:
    return await asyncio.to_thread(
        CliRunner().invoke, cli, ["jobs", *words], env=settings | WIDE, catch_exceptions=False
    )


async def test_operator_sees_what_is_promised_and_for_whom_but_only_ids(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, settings: dict[str, str]
) -> None:
    job = writer(diary)
    async with clinic.unit() as unit:
        await job.later(unit, Number(7), key="a")
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await writer(diary, Lane.UPKEEP).later(unit, Number(8))
    both = (await say(settings, "list", "--json")).stdout.splitlines()
    assert [msgspec.json.decode(line)["lane"] for line in both] == ["reminders", "upkeep"]
    (line,) = (
        await say(settings, "list", "--json", "--clinic", str(clinic.clinic_id))
    ).stdout.splitlines()
    found = msgspec.json.decode(line)
    assert (found["state"], found["payload"]) == ("waiting", '{"number": 7}')
    table = (await say(settings, "list", "--lane", "upkeep", "--state", "waiting")).stdout
    assert "test.write" in table
    assert "reminders" not in table
    assert "test.write" not in (await say(settings, "list", "--state", "held")).stdout
    await report(house.entrance.database, found["key"], 3, 10, "rows")
    shown = (await say(settings, "show", str(found["id"]))).stdout
    assert "payload (ids only)" in shown
    assert "3 of 10 rows" in shown
    told = msgspec.json.decode((await say(settings, "show", str(found["id"]), "--json")).stdout)
    assert told["job"] == found
    missing = await say(settings, "show", "123456789")
    assert (missing.exit_code, "is not there" in missing.stderr) == (1, True)


async def test_operator_replays_and_drops_what_is_held(
    clinic: SomeClinic, admin: Admin, diary: Diary, settings: dict[str, str]
) -> None:
    async with clinic.unit() as unit:
        for number in range(3):
            await writer(diary).later(unit, Number(number))
    await admin.execute("update pgqueuer set status = 'failed'")
    first, *_ = [row["id"] for row in await admin.fetch("select id from pgqueuer order by id")]
    for words in ("replay", "drop"):
        assert (await say(settings, words)).exit_code == 2
    assert "1 jobs run anew." in (await say(settings, "replay", str(first))).stdout
    assert "2 jobs dropped." in (await say(settings, "drop", "--lane", "reminders")).stdout
    assert (
        "1 jobs dropped."
        in (await say(settings, "drop", "--clinic", str(clinic.clinic_id), "--waiting")).stdout
    )
    assert await is_empty(admin)


@pytest.mark.usefixtures("impatient")
async def test_poisoned_job_is_held_and_done_once_it_is_replayed(
    house: House, clinic: SomeClinic, diary: Diary, settings: dict[str, str], admin: Admin
) -> None:
    poisoned = 3

    async def remind(unit: Unit, what: Number) -> None:
        if what.number == poisoned:
            raise ZeroDivisionError
        diary.write(what.number)

    job = Job("test.remind", Lane.REMINDERS, Number, remind)
    async with clinic.unit() as unit:
        for number in range(20):
            await job.later(unit, Number(number))
    async with worker_of(house, job):
        await failures(admin, 1)
        await until_true(lambda: _only_held(admin))
        assert sorted(diary.lines) == [each for each in range(20) if each != poisoned]  # type: ignore[type-var]
        (line,) = (await say(settings, "list", "--state", "held", "--json")).stdout.splitlines()
        held = msgspec.json.decode(line)
        assert held["payload"] == '{"number": 3}'
        assert "ZeroDivisionError" in (await say(settings, "show", str(held["id"]))).stdout
        poisoned = -1
        assert "1 jobs run anew." in (await say(settings, "replay", str(held["id"]))).stdout
        await until_true(lambda: is_empty(admin))
    assert diary.lines[19:] == [3]


async def _only_held(admin: Admin) -> bool:
    return await states(admin) == ["failed"]


async def test_operator_follows_a_job_to_its_end(
    house: House, clinic: SomeClinic, diary: Diary, settings: dict[str, str], admin: Admin
) -> None:
    job = writer(diary)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    job_id = await admin.fetchval("select id from pgqueuer")
    watching = asyncio.create_task(say(settings, "show", str(job_id), "--watch"))
    async with worker_of(house, job):
        said = await watching
    assert said.exit_code == 0
    assert f"job {job_id} is done" in said.stdout


async def test_state_that_does_not_exist_is_refused(settings: dict[str, str]) -> None:
    assert (await say(settings, "list", "--state", "lost")).exit_code == 2


async def test_worker_command_works_until_it_is_told_to_stop(
    own_urls: Urls, own_admin: Admin, tmp_path: Path
) -> None:
    settings = {"CLINIQ_DATABASE_URL": own_urls.application, "CLINIQ_SECRET": SECRET}
    async with (
        house_of(own_urls) as house,
        open_unit(house.entrance.database, PlatformScope("test")) as unit,
    ):
        await PASSES.later(unit, Tick(utc_now()))
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("cliniq"),
        "worker",
        cwd=tmp_path,
        env={"PATH": os.defpath} | settings,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until_true(lambda: is_empty(own_admin))
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said
    assert b"Cliniq works off jobs" in said
    assert b"Traceback" not in said


async def test_metrics_tell_how_many_jobs_wait(
    client: Client, clinic: SomeClinic, diary: Diary
) -> None:
    async with clinic.unit() as unit:
        await writer(diary, Lane.STORAGE).later(unit, Number(1))
    said = (await client.get("/metrics")).text
    assert 'cliniq_jobs{lane="storage",state="waiting"} 1.0' in said
    assert 'cliniq_jobs_oldest_seconds{lane="storage"}' in said
