"""The only SQL of the identity room. Its tables belong to the installation."""

from datetime import date, datetime
from uuid import UUID

from cliniq.domains.identity.models import Account, Person, Session
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("""
    insert into person (person_id, given_name, family_name, birth_date, language)
    values ($1, $2, $3, $4, $5)
""")
async def add_person(unit: Unit, person: Person) -> None:
    """Write a person."""


@sql("""
    insert into person (person_id, given_name, family_name, birth_date, language)
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::text[])
""")
async def add_persons(
    unit: Unit,
    person_ids: list[UUID],
    given_names: list[str],
    family_names: list[str],
    birth_dates: list[date | None],
    languages: list[str],
) -> None:
    """Write many persons."""


@sql("""
    select person_id, given_name, family_name, birth_date, language
    from person where person_id = $1
""")
async def find_person(unit: ReadUnit, person_id: UUID) -> Person | None:
    """Find a person who is in sight: to persons, only themselves."""


@sql("""
    insert into account (person_id, email, password_hash) values ($1, $2, $3)
    on conflict (email) do nothing returning person_id
""")
async def add_account(unit: Unit, person_id: UUID, email: str, password_hash: str) -> UUID | None:
    """Write a person's account; nothing where the address is taken."""


@sql("""
    select person_id, password_hash, status, given_name, family_name
    from account join person using (person_id) where email = $1
""")
async def find_account(unit: ReadUnit, email: str) -> Account | None:
    """Find the account of an address."""


@sql("""
    insert into session (person_id, session_id, created_at, refreshed_at, expires_at)
    values ($1, $2, $3, $3, $4)
""")
async def add_session(
    unit: Unit, person_id: UUID, session_id: UUID, at: datetime, expires_at: datetime
) -> None:
    """Write a sign-in."""


@sql("""
    insert into account (person_id, email, password_hash)
    select * from unnest($1::uuid[], $2::text[], $3::text[])
    on conflict (person_id) do nothing
""")
async def add_accounts(
    unit: Unit, person_ids: list[UUID], emails: list[str], password_hashes: list[str]
) -> None:
    """Write accounts of those who have none."""


@sql("""
    insert into session (person_id, session_id, created_at, refreshed_at, expires_at)
    select person_id, session_id, $3, $3, $4
    from unnest($1::uuid[], $2::uuid[]) as given (person_id, session_id)
""")
async def add_sessions(
    unit: Unit,
    person_ids: list[UUID],
    session_ids: list[UUID],
    at: datetime,
    expires_at: datetime,
) -> None:
    """Write a sign-in of each."""


@sql("""
    select person_id, session_id, generation, expires_at, refreshed_at, ended_at
    from session join account using (person_id)
    where person_id = $1 and session_id = $2 and status = 'active'
    for update of session
""")
async def lock_session(unit: Unit, person_id: UUID, session_id: UUID) -> Session | None:
    """Find the sign-in of an account that is not disabled, and hold it.

    Locks: of parallel refreshes, one goes first.
    """


@sql("""
    update session set generation = generation + 1, refreshed_at = $3
    where person_id = $1 and session_id = $2
""")
async def advance_session(unit: Unit, person_id: UUID, session_id: UUID, at: datetime) -> None:
    """Use up the newest refresh token."""


@sql("""
    update session set ended_at = $3, end_reason = $4
    where person_id = $1 and session_id = $2 and ended_at is null
""")
async def end_session(
    unit: Unit, person_id: UUID, session_id: UUID, at: datetime, reason: str
) -> None:
    """End a sign-in, once."""
