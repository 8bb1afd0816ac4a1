"""The yardstick of reads: the same SELECT in a bare ASGI application, and nothing else.

No guard, no transaction, no row-level security (a superuser names the clinic), no framework. The
server and the pool are set up as Cliniq's are. Run as `python -m bench.bare PORT DSN`.
"""

import sys
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import uvicorn
import uvloop

from bench.ground import POOL_SIZE
from bench.town import CLINIC
from cliniq.domains.appointments import store
from cliniq.domains.appointments.models import Appointment, Page

NOWHERE = UUID(int=0)
LIST = store.list_of_site.text.replace("where ", "where clinic_id = $8 and ")
ONE = store.find.text.replace("where ", "where clinic_id = $2 and ")


class Bare:
    """Answers `/list/SITE/DAY` and `/one/APPOINTMENT`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        """Answer a request."""
        match scope["path"].split("/"):
            case [_, "list", site, day]:
                body = await self._list(UUID(site), date.fromisoformat(day))
            case [_, "one", appointment]:
                (row,) = await self._pool.fetch(ONE, UUID(appointment), CLINIC)
                body = msgspec.json.encode(Appointment(*row))
            case _:
                body = b"{}"
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _list(self, site: UUID, day: date) -> bytes:
        begins = datetime.combine(day, time(), UTC)
        ends = begins + timedelta(days=1)
        rest = (begins, ends, begins, NOWHERE, None, 21, CLINIC)
        rows = await self._pool.fetch(LIST, site, *rest)
        return msgspec.json.encode(Page([Appointment(*row) for row in rows[:20]], None))


async def _leave_as_is(_connection: object) -> None:
    """Spare the message by which asyncpg resets a connection: nothing was set."""


async def _serve(port: int, dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=POOL_SIZE, reset=_leave_as_is) as pool:
        config = uvicorn.Config(
            Bare(pool),
            port=port,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2]))
