"""The only door into the scheduling room."""

from cliniq.domains.scheduling.errors import OutsideHorizon, SlotTaken
from cliniq.domains.scheduling.models import Booking, Resource, ResourceKind, Want
from cliniq.domains.scheduling.rules import AHEAD
from cliniq.domains.scheduling.service import (
    book,
    book_all,
    ensure_bookable,
    hold,
    note,
    rebook,
    release,
)

__all__ = [
    "AHEAD",
    "Booking",
    "OutsideHorizon",
    "Resource",
    "ResourceKind",
    "SlotTaken",
    "Want",
    "book",
    "book_all",
    "ensure_bookable",
    "hold",
    "note",
    "rebook",
    "release",
]
