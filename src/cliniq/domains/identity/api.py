"""The only door into the identity room."""

from cliniq.domains.identity.errors import EmailTaken
from cliniq.domains.identity.models import Account, AccountStatus, Hints, Person, SignedIn
from cliniq.domains.identity.service import (
    SignInDesk,
    enrol,
    enrol_all,
    issue_token,
    open_account,
    sign_in_actors,
    start_session,
)
from cliniq.domains.identity.store import find_account, find_person

__all__ = [
    "Account",
    "AccountStatus",
    "EmailTaken",
    "Hints",
    "Person",
    "SignInDesk",
    "SignedIn",
    "enrol",
    "enrol_all",
    "find_account",
    "find_person",
    "issue_token",
    "open_account",
    "sign_in_actors",
    "start_session",
]
