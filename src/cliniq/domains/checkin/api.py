"""The only door into the check-in room: for the composition roots, nobody else depends on it."""

from cliniq.domains.checkin.models import Code, CodeKind, WindowRule
from cliniq.domains.checkin.service import hash_secret, scan, sign_code
from cliniq.domains.checkin.store import add_rule

__all__ = ["Code", "CodeKind", "WindowRule", "add_rule", "hash_secret", "scan", "sign_code"]
