"""The nineteen lanes in which jobs wait: each has its own pace, patience and place in the order."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from cliniq.kernel.record import Record


class Lane(StrEnum):
    """Where a job waits; jobs of one lane lean on the same thing, and fail together."""

    EMAIL = "email"
    WHATSAPP = "whatsapp"
    SMS = "sms"
    PUSH = "push"
    REMINDERS = "reminders"
    WAITLIST = "waitlist"
    FOLLOWUPS = "followups"
    QUEUE_UPKEEP = "queue-upkeep"
    ESTIMATES = "estimates"
    ANALYTICS = "analytics"
    INVOICES = "invoices"
    DUNNING = "dunning"
    PAYMENTS = "payments"
    SEARCH = "search"
    STORAGE = "storage"
    IMPORTS = "imports"
    EXPORTS = "exports"
    AUDIT_SEAL = "audit-seal"
    UPKEEP = "upkeep"


class Policy(Record, frozen=True):
    """How a lane is worked.

    Units: `at_once` jobs in one worker; `per_second` jobs of all workers together, 0 for no bound;
    `tries` runs of a job, the first included, before it is held; `first_wait` before the second
    run, doubled before each further one up to `longest_wait`; `deadline` of one run; `rank` 1 is
    served first where a worker cannot serve all.
    Bounds: a wait is drawn between half of what is said and the whole, so that what failed together
    does not come back together.
    """

    at_once: int
    per_second: int
    tries: int
    first_wait: timedelta
    longest_wait: timedelta
    deadline: timedelta
    rank: int

    def wait(self, failed: int, chance: float) -> timedelta:
        """Say how long a job rests after it failed so often; `chance` is drawn from [0, 1)."""
        whole = min(self.first_wait * 2.0 ** min(failed - 1, 30), self.longest_wait)
        return whole * (0.5 + chance / 2)


def _policy(
    at_once: int, per_second: int, tries: int, waits: str, deadline: int, rank: int
) -> Policy:
    first, longest = (timedelta(seconds=int(each)) for each in waits.split("-"))
    return Policy(at_once, per_second, tries, first, longest, timedelta(seconds=deadline), rank)


# At once, per second, tries, waits, deadline, rank. Units: seconds.
LANES: Mapping[Lane, Policy] = MappingProxyType(
    {
        Lane.EMAIL: _policy(32, 200, 8, "5-3600", 60, 2),
        Lane.WHATSAPP: _policy(32, 80, 8, "5-3600", 60, 2),
        Lane.SMS: _policy(32, 100, 8, "5-3600", 60, 2),
        Lane.PUSH: _policy(64, 500, 6, "5-900", 30, 1),
        Lane.REMINDERS: _policy(256, 0, 8, "2-600", 30, 1),
        Lane.WAITLIST: _policy(64, 0, 8, "1-300", 30, 1),
        Lane.FOLLOWUPS: _policy(64, 0, 8, "5-600", 30, 2),
        Lane.QUEUE_UPKEEP: _policy(64, 0, 8, "1-60", 30, 1),
        Lane.ESTIMATES: _policy(64, 0, 5, "1-60", 30, 2),
        Lane.ANALYTICS: _policy(32, 0, 8, "10-3600", 300, 4),
        Lane.INVOICES: _policy(32, 0, 8, "5-3600", 120, 3),
        Lane.DUNNING: _policy(32, 0, 8, "30-3600", 120, 3),
        Lane.PAYMENTS: _policy(32, 100, 10, "5-3600", 60, 1),
        Lane.SEARCH: _policy(64, 0, 10, "1-600", 60, 3),
        Lane.STORAGE: _policy(32, 0, 8, "2-600", 120, 3),
        Lane.IMPORTS: _policy(4, 0, 3, "30-600", 3600, 5),
        Lane.EXPORTS: _policy(4, 0, 3, "30-600", 3600, 5),
        Lane.AUDIT_SEAL: _policy(8, 0, 10, "10-3600", 300, 4),
        Lane.UPKEEP: _policy(4, 0, 5, "10-600", 300, 4),
    }
)
