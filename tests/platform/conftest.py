"""What the tests of the platform share: two clinics with a row in every table."""

from datetime import timedelta

import pytest

from cliniq.app import House
from cliniq.platform import jobs_run, jobs_worker
from cliniq.platform.lanes import LANES, Lane, Policy
from tests.platform.tasks import Diary
from tests.platform.world import World, inhabit
from tests.support import Admin


@pytest.fixture(scope="session")
async def world(house: House, admin: Admin) -> World:
    """Two clinics that no test changes: each only tries to."""
    return World(await inhabit(house, admin), await inhabit(house, admin))


@pytest.fixture
async def diary(admin: Admin) -> Diary:
    """An empty diary for jobs to write into; nothing is promised yet."""
    await admin.execute("delete from pgqueuer; delete from pgqueuer_log; delete from job_tick")
    return Diary()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reminders are tried three times, one right after the other."""
    _change_reminders(monkeypatch, timedelta(seconds=30))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reminders, besides, may take a tenth of a second."""
    _change_reminders(monkeypatch, timedelta(seconds=0.1))


def _change_reminders(monkeypatch: pytest.MonkeyPatch, deadline: timedelta) -> None:
    soon = timedelta(milliseconds=1)
    lanes = {**LANES, Lane.REMINDERS: Policy(8, 0, 3, soon, soon, deadline, 1)}
    for module in (jobs_run, jobs_worker):
        monkeypatch.setattr(module, "LANES", lanes)
    monkeypatch.setattr(jobs_worker, "RANK_SECONDS", 0.01)
