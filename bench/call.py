"""How fast fifty people call others out of ten long queues, against pgbench with SKIP LOCKED."""

import json
from collections.abc import Iterable
from dataclasses import replace

from bench.load import Ask
from bench.report import Aim, Result
from bench.rounds import Options
from bench.town import FIRST, Kind, Town, id_of, new_key, staff_headers
from bench.writes import Deed, run_writes

RATIO = 0.4
CALLERS = 50
QUEUES = 10
TRACES = ("queue_entry where status = 'called'", "audit")
SPARE = 1.2  # queues are not quite even, callers are


async def run(options: Options) -> Result:
    """Measure, and count who was called twice."""
    tickets: list[tuple[str, int]] = []

    def call(client: int, visit: int) -> Ask:
        queue = id_of(Kind.QUEUE, FIRST + client % QUEUES)
        headers = staff_headers(FIRST + client) | new_key(visit)
        return Ask("POST", f"/api/v1/queues/{queue}/calls", headers, {"room": "7"})

    def look(bodies: Iterable[bytes]) -> None:
        called = [json.loads(body) for body in bodies]
        tickets.extend((each["queue_id"], each["ticket"]) for each in called)

    deed = Deed(
        "call",
        RATIO,
        CALLERS,
        most=options.size(100, 3),
        rounds=options.size(5, 2),
        traces=TRACES,
        ask=call,
        look=look,
        doctor=f"{FIRST} + :client_id % {QUEUES}",
        afterwards=("vacuum queue_entry, queue",),
    )
    visits = round(deed.visits(profile=options.profile) * SPARE)
    result = await run_writes(options, deed, Town(visits, QUEUES, staff=CALLERS, waiting=True))
    doubles = Aim("doubles", len(tickets) - len(set(tickets)), 0, at_most=True)
    return replace(
        result, aims=[*result.aims, doubles], facts={**result.facts, "calls": len(tickets)}
    )
