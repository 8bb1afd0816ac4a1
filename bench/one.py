"""How fast one appointment is read by its id, against a bare application."""

from bench.load import Ask
from bench.reads import run_reads
from bench.report import Result
from bench.rounds import Options
from bench.town import FIRST, Kind, id_of, staff_headers

RATIO = 0.6
AMONG = 2000  # appointments, of which the smallest town has as many


async def run(options: Options) -> Result:
    """Read one after the other, scattered over days and sites."""
    headers = staff_headers(FIRST)

    def appointment(n: int) -> str:
        return str(id_of(Kind.APPOINTMENT, FIRST + n * 7919 % AMONG))

    def ours(n: int) -> Ask:
        return Ask("GET", f"/api/v1/appointments/{appointment(n)}", headers)

    def bare(n: int) -> Ask:
        return Ask("GET", f"/one/{appointment(n)}")

    return await run_reads("one", options, RATIO, ours, bare)
