"""The only door into the check-in room: for the composition roots, nobody else depends on it."""

from cliniq.domains.checkin.events import WindowRuleAdded
from cliniq.domains.checkin.models import Code, CodeKind, WindowRule
from cliniq.domains.checkin.service import add_rule, hash_secret, scan, sign_code, warm
from cliniq.domains.checkin.store import RULES

__all__ = [
    "RULES",
    "Code",
    "CodeKind",
    "WindowRule",
    "WindowRuleAdded",
    "add_rule",
    "hash_secret",
    "scan",
    "sign_code",
    "warm",
]
