"""Pure decisions of the scheduling room."""

from datetime import datetime, timedelta

from cliniq.domains.scheduling.errors import OutsideHorizon

BACK = timedelta(days=1)
AHEAD = timedelta(days=366)


def ensure_within_horizon(starts_at: datetime, now: datetime) -> None:
    """Refuse a start that is long gone, or further ahead than partitions reach.

    Bounds: from a day ago to 366 days ahead, both included; partitions reach 13 months.
    Raises: OUTSIDE_HORIZON 409.
    """
    if not now - BACK <= starts_at <= now + AHEAD:
        raise OutsideHorizon(now - BACK, now + AHEAD)
