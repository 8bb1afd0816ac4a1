"""The only door into the check-in room: for the composition roots, nobody else depends on it."""

from cliniq.domains.checkin.codes import hash_secret, sign_code
from cliniq.domains.checkin.events import WindowRuleAdded
from cliniq.domains.checkin.models import Code, CodeKind, WalkIn, WindowRule
from cliniq.domains.checkin.service import (
    add_rule,
    check_in_at_desk,
    scan,
    walk_in,
    warm,
)
from cliniq.domains.checkin.store import RULES

__all__ = [
    "RULES",
    "Code",
    "CodeKind",
    "WalkIn",
    "WindowRule",
    "WindowRuleAdded",
    "add_rule",
    "check_in_at_desk",
    "hash_secret",
    "scan",
    "sign_code",
    "walk_in",
    "warm",
]
