"""Routes of the access room: parse, call one use case, present."""

from typing import Annotated

from starlette.requests import Request

from cliniq.domains.access import service, store
from cliniq.domains.access.models import Me
from cliniq.domains.access.schemas import PractitionerOut
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import Forbidden, NotFound
from cliniq.platform.db import ReadUnit
from cliniq.platform.http.guards import may_read_or_own, own_everywhere, signed_in
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room

router = room("", "access")


@router.get("/me")
async def get_me(unit: Annotated[ReadUnit, own_everywhere()], request: Request) -> Me:
    """Say who is signed in, and what they are in which clinic."""
    return await service.describe_me(unit, signed_in(request).person_id)


@router.get("/practitioners", responses=problems(Forbidden, NotFound))
async def list_practitioners(
    unit: Annotated[ReadUnit, may_read_or_own(Permission.APPOINTMENTS_READ)],
) -> list[PractitionerOut]:
    """List who can be booked in the clinic, by name."""
    listed = await store.list_practitioners(unit)
    return [PractitionerOut(each.practitioner_id, each.name) for each in listed]
