"""What this room promises to do later."""

from cliniq.domains.intake import service
from cliniq.domains.intake.models import Kept
from cliniq.platform.jobs import Errand
from cliniq.platform.lanes import Lane

IMPORT = Errand("intake.import_file", Lane.IMPORTS, Kept, service.import_kept)

JOBS = (IMPORT,)
