"""Use cases of the access room. No HTTP and no SQL here."""

from itertools import groupby
from uuid import UUID

from cliniq.domains.access import store
from cliniq.domains.access.errors import PractitionerNotFound
from cliniq.domains.access.models import ClinicMembership, Me, Practitioner
from cliniq.domains.clinics import api as clinics
from cliniq.domains.identity import api as identity
from cliniq.kernel.problem import Unauthenticated
from cliniq.platform.db import ReadUnit


async def describe_me(unit: ReadUnit, person_id: UUID) -> Me:
    """Say who the caller is, and what they are in which clinic.

    Raises: UNAUTHENTICATED 401 where the person is gone.
    """
    person = await identity.find_person(unit, person_id)
    if person is None:
        raise Unauthenticated
    names = {each.clinic_id: each.name for each in await clinics.list_clinics(unit)}
    held = await store.list_memberships(unit, person_id)
    return Me(
        person.person_id,
        person.given_name,
        person.family_name,
        person.birth_date,
        person.language,
        [
            ClinicMembership(clinic_id, names[clinic_id], [each.role for each in roles])
            for clinic_id, roles in groupby(held, key=lambda each: each.clinic_id)
        ],
    )


async def hint_at(unit: ReadUnit, person_id: UUID) -> identity.Hints:
    """Guess where a person will knock: the first clinic they work in."""
    held = await store.list_memberships(unit, person_id)
    return identity.Hints(held[0].clinic_id if held else None, bool(held))


async def get_practitioner(unit: ReadUnit, practitioner_id: UUID) -> Practitioner:
    """Find a practitioner of the clinic.

    Raises: PRACTITIONER_NOT_FOUND 404.
    """
    found = await store.find_practitioners(unit, [practitioner_id])
    if not found:
        raise PractitionerNotFound
    return found[0]
