"""How fast the desk sees its day: 20 appointments of a site, against a bare application."""

from datetime import timedelta

from bench.load import Ask
from bench.reads import DAYS, run_reads
from bench.report import Result
from bench.rounds import Options
from bench.town import FIRST, Kind, id_of, staff_headers
from cliniq.platform.clock import utc_now

RATIO = 0.6


async def run(options: Options) -> Result:
    """List one site's day after the other."""
    headers, today = staff_headers(FIRST), utc_now().date()

    def ours(n: int) -> Ask:
        site, day = id_of(Kind.SITE, FIRST + n % 5), today + timedelta(days=n % DAYS)
        path = f"/api/v1/appointments?site_id={site}&day={day}&limit=20"
        return Ask("GET", path, headers)

    def bare(n: int) -> Ask:
        site, day = id_of(Kind.SITE, FIRST + n % 5), today + timedelta(days=n % DAYS)
        return Ask("GET", f"/list/{site}/{day}")

    return await run_reads("list", options, RATIO, ours, bare)
