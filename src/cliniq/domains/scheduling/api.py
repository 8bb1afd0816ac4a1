"""The only door into the scheduling room."""

from cliniq.domains.scheduling.errors import OutsideHorizon, SlotTaken
from cliniq.domains.scheduling.models import Booking, Resource, ResourceKind
from cliniq.domains.scheduling.service import book, ensure_bookable, hold, rebook, release

__all__ = [
    "Booking",
    "OutsideHorizon",
    "Resource",
    "ResourceKind",
    "SlotTaken",
    "book",
    "ensure_bookable",
    "hold",
    "rebook",
    "release",
]
