"""What of other rooms wakes this one."""

from cliniq.domains.checkin import jobs
from cliniq.domains.clinics import api as clinics
from cliniq.platform.jobs import when

SUBSCRIPTIONS = (
    when(clinics.PointOpened, jobs.PRINT),
    when(clinics.PointRekeyed, jobs.REPRINT),
)
