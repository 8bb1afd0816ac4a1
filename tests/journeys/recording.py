"""The real programs with one more who hears of check-ins, and tells a receiver of the tests.

`python -m tests.journeys.recording serve`, or `worker`, or any other word of `cliniq`.
"""

import asyncio
import os
import sys
from pathlib import Path

from cliniq.cli.main import main
from cliniq.domains.checkin.events import CheckInCompleted
from cliniq.platform.jobs import Errand, Registry, Subscription, Trip, when
from cliniq.platform.lanes import Lane
from cliniq.worker import REGISTRY
from tests.hatchery import Program

RECEIVER = "RECEIVER_PORT"
ROOT = Path(__file__).parents[2]
PROGRAM: Program = (sys.executable, "-m", "tests.journeys.recording")


async def tell(trip: Trip, fact: CheckInCompleted) -> None:
    """POST the fact with the job's own key, and wait for the answer."""
    port = int(os.environ[RECEIVER])  # noqa: TID251 - the tests' own setting
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = f'{{"check_in_id": "{fact.check_in_id}"}}'
        head = f"POST / HTTP/1.1\r\nidempotency-key: {trip.key}\r\ncontent-length: {len(body)}"
        writer.write(f"{head}\r\n\r\n{body}".encode())
        assert (await reader.readline()).split()[1:2] == [b"200"], "no answer"
    finally:
        writer.close()


TELL = Errand("recording.tell", Lane.QUEUE_UPKEEP, CheckInCompleted, tell)


def settings_of(port: int) -> dict[str, str]:
    """What a process needs to know of its receiver, and of where this program is."""
    return {RECEIVER: str(port), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}


def add_subscriber() -> None:
    """Have the registry that all roots share hold one more subscriber, and its job."""
    others = [
        Subscription(kind, job) for kind, jobs in REGISTRY.subscribers.items() for job in jobs
    ]
    more = Registry(
        [*REGISTRY.jobs.values(), TELL], [*others, when(CheckInCompleted, TELL)], REGISTRY.duties
    )
    vars(REGISTRY).update(vars(more))


if __name__ == "__main__":
    add_subscriber()
    main()
