"""Routes of the appointments room: parse, call one use case, present."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Query
from starlette.requests import Request

from cliniq.domains.access import api as access
from cliniq.domains.appointments import errors, service
from cliniq.domains.appointments.models import (
    Appointment,
    AppointmentStatus,
    DayFilter,
    HistoryEntry,
    OwnAppointment,
    Page,
    Wish,
)
from cliniq.domains.appointments.schemas import AppointmentIn, CancelIn, NoShowIn, RescheduleIn
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.domains.scheduling import api as scheduling
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import Forbidden, InvalidTransition
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.http.fields import Day
from cliniq.platform.http.guards import (
    entrance_of,
    may,
    may_or_own,
    may_read_or_own,
    own_everywhere,
)
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room
from cliniq.platform.http.terms import terms

router = room("", "appointments")

MayRead = Annotated[ReadUnit, may_read_or_own(Permission.APPOINTMENTS_READ)]
Limit = Annotated[int, Query(ge=1, le=100)]


@router.post(
    "/appointments",
    status_code=201,
    responses=problems(
        Forbidden,
        patients.PatientNotFound,
        access.PractitionerNotFound,
        clinics.SiteNotFound,
        scheduling.OutsideHorizon,
        scheduling.SlotTaken,
    ),
    **terms(key_required=True),
)
async def create_appointment(
    unit: Annotated[Unit, may_or_own(Permission.APPOINTMENTS_CREATE)], body: AppointmentIn
) -> Appointment:
    """Book a visit; a patient books for themselves and their dependants."""
    wish = Wish(
        body.patient_id,
        body.practitioner_id,
        body.site_id,
        body.visit_type,
        body.starts_at,
        body.starts_at + body.length,
    )
    return await service.book(unit, wish)


@router.get(
    "/appointments",
    responses=problems(
        Forbidden, clinics.SiteNotFound, access.PractitionerNotFound, patients.PatientNotFound
    ),
)
async def list_appointments(
    unit: MayRead,
    request: Request,
    day: Day | None = None,
    site_id: UUID | None = None,
    practitioner_id: UUID | None = None,
    patient_id: UUID | None = None,
    status: AppointmentStatus | None = None,
    limit: Limit = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Page:
    """List visits of one site, practitioner or patient, earliest first; by default today's."""
    wanted = DayFilter(day, site_id, practitioner_id, patient_id, status)
    return await service.list_day(unit, entrance_of(request).keyring, wanted, limit, cursor)


@router.get("/appointments/mine")
async def list_own_appointments(
    unit: Annotated[ReadUnit, own_everywhere()], limit: Limit = 20
) -> list[OwnAppointment]:
    """List the caller's and their dependants' visits in all clinics, from yesterday on."""
    return await service.list_mine(unit, limit)


@router.get("/me/appointments")
async def list_my_appointments(
    unit: Annotated[ReadUnit, own_everywhere()], limit: Limit = 20
) -> list[OwnAppointment]:
    """List the caller's and their dependants' visits in all clinics, from yesterday on."""
    return await service.list_mine(unit, limit)


@router.get(
    "/appointments/{appointment_id}", responses=problems(Forbidden, errors.AppointmentNotFound)
)
async def get_appointment(unit: MayRead, appointment_id: UUID) -> Appointment:
    """Read a visit."""
    return await service.get_appointment(unit, appointment_id)


@router.get(
    "/appointments/{appointment_id}/history",
    responses=problems(Forbidden, errors.AppointmentNotFound),
)
async def list_appointment_history(unit: MayRead, appointment_id: UUID) -> list[HistoryEntry]:
    """List what became of a visit, oldest step first."""
    return await service.list_history(unit, appointment_id)


@router.put(
    "/appointments/{appointment_id}",
    responses=problems(
        Forbidden,
        errors.AppointmentNotFound,
        InvalidTransition,
        errors.StaleVersion,
        scheduling.OutsideHorizon,
        scheduling.SlotTaken,
    ),
)
async def replace_appointment_time(
    unit: Annotated[Unit, may_or_own(Permission.APPOINTMENTS_UPDATE)],
    appointment_id: UUID,
    body: RescheduleIn,
) -> Appointment:
    """Move a visit to another time."""
    ends_at = body.starts_at + timedelta(minutes=body.minutes) if body.minutes else None
    return await service.reschedule(
        unit,
        appointment_id,
        body.starts_at,
        ends_at,
        seen_version=body.version,
        reason=body.reason or "",
    )


@router.delete(
    "/appointments/{appointment_id}",
    responses=problems(
        Forbidden, errors.AppointmentNotFound, InvalidTransition, errors.StaleVersion
    ),
)
async def delete_appointment(
    unit: Annotated[Unit, may_or_own(Permission.APPOINTMENTS_DELETE)],
    appointment_id: UUID,
    body: CancelIn | None = None,
) -> Appointment:
    """Call a visit off; it stays in sight as cancelled."""
    return await service.cancel(unit, appointment_id, (body and body.reason) or "")


@router.post(
    "/appointments/{appointment_id}/no-show",
    responses=problems(
        Forbidden,
        errors.AppointmentNotFound,
        InvalidTransition,
        errors.NoShowTooEarly,
        errors.StaleVersion,
    ),
)
async def create_no_show(
    unit: Annotated[Unit, may(Permission.APPOINTMENTS_UPDATE)],
    appointment_id: UUID,
    body: NoShowIn | None = None,
) -> Appointment:
    """Say that somebody did not come to a visit; its time is free again."""
    return await service.miss(unit, appointment_id, (body and body.reason) or "")
