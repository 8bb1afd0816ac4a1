"""Routes of the queue room, and the topic that shows a queue live."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends

from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.clinics import api as clinics
from cliniq.domains.queue import errors, service
from cliniq.domains.queue.events import (
    EntryCalled,
    EntryCompleted,
    EntryJoined,
    EntryLeft,
    EntryStarted,
)
from cliniq.domains.queue.models import (
    Board,
    CalledEntry,
    Entry,
    MyPlace,
    Place,
    QueueHead,
    QueueSnapshot,
)
from cliniq.domains.queue.schemas import CallIn, LineIn
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import Forbidden, InvalidTransition, NotFound
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.http.fields import Day
from cliniq.platform.http.guards import (
    Guard,
    may,
    may_read,
    may_read_or_own,
    own_everywhere,
)
from cliniq.platform.http.problems import joined, problems
from cliniq.platform.http.route import room
from cliniq.platform.http.sse import RESPONSES, Audience, EventStream, Following
from cliniq.platform.http.terms import terms
from cliniq.platform.http.topics import Topic
from cliniq.platform.http.traffic import Traffic

router = room("", "queue")

MayRead = Annotated[ReadUnit, may_read(Permission.QUEUE_READ)]
MayCall = Annotated[Unit, may(Permission.QUEUE_CALL)]
MayManage = Annotated[Unit, may(Permission.QUEUE_MANAGE)]

STEP = problems(Forbidden, errors.EntryNotFound, InvalidTransition, appointments.StaleVersion)

# A queue's tickets, for staff who may read queues and for patients who wait in it.
queue_topic = Topic(
    "queue",
    Guard(ReadUnit, Permission.QUEUE_READ, own="one"),
    service.watch_board,
    service.read_board_version,
    Board,
    (EntryJoined, EntryCalled, EntryStarted, EntryCompleted, EntryLeft),
)


@router.get("/queues", responses=problems(Forbidden, NotFound, clinics.SiteNotFound))
async def list_queues(
    unit: MayRead, site_id: UUID | None = None, on_day: Day | None = None
) -> list[QueueHead]:
    """List queues of a day, by default of today in every zone."""
    return await service.list_queues(unit, site_id, on_day)


@router.post(
    "/queues",
    responses=problems(Forbidden, clinics.SiteNotFound, access.PractitionerNotFound),
)
async def create_queue(unit: MayManage, body: LineIn) -> QueueHead:
    """Open today's queue of a practitioner at a site, or of its pool; an open one is the answer."""
    return await service.open_today(unit, body.site_id, body.practitioner_id)


@router.get("/queues/{queue_id}", responses=problems(Forbidden, errors.QueueNotFound))
async def get_queue(unit: MayRead, queue_id: UUID) -> QueueSnapshot:
    """Read a queue with everyone in it, in order, and its version."""
    return await service.take_snapshot(unit, queue_id)


@router.get(
    "/queues/{queue_id}/events",
    status_code=200,
    response_class=EventStream,
    response_model=None,
    responses=joined(problems(Forbidden, errors.QueueNotFound), RESPONSES),
    **terms(traffic=Traffic.LIVE),
)
async def list_queue_events(
    audience: Annotated[
        Audience, Depends(Following(queue_topic, Guard(ReadUnit, Permission.QUEUE_READ)))
    ],
    queue_id: UUID,
) -> EventStream:
    """Follow a queue's tickets as they change, as Server-Sent Events: for boards."""
    return await audience.follow(queue_id)


@router.get(
    "/queues/{queue_id}/entries/{entry_id}", responses=problems(Forbidden, errors.EntryNotFound)
)
async def get_queue_entry(
    unit: Annotated[ReadUnit, may_read_or_own(Permission.QUEUE_READ)],
    queue_id: UUID,
    entry_id: UUID,
) -> Place:
    """Read a place in a queue: the same number for phone, desk and board."""
    return await service.get_place(unit, queue_id, entry_id)


@router.post(
    "/queues/{queue_id}/calls",
    responses=problems(Forbidden, errors.QueueNotFound, errors.QueueEmpty),
    **terms(key_required=True),  # or a second try would call a second person
)
async def create_call(unit: MayCall, queue_id: UUID, body: CallIn | None = None) -> CalledEntry:
    """Call whoever is next; two callers never get one ticket."""
    return await service.call_next(unit, queue_id, body.room if body else None)


@router.post("/queues/entries/{entry_id}/start", responses=STEP)
async def create_start(unit: MayCall, entry_id: UUID) -> Entry:
    """Say that somebody who was called is being seen."""
    return await service.start(unit, entry_id)


@router.post("/queues/entries/{entry_id}/complete", responses=STEP)
async def create_completion(unit: MayCall, entry_id: UUID) -> Entry:
    """Say that somebody has been seen."""
    return await service.complete(unit, entry_id)


@router.post("/queues/entries/{entry_id}/no-show", responses=STEP)
async def create_no_show(unit: MayCall, entry_id: UUID) -> Entry:
    """Say that somebody who was called did not come; the visit ends as missed."""
    return await service.miss(unit, entry_id)


@router.get("/me/queue")
async def list_my_places(unit: Annotated[ReadUnit, own_everywhere()]) -> list[MyPlace]:
    """List where the caller and their dependants wait, in all clinics."""
    return await service.list_my_places(unit)
