"""A process of its own that serves some requests and logs as the real one does.

Standard input says what to ask; standard output gets the answers, standard error the log.
"""

import asyncio
import json
import logging
import sys
from datetime import datetime
from typing import Any

import httpx2
import structlog

from cliniq.app import build_app, open_house
from cliniq.domains.patients import service as patients
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Unit
from cliniq.platform.telemetry import configure_logs
from tests.support import KEYED


async def talk(asked: dict[str, Any]) -> dict[str, Any]:
    configure_logs(asked["level"])
    noon = datetime.fromisoformat(asked["noon"])
    clocks = Clocks(lambda: noon, lambda: noon)
    async with open_house(asked["dsn"], asked["secret"], 2, clocks, promises=None) as house:
        transport = httpx2.ASGITransport(build_app(house, "http://cliniq.test"), False)  # noqa: FBT003
        base = "http://cliniq.test"
        async with httpx2.AsyncClient(
            transport=transport, base_url=base, event_hooks=KEYED
        ) as client:
            answers = [await client.request(**each) for each in asked["requests"]]
            err(asked["mark"])
            patients.register = break_down  # type: ignore[assignment]
            answers += [await client.request(**each) for each in asked["broken"]]
            metrics = await client.get("/metrics")
    return {"answers": [(each.status_code, each.text) for each in answers], "metrics": metrics.text}


async def break_down(unit: Unit, given_name: str, *_: object) -> None:
    """Fail as a check of the database does, which quotes the row."""
    await unit.connection.execute(
        "insert into patient (patient_id, person_id, given_name, family_name)"
        " values ($1, $1, $2, $2)",
        unit.clinic_id,
        given_name,
    )


def err(mark: str) -> None:
    """Let libraries and forgotten tasks complain about a value."""
    known: dict[str, None] = {}
    try:
        known[mark]
    except KeyError as error:
        error.__cause__ = ValueError(mark)
        logging.getLogger("somebody").exception("a library fails")
        structlog.get_logger("ours").exception("we fail")
        context = {"message": "a task was forgotten", "exception": error, "task": mark}
        asyncio.get_running_loop().call_exception_handler(context)


if __name__ == "__main__":
    json.dump(asyncio.run(talk(json.load(sys.stdin))), sys.stdout)
