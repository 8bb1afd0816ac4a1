"""The only SQL of jobs: pgqueuer's tables and ours beside them. It reads the server's clock.

A ranked job has a priority above the least, -2147483648; see the migration.
"""

from datetime import datetime
from uuid import UUID

from cliniq.kernel.ids import ClinicId, PersonId
from cliniq.kernel.permissions import Permission
from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


class Taken(Record, frozen=True):
    """A job that this worker has taken. `attempts` counts earlier runs."""

    id: int
    lane: str
    job: str
    clinic: ClinicId | None
    key: str
    person: PersonId | None
    trace: str | None
    payload: bytes
    attempts: int
    created: datetime


class Filed(Record, frozen=True):
    """A job as operators see it; `due_at` is when it may run, or has become due."""

    id: int
    lane: str
    job: str
    state: str
    clinic: UUID | None
    attempts: int
    created: datetime
    due_at: datetime
    key: str
    payload: str


class Entry(Record, frozen=True):
    """What became of one run that did not end well."""

    at: datetime
    status: str
    told: str | None


class Progress(Record, frozen=True):
    """How far a job has come."""

    done: int
    total: int
    note: str
    started_at: datetime
    told_at: datetime


class Depth(Record, frozen=True):
    """How many jobs of a lane are in which state, and how long the oldest has waited."""

    lane: str
    waiting: int
    later: int
    running: int
    held: int
    oldest_seconds: int


# --- promising ------------------------------------------------------------------------------------


@sql("select promise_jobs($1)")
async def promise(unit: Unit, jobs: str) -> int:
    """Write jobs (a JSON array) down for the acting clinic; answer how many are new."""


@sql("select promise_any_jobs($1)")
async def promise_any(unit: Unit, jobs: str) -> int:
    """Write jobs (a JSON array) down for the clinics that they name; answer how many are new."""


@sql("""
    insert into job_tick (job, ticked_at) values ($1, $2)
    on conflict (job) do update set ticked_at = excluded.ticked_at
        where job_tick.ticked_at < excluded.ticked_at
    returning ticked_at
""")
async def claim_tick(unit: Unit, job: str, at: datetime) -> datetime | None:
    """Take a schedule's tick, once for all workers; nothing where it is taken."""


# --- working --------------------------------------------------------------------------------------


@sql(
    "insert into job_pace (lane, spent_until) select unnest($1::text[]), '2000-01-01 00:00+00'"
    " on conflict (lane) do nothing"
)
async def pace(unit: Unit, lanes: list[str]) -> None:
    """Have a pace for each lane with a rate."""


@sql("""
    with wanted as (
        select * from unnest($1::text[], $2::bigint[], $3::bigint[]) as w (lane, room, rate)
    ), paced as (
        select p.lane, greatest(p.spent_until, now() - interval '1 second') as since
        from job_pace as p where p.lane = any (array(select lane from wanted where rate > 0))
            and exists (select from pgqueuer as q where q.entrypoint = p.lane
                and q.status = 'queued' and q.priority > -2147483648)
        for update of p skip locked
    ), fit as (
        select lane, rate, since, case when rate = 0 then room
            else least(room, floor(extract(epoch from now() - since) * rate)::bigint) end as room
        from wanted left join paced using (lane) where rate = 0 or since is not null
    ), taken as (
        update pgqueuer set status = 'picked', updated = now(), heartbeat = now(),
            queue_manager_id = $4
        where id = any (array(
            select job.id from fit cross join lateral (
                select id from pgqueuer where entrypoint = fit.lane and status = 'queued'
                    and priority > -2147483648
                order by priority desc, id limit fit.room for update skip locked
            ) as job
        ))
        returning *
    ), spent as (
        update job_pace as p set spent_until = fit.since + interval '1 second'
            * (select count(*) from taken where entrypoint = fit.lane) / fit.rate
        from fit where p.lane = fit.lane and fit.rate > 0
            and exists (select from taken where entrypoint = fit.lane)
    )
    select id, entrypoint as lane, headers ->> 'job' as job, (headers ->> 'clinic')::uuid as clinic,
        headers ->> 'key' as key, (headers ->> 'person')::uuid as person,
        headers ->> 'trace' as trace, coalesce(payload, '') as payload,
        attempts::bigint as attempts, created
    from taken order by priority desc, id
""")
async def take(
    unit: Unit, lanes: list[str], rooms: list[int], rates: list[int], worker: UUID
) -> list[Taken]:
    """Take the next jobs of lanes, as many as there is room, no faster than their rates.

    Locks: a lane with a rate is taken from by one worker at a time; others pass it by.
    """


@sql("""
    with ended as (
        select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[])
            as e (id, outcome, wait_ms, told)
    ), gone as (
        delete from pgqueuer as q using ended as e
        where q.id = e.id and q.queue_manager_id = $5 and e.outcome in ('done', 'refused')
        returning q.id
    ), kept as (
        update pgqueuer as q set updated = now(), queue_manager_id = null, slot = null,
            status = case e.outcome when 'held' then 'failed' else 'queued' end::pgqueuer_status,
            attempts = q.attempts + case e.outcome when 'released' then 0 else 1 end,
            priority = case e.outcome when 'held' then q.priority else -2147483648 end,
            execute_after = now() + interval '1 millisecond' * e.wait_ms
        from ended as e
        where q.id = e.id and q.queue_manager_id = $5
            and e.outcome in ('failed', 'held', 'released')
        returning q.id
    )
    insert into pgqueuer_log (job_id, status, priority, entrypoint, traceback, aggregated)
    select e.id, case e.outcome when 'held' then 'failed' when 'refused' then 'canceled'
        else 'exception' end::pgqueuer_status, 0, '', e.told::jsonb, true
    from ended as e
    where e.told <> '' and e.id in (select id from gone union all select id from kept)
""")
async def settle(
    unit: Unit, ids: list[int], outcomes: list[str], waits: list[int], told: list[str], worker: UUID
) -> None:
    """Write down how runs ended; of jobs that this worker has lost, nothing.

    `done` and `refused` jobs go; `failed` ones come again after their wait; `held` ones stay;
    `released` ones come again as if they had not been taken. Units: waits in milliseconds.
    """


def seat_of_work(clinic: ClinicId, person: PersonId, wanted: Permission) -> str:
    """Call `take_work_seat`. It travels with BEGIN, so it is text: ids, and our own word."""
    return f"call take_work_seat('{clinic}', '{person}', '{wanted}')"


def end_of_job(job_id: int, worker: UUID) -> str:
    """Call `finish_job`. It travels with COMMIT, so it is text: ids by type."""
    return f"call finish_job({job_id:d}, '{worker}')"


@sql("update pgqueuer set heartbeat = now() where id = any($1) and queue_manager_id = $2")
async def beat(unit: Unit, ids: list[int], worker: UUID) -> None:
    """Say that jobs are still being worked on."""


@sql("""
    with patience as (
        select * from unnest($2::text[], $3::bigint[]) as p (lane, tries)
    ), stale as (
        select id from pgqueuer
        where status = 'picked' and heartbeat < now() - interval '1 second' * $1::bigint
        for update skip locked
    ), swept as (
        update pgqueuer as q set updated = now(), queue_manager_id = null, slot = null,
            status = case when q.attempts + 1 >= p.tries then 'failed' else 'queued' end
                ::pgqueuer_status,
            attempts = q.attempts + 1, priority = -2147483648, execute_after = now()
        from stale, patience as p where q.id = stale.id and p.lane = q.entrypoint
        returning q.id, q.status, q.entrypoint
    ), logged as (
        insert into pgqueuer_log (job_id, status, priority, entrypoint, traceback, aggregated)
        select id, case status when 'failed' then status else 'exception' end, 0, entrypoint,
            '{"error": "its worker died"}', true from swept
    )
    select id from swept
""")
async def sweep(unit: Unit, silent_seconds: int, lanes: list[str], tries: list[int]) -> list[int]:
    """Put back what dead workers left; hold what has killed its worker too often."""


@sql("select rank_jobs($1, $2)")
async def rank(unit: Unit, lanes: list[str], most: int) -> list[str]:
    """Give their turns to jobs whose time has come, at most so many a lane; name their lanes."""


@sql("""
    insert into job_progress as p (key, done, total, note, started_at, told_at)
    values ($1, $2, $3, $4, $5, $5)
    on conflict (key) do update set done = excluded.done, total = excluded.total,
        note = excluded.note, told_at = excluded.told_at,
        started_at = case when excluded.done < p.done then excluded.started_at else p.started_at end
""")
async def tell_progress(
    unit: Unit, key: str, done: int, total: int, note: str, wall: datetime
) -> None:
    """Remember how far a job has come; one that begins anew has begun anew."""


# --- upkeep ---------------------------------------------------------------------------------------


@sql("select wind_back_turns()")
async def wind_back(unit: Unit) -> int:
    """Forget the turns of lanes in which nobody waits; answer how many."""


@sql("""
    with old as (
        delete from pgqueuer_log where id in (
            select id from pgqueuer_log where created < $1 limit $2
        )
        returning id
    )
    select count(*) from old
""")
async def forget_runs(unit: Unit, before: datetime, most: int) -> int:
    """Forget what became of some old runs; answer how many."""


@sql("delete from job_progress where told_at < $1")
async def forget_progress(unit: Unit, before: datetime) -> None:
    """Forget how far jobs had come."""


# --- seeing and mending ---------------------------------------------------------------------------


@sql("""
    select * from (
        select id, entrypoint as lane, headers ->> 'job' as job, case
                when status = 'failed' then 'held'
                when status = 'picked' then 'running'
                when priority > -2147483648 then 'waiting'
                else 'later' end as state,
            (headers ->> 'clinic')::uuid as clinic, attempts::bigint as attempts, created,
            case when priority > -2147483648 then updated else execute_after end as due_at,
            headers ->> 'key' as key, convert_from(payload, 'UTF8') as payload
        from pgqueuer where ($1::bigint is null or id = $1)
            and ($2::text is null or entrypoint = $2)
    ) as filed
    where ($3::text is null or state = $3) and ($4::uuid is null or clinic = $4)
    order by id limit $5
""")
async def list_jobs(
    unit: ReadUnit,
    job_id: int | None,
    lane: str | None,
    state: str | None,
    clinic: UUID | None,
    most: int,
) -> list[Filed]:
    """List jobs, the oldest first; one that is done is not there."""


@sql("""
    select created as at, status::text as status, traceback::text as told from pgqueuer_log
    where job_id = $1 order by created, id
""")
async def list_runs(unit: ReadUnit, job_id: int) -> list[Entry]:
    """List what became of its runs that did not end well."""


@sql("select done, total, note, started_at, told_at from job_progress where key = $1")
async def find_progress(unit: ReadUnit, key: str) -> Progress | None:
    """Say how far a job has come; nothing where it has said nothing."""


@sql("""
    update pgqueuer set status = 'queued', attempts = 0, updated = now(),
        priority = -2147483648, execute_after = now()
    where status = 'failed' and ($1::bigint[] is null or id = any($1))
        and ($2::text is null or entrypoint = $2)
        and ($3::uuid is null or (headers ->> 'clinic')::uuid = $3)
        and not exists (select from pgqueuer as o where o.dedupe_key = pgqueuer.dedupe_key
            and (o.status in ('queued', 'picked') or o.status = 'failed' and o.id > pgqueuer.id))
    returning id
""")
async def replay(
    unit: Unit, ids: list[int] | None, lane: str | None, clinic: UUID | None
) -> list[int]:
    """Let held jobs run anew, with all their tries; not one whose double waits or runs already."""


@sql("""
    delete from pgqueuer where status <> 'picked' and ($1::bigint[] is null or id = any($1))
        and ($2::text is null or entrypoint = $2)
        and ($3::uuid is null or (headers ->> 'clinic')::uuid = $3)
        and ($4::boolean or status = 'failed')
    returning id
""")
async def drop(
    unit: Unit, ids: list[int] | None, lane: str | None, clinic: UUID | None, *, waiting: bool
) -> list[int]:
    """Forget held jobs, and `waiting` ones if so said; never one that runs."""


@sql("""
    select entrypoint as lane,
        count(*) filter (where status = 'queued' and priority > -2147483648) as waiting,
        count(*) filter (where status = 'queued' and priority = -2147483648) as later,
        count(*) filter (where status = 'picked') as running,
        count(*) filter (where status = 'failed') as held,
        coalesce(extract(epoch from now() - min(updated)
            filter (where status = 'queued' and priority > -2147483648)), 0)::bigint
            as oldest_seconds
    from pgqueuer group by entrypoint order by entrypoint
""")
async def depths(unit: ReadUnit) -> list[Depth]:
    """Count the jobs of every lane that has any."""
