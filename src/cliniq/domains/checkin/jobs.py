"""What this room promises to do later."""

from cliniq.domains.checkin import codes
from cliniq.domains.clinics import api as clinics
from cliniq.platform.jobs import Errand
from cliniq.platform.lanes import Lane

PRINT = Errand("checkin.print_codes", Lane.STORAGE, clinics.PointOpened, codes.print_codes)
REPRINT = Errand("checkin.reprint_codes", Lane.STORAGE, clinics.PointRekeyed, codes.print_codes)

JOBS = (PRINT, REPRINT)
