"""x"""
import asyncio
from cliniq.app import House
from cliniq.kernel.record import Record
from cliniq.platform.db import Unit
from cliniq.platform.jobs import Job, Registry
from cliniq.platform.jobs_worker import working
from cliniq.platform.lanes import Lane
from cliniq.platform.telemetry import Metrics
from tests.support import SomeClinic, Admin

class P(Record, frozen=True):
    n: int

async def test_x(house: House, clinic: SomeClinic, admin: Admin) -> None:
    got = []
    async def do(unit: Unit, p: P) -> None:
        got.append((p.n, unit.scope))
    job = Job("test.x", Lane.REMINDERS, P, do)
    async with clinic.unit() as unit:
        for n in range(50):
            await job.later(unit, P(n))
    print(await admin.fetch("select * from pgqueuer limit 3"))
    async with working(house.entrance.database, house.entrance.bus, Registry([job]), Metrics(), hands=4):
        for _ in range(100):
            if len(got) >= 50: break
            await asyncio.sleep(0.05)
    print(len(got), got[:2])
    assert await admin.fetchval("select count(*) from pgqueuer") == 0
