"""Who is at work on this database.

Two who do not hear each other, for want of Redis, would do harm: sockets of one would never see
what the other commits, and limits would count twice.

Each process holds a lease in the database, by wall time. Of one on this machine the operating
system says whether it lives; one elsewhere is dead when it is no longer seen.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import structlog
from msgspec.structs import replace

from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import processes_store
from cliniq.platform.db import Database, Opening, Unit, open_read_unit, open_unit
from cliniq.platform.endings import end_all
from cliniq.platform.processes_store import Lease

log = structlog.get_logger(__name__)

RENEW_SECONDS = 2.0
STALE_SECONDS = 10.0
BIRTH_SECONDS = 2  # by which two readings of one birth may differ
PATIENCE_SECONDS = 3  # for the last word


class LeaseRefused(Exception):
    """Another process is at work, and the two could not hear each other; one sentence."""


@asynccontextmanager
async def at_work(
    database: Database,
    kind: str,
    *,
    has_redis: bool,
    lost: Callable[[], None],
    say: Callable[[str], None],
) -> AsyncIterator[None]:
    """Hold the lease of this process for as long as the block lasts.

    `say` hears why it takes time; `lost` is called, once, where somebody else took this process for
    dead and is at work now. Raises: LeaseRefused where another lives and one of both has no Redis.
    """
    me = _myself(database, kind, has_redis=has_redis)
    await _enter(database, me, say)
    renewing = asyncio.create_task(_keep_seen(database, me, lost))
    try:
        yield
    finally:
        await end_all(renewing)
        with suppress(DependencyUnavailable, TimeoutError):  # then it goes stale
            async with asyncio.timeout(PATIENCE_SECONDS), _unit(database) as unit:
                await processes_store.remove_leases(unit, [me.process_id])


async def list_living(database: Database) -> list[Lease]:
    """List who is at work, as far as can be told at a glance."""
    async with open_read_unit(database, PlatformScope("processes")) as unit:
        known = await processes_store.list_leases(unit)
        return [each for each in known if not is_dead(each, unit.wall)]


def rivals(me: Lease, others: Iterable[Lease]) -> list[Lease]:
    """List those with whom `me` cannot be at work, since one of both has no Redis."""
    return [each for each in others if not (me.has_redis and each.has_redis)]


def lives(lease: Lease) -> bool | None:
    """Say whether it lives; nothing where this machine cannot know."""
    if lease.machine != machine():
        return None
    try:
        found = psutil.Process(lease.pid)
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        born = datetime.fromtimestamp(found.create_time(), UTC)
    except psutil.NoSuchProcess:
        return False
    # Another birth is another process of that number, or the machine's clock was put right.
    return True if abs(born - lease.born_at) < timedelta(seconds=BIRTH_SECONDS) else None


def is_dead(lease: Lease, wall: datetime) -> bool:
    """Tell whether it has certainly gone, or has not been seen for too long."""
    alive = lives(lease)
    return wall - lease.seen_at > timedelta(seconds=STALE_SECONDS) if alive is None else not alive


def machine() -> str:
    """Name where process numbers mean the same: one boot of a host, or one container in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


def _myself(database: Database, kind: str, *, has_redis: bool) -> Lease:
    born = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    wall = database.clocks.wall()
    host, pid = socket.gethostname(), os.getpid()
    return Lease(new_id(), kind, host, machine(), pid, born, has_redis, wall, wall)


def _unit(database: Database) -> Opening[Unit]:
    return open_unit(database, PlatformScope("processes"))


async def _enter(database: Database, me: Lease, say: Callable[[str], None]) -> None:
    """Enter, once whoever may be dead is known to be."""
    waiting = STALE_SECONDS
    suspects: dict[Lease, None] = {}
    while True:
        refusing = await _try(database, me, gone=suspects if waiting <= 0 else ())
        if not refusing:
            return
        moving = [each for each in refusing if lives(each) or (suspects and each not in suspects)]
        if moving:
            raise LeaseRefused(
                f"Another Cliniq process serves this database ({named(moving[0])}):"
                " set CLINIQ_REDIS_URL for both, or stop it."
            )
        if not suspects:
            say(f"Waiting to see whether another process still lives ({named(refusing[0])}) ...")
        suspects = dict.fromkeys(refusing)
        waiting -= RENEW_SECONDS
        await asyncio.sleep(RENEW_SECONDS)


async def _try(database: Database, me: Lease, gone: Iterable[Lease]) -> list[Lease]:
    """Enter unless somebody is in the way; return those. The dead are cleared away."""
    dead = set(gone)
    async with _unit(database) as unit:
        await processes_store.queue_up(unit)
        known = await processes_store.list_leases(unit)
        away = [each for each in known if each in dead or is_dead(each, unit.wall)]
        await processes_store.remove_leases(unit, [each.process_id for each in away])
        refusing = rivals(me, [each for each in known if each not in away])
        if not refusing:
            seen = replace(me, seen_at=unit.wall)
            await processes_store.add_lease(unit, seen)
        return refusing


async def _keep_seen(database: Database, me: Lease, lost: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            async with _unit(database) as unit:
                seen = await processes_store.renew(unit, me.process_id, unit.wall)
            if seen is None and await _try(database, me, gone=()):
                log.error("another process has taken over this database")
                lost()
                return
        except DependencyUnavailable:
            continue  # whoever would take over needs the database too
        except Exception:
            log.exception("the lease of this process was not renewed")


def named(lease: Lease) -> str:
    """Say which process it is, for an operator."""
    return f"{lease.kind}, number {lease.pid} on {lease.host}"
