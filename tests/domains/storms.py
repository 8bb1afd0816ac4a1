"""Many at once, and what the server counts of it."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from cliniq.kernel.problem import Problem
from tests.support import Admin

T = TypeVar("T")


async def deadlocks(admin: Admin) -> int:
    """Count the deadlocks of the database so far.

    A backend tells its count when it ends, or after some seconds of rest: close the pools first.
    """
    counted = await admin.fetchval(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    return int(counted)


async def at_once(asks: Sequence[Awaitable[T]]) -> list[T | Problem]:
    """Let all of them run at once; a refusal is an answer, anything else that is raised fails."""
    answers = await asyncio.gather(*asks, return_exceptions=True)
    found: list[T | Problem] = []
    for each in answers:
        if isinstance(each, BaseException) and not isinstance(each, Problem):
            raise each
        found.append(each)
    return found


def codes(answers: Sequence[object]) -> list[str]:
    """Name the refusals among answers."""
    return [each.code for each in answers if isinstance(each, Problem)]
