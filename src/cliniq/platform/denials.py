"""What is remembered although the request is refused: a second unit after the rollback."""

from uuid import UUID

import structlog

from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import Problem
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import events_store
from cliniq.platform.db import Database, open_unit

log = structlog.get_logger(__name__)


class Knock(Record, frozen=True):
    """Who asked for what, in which clinic: what a refusal is remembered with."""

    actor_id: UUID | None
    clinic_id: UUID | None
    permission: str
    action: str
    request_id: str


async def remember_denial(database: Database, knock: Knock, problem: Problem) -> None:
    """Write a refusal to the audit of the clinic that was asked for.

    Never raises: the caller is refused either way, and a loss is logged as an error.
    """
    clocks = database.clocks
    denial = events_store.Denial(
        clinic_id=knock.clinic_id,
        denial_id=new_id(),
        actor_id=knock.actor_id,
        permission=knock.permission,
        action=knock.action,
        code=problem.code,
        request_id=knock.request_id,
        happened_at=clocks.clinic(),
        recorded_at=clocks.wall(),
    )
    try:
        async with open_unit(database, PlatformScope("remember a denial")) as unit:
            await events_store.add_denial(unit, denial)
    except Exception:
        log.exception("a denial was not remembered", code=problem.code)


async def remember_security_event(
    database: Database, action: str, code: str, *, actor_id: UUID | None, request_id: str
) -> None:
    """Write a refusal that has no clinic, such as a failed sign-in.

    Raises: DEPENDENCY_UNAVAILABLE 503 where the database does not serve.
    """
    async with open_unit(database, PlatformScope("remember a security event")) as unit:
        await events_store.add_security_event(
            unit, new_id(), unit.wall, actor_id, action, code, request_id
        )
