"""Use cases of the identity room. No HTTP and no SQL here."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from cliniq.domains.identity import store
from cliniq.domains.identity.errors import EmailTaken, RefreshRefused, SignInFailed
from cliniq.domains.identity.models import Account, AccountStatus, Hints, Person, SignedIn
from cliniq.domains.identity.rules import (
    SESSION_LIFE,
    RefreshClaim,
    Rotation,
    judge_refresh,
    read_refresh,
    write_refresh,
)
from cliniq.kernel.ids import PersonId, SessionId, new_id
from cliniq.kernel.scope import PlatformScope
from cliniq.platform.db import Database, ReadUnit, Unit, open_read_unit, open_unit
from cliniq.platform.denials import remember_security_event
from cliniq.platform.limits import Hit, Limits
from cliniq.platform.live import Hub
from cliniq.platform.passwords import Passwords
from cliniq.platform.rehearsal import ensure_rehearsal
from cliniq.platform.signing import Keyring
from cliniq.platform.tokens import LIFE, AccessTokens

TRIES_OF_ONE = "10/minute"  # of one account from one address: strangers lock out themselves
SIGN_INS_PER_ACCOUNT = "100/minute"
SIGN_INS_PER_ADDRESS = "300/minute"  # a waiting room may share one
REFRESH = "refresh-token"
NO_PASSWORD = "none"  # noqa: S105 - what no password is the hash of

# Port: the rooms above know memberships; the composition root fills it.
HintsOf = Callable[[ReadUnit, UUID], Awaitable[Hints]]


@dataclass(frozen=True, slots=True)
class SignInDesk:
    """What it takes to sign somebody in."""

    database: Database
    passwords: Passwords
    tokens: AccessTokens
    keyring: Keyring
    limits: Limits
    hub: Hub
    hints_of: HintsOf


async def sign_in(
    desk: SignInDesk, email: str, password: str, *, address: str, request_id: str
) -> SignedIn:
    """Sign somebody in by password.

    No transaction is open while the hash is computed.
    Raises: SIGN_IN_FAILED 401, the same for every cause; RATE_LIMIT_EXCEEDED 429.
    """
    await desk.limits.hit_all(
        [
            Hit(SIGN_INS_PER_ADDRESS, ("sign-in-address", address)),
            Hit(SIGN_INS_PER_ACCOUNT, ("sign-in-account", email)),
            Hit(TRIES_OF_ONE, ("sign-in-try", email, address)),
        ],
        surely=True,  # or whoever takes Redis away may guess on
    )
    async with open_read_unit(desk.database, PlatformScope("sign in")) as reading:
        account = await store.find_account(reading, email)
    known = account.password_hash if account else None
    right = await desk.passwords.verify(password, known)
    if account is None or not right or account.status is not AccountStatus.ACTIVE:
        await remember_security_event(
            desk.database,
            "sign-in",
            SignInFailed.code,
            actor_id=account.person_id if account else None,
            request_id=request_id,
        )
        raise SignInFailed
    await desk.limits.forgive(TRIES_OF_ONE, "sign-in-try", email, address)
    return await start_session(desk, account)


async def start_session(desk: SignInDesk, account: Account) -> SignedIn:
    """Open a sign-in for somebody who has proved who they are."""
    session_id = new_id()
    async with open_unit(desk.database, PlatformScope("start a session")) as unit:
        await store.add_session(
            unit, account.person_id, session_id, unit.wall, unit.wall + SESSION_LIFE
        )
        hints = await desk.hints_of(unit, account.person_id)
    person = Person(account.person_id, account.given_name, account.family_name, None, "")
    return _signed_in(desk, person, RefreshClaim(account.person_id, session_id, 0), hints)


async def refresh(desk: SignInDesk, refresh_token: str, *, request_id: str) -> SignedIn:
    """Exchange the newest refresh token for its successor and a fresh access token.

    The token before it is answered once more for ten seconds, with the same successor; an older
    one ends the sign-in, for somebody else has it. Fifty in parallel get one successor.
    Raises: REFRESH_REFUSED 401.
    """
    payload = desk.keyring.open(REFRESH, refresh_token)
    claim = read_refresh(payload) if payload else None
    if claim is None:
        raise RefreshRefused
    async with open_unit(desk.database, PlatformScope("refresh a session")) as unit:
        session = await store.lock_session(unit, claim.person_id, claim.session_id)
        if session is None:
            raise RefreshRefused
        rotation = judge_refresh(session, claim.generation, unit.wall)
        if rotation is Rotation.REVOKE:
            await store.end_session(
                unit, claim.person_id, claim.session_id, unit.wall, "refresh_reused"
            )
        elif rotation is Rotation.ADVANCE:
            await store.advance_session(unit, claim.person_id, claim.session_id, unit.wall)
        hints = await desk.hints_of(unit, claim.person_id)
        person = await store.find_person(unit, claim.person_id)
    if rotation is Rotation.REVOKE:
        desk.hub.end_session(claim.session_id)
        await remember_security_event(
            desk.database,
            "refresh",
            "REFRESH_REUSED",
            actor_id=claim.person_id,
            request_id=request_id,
        )
    if person is None or rotation in {Rotation.REVOKE, Rotation.REFUSE}:
        raise RefreshRefused
    newest = session.generation + (rotation is Rotation.ADVANCE)
    return _signed_in(desk, person, RefreshClaim(claim.person_id, claim.session_id, newest), hints)


async def sign_out(desk: SignInDesk, person_id: PersonId, session_id: SessionId) -> None:
    """End a sign-in: its tokens stop working and its sockets close. Idempotent: once is enough."""
    async with open_unit(desk.database, PlatformScope("sign out")) as unit:
        await store.end_session(unit, person_id, session_id, unit.wall, "logout")
    desk.hub.end_session(session_id)


def _signed_in(desk: SignInDesk, person: Person, claim: RefreshClaim, hints: Hints) -> SignedIn:
    home = {"clinic": str(hints.home_clinic_id)} if hints.home_clinic_id else {}
    claims = {"sub": str(claim.person_id), "sid": str(claim.session_id), "staff": hints.is_staff}
    return SignedIn(
        desk.tokens.issue(claims | home),
        int(LIFE.total_seconds()),
        desk.keyring.seal(REFRESH, write_refresh(claim)),
        person.person_id,
        person.given_name,
        person.family_name,
    )


async def sign_in_actors(
    database: Database, person_ids: Sequence[UUID]
) -> list[tuple[PersonId, SessionId]]:
    """Sign people of a rehearsal in, in order, without asking for a password: they are played.

    Thousands of password hashes would be most of a rehearsal. Who has no account gets one by which
    nobody can sign in.
    Raises: RealInstallation where somebody real may be seen.
    """
    await ensure_rehearsal(database)
    sessions = [new_id() for _ in person_ids]
    async with open_unit(database, PlatformScope("sign actors in")) as unit:
        people = list(person_ids)
        addresses = [f"{each}@rehearsal.invalid" for each in people]
        await store.add_accounts(unit, people, addresses, [NO_PASSWORD] * len(people))
        await store.add_sessions(unit, people, sessions, unit.wall, unit.wall + SESSION_LIFE)
    pairs = zip(people, sessions, strict=True)
    return [(PersonId(person_id), SessionId(session_id)) for person_id, session_id in pairs]


def issue_token(
    desk: SignInDesk, person_id: PersonId, session_id: SessionId, *, is_staff: bool
) -> str:
    """Sign an access token for a sign-in that is there; whoever holds the desk holds the key."""
    return desk.tokens.issue({"sub": str(person_id), "sid": str(session_id), "staff": is_staff})


async def enrol(unit: Unit, person: Person) -> None:
    """Write a person whom the installation does not know yet."""
    await store.add_person(unit, person)


async def enrol_all(unit: Unit, persons: Sequence[Person]) -> None:
    """Write many persons whom the installation does not know yet, in one statement."""
    await store.add_persons(
        unit,
        [each.person_id for each in persons],
        [each.given_name for each in persons],
        [each.family_name for each in persons],
        [each.birth_date for each in persons],
        [each.language for each in persons],
    )


async def open_account(unit: Unit, person_id: UUID, email: str, password_hash: str) -> None:
    """Give a person an account.

    Raises: EMAIL_TAKEN 409.
    """
    if await store.add_account(unit, person_id, email.lower(), password_hash) is None:
        raise EmailTaken
