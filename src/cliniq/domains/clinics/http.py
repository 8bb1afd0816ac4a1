"""Routes of the clinics room: parse, call one use case, present."""

from typing import Annotated

from cliniq.domains.clinics import service
from cliniq.domains.clinics.models import Site
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import Forbidden, NotFound
from cliniq.platform.db import ReadUnit
from cliniq.platform.http.guards import may_read
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room

router = room("/clinic-locations", "clinics")


@router.get("", responses=problems(Forbidden, NotFound))
async def list_sites(
    unit: Annotated[ReadUnit, may_read(Permission.CLINICS_READ)],
) -> list[Site]:
    """List the clinic's sites, by name."""
    return list(await service.list_sites(unit))
