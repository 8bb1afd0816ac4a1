"""How many can arrive: a scan with everything on that there is, against pgbench.

Each scan is another person's, with a visit now, to one of 50 doctors in 5 places.
"""

import json
from collections.abc import Iterable
from dataclasses import replace

from bench.load import Ask
from bench.report import Aim, BenchFailed, Result
from bench.rounds import Options
from bench.town import Town, code_at, new_key, patient_headers
from bench.writes import Deed, run_writes

RATIO, TAIL = 0.45, 15
CLIENTS = 16
DOCTORS = 50
TRACES = (
    "check_in",
    "check_in_claim",
    "queue_entry",
    "appointment where status = 'checked_in'",
    "appointment_history",
    "audit",
)
# Everyone is seen between the volleys, so that queues are as long as by day.
AFTERWARDS = ("update queue_entry set status = 'completed'", "vacuum queue_entry, queue")


async def run(options: Options) -> Result:
    """Measure."""

    def scan(_client: int, visit: int) -> Ask:
        code = code_at(town.site_of(visit))
        path = "/api/v1/appointments/check-in/scan-qr"
        return Ask("POST", path, patient_headers(visit) | new_key(visit), {"code": code})

    deed = Deed(
        "scan",
        RATIO,
        CLIENTS,
        most=options.size(300, 5),
        rounds=options.size(5, 2),
        traces=TRACES,
        ask=scan,
        look=_look,
        afterwards=AFTERWARDS,
    )
    town = Town(deed.visits(profile=options.profile), DOCTORS)
    result = await run_writes(options, deed, town)
    tail = Aim("p99 / p50", result.p99_ms / result.p50_ms, TAIL, at_most=True)
    return replace(result, aims=[*result.aims, tail])


def _look(bodies: Iterable[bytes]) -> None:
    """See that everyone got a ticket of their own."""
    receipts = [each for body in bodies for each in json.loads(body)["check_ins"]]
    tickets = {(each["queue_id"], each["ticket"]) for each in receipts if not each["already"]}
    if len(tickets) != len(receipts):
        raise BenchFailed(f"{len(receipts)} receipts with {len(tickets)} new tickets")
