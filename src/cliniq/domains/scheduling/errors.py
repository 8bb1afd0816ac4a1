"""Every refusal this room can utter."""

from datetime import datetime

from cliniq.kernel.problem import Conflict, RuleBroken


class SlotTaken(Conflict):
    """The practitioner or the patient is busy then; which of them is not said."""

    code = "SLOT_TAKEN"
    title = "That time is no longer free"


class OutsideHorizon(RuleBroken):
    """The start lies before or beyond what can be booked."""

    code = "OUTSIDE_HORIZON"
    title = "That day cannot be booked"

    def __init__(self, earliest: datetime, latest: datetime) -> None:
        super().__init__(earliest_at=earliest.isoformat(), latest_at=latest.isoformat())
