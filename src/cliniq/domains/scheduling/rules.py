"""Pure decisions of the scheduling room."""

from datetime import datetime, timedelta

from cliniq.domains.scheduling.errors import OutsideHorizon

BACK = timedelta(days=1)
AHEAD = timedelta(days=366)


def ensure_within_horizon(starts_at: datetime, now: datetime, back: timedelta = BACK) -> None:
    """Refuse a start that is gone for longer than `back`, or further ahead than partitions reach.

    Bounds: to 366 days ahead, both ends included; partitions reach 13 months.
    Raises: OUTSIDE_HORIZON 409.
    """
    if not now - back <= starts_at <= now + AHEAD:
        raise OutsideHorizon(now - back, now + AHEAD)
