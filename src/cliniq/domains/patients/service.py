"""Use cases of the patients room. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from datetime import date
from uuid import UUID

from msgspec.structs import astuple, replace

from cliniq.domains.identity import api as identity
from cliniq.domains.patients import store
from cliniq.domains.patients.errors import PatientNotFound
from cliniq.domains.patients.events import GuardianAdded, PatientChanged, PatientRegistered
from cliniq.domains.patients.models import (
    Admission,
    Details,
    Identifier,
    Mark,
    Newcomer,
    Outcome,
    Page,
    Patient,
    PatientColumns,
    Relationship,
    Wanted,
)
from cliniq.domains.patients.rules import AT_ONCE, Key, highest_number, keys_of, sort_out
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import RequestInvalid
from cliniq.platform.cursors import read_cursor, write_cursor
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.events import tell
from cliniq.platform.signing import Keyring

NOWHERE = UUID(int=0)
NOTHING_MORE = Details()
LANGUAGE = "en"  # of a person of whom nobody has said


async def register(
    unit: Unit,
    given_name: str,
    family_name: str,
    birth_date: date | None,
    details: Details = NOTHING_MORE,
) -> Patient:
    """Make a patient of somebody whom the installation does not know yet."""
    person_id = new_id()
    language = details.language or LANGUAGE
    await identity.enrol(
        unit, identity.Person(person_id, given_name, family_name, birth_date, language)
    )
    patient = Patient(new_id(), person_id, given_name, family_name, birth_date, *astuple(details))
    return await admit(unit, patient)


async def admit(unit: Unit, patient: Patient) -> Patient:
    """Make a known person a patient of the clinic; a record number is drawn where none is given.

    Locks: the clinic's roll of record numbers, until COMMIT.
    """
    mrn = await store.add_patient(unit, patient)
    tell(unit, PatientRegistered(patient.patient_id))
    return replace(patient, mrn=mrn)


async def admit_all(unit: Unit, newcomers: Sequence[Newcomer]) -> list[Admission]:
    """Make patients of those among the newcomers whom the clinic does not know; answer in order.

    Each is judged as if those before them were admitted already. Whoever shares an identifier or
    the record number with a patient is that patient, as `known` or, if they came just before, as
    `twin`: nothing of theirs is written. Whose numbers lead to several patients, or to one who was
    born on another day (or has another family name, where that is unknown), is a `conflict`.
    Told: PatientRegistered of each who is admitted.
    Bounds: 5,000 a call, in as many statements as for one; texts without NUL.
    Locks: the clinic's roll, until COMMIT: two imports with the same people admit them once, for
    the second waits, and then knows them.
    """
    if len(newcomers) > AT_ONCE:
        raise ValueError(f"more than {AT_ONCE} newcomers in one call")
    await store.hold_roll(unit, highest_number(each.mrn for each in newcomers))
    ids = [new_id() for _ in newcomers]
    owners = await _owners(unit, newcomers)
    found = await store.find_patients(unit, list(set(owners.values()))) if owners else []
    faces = {each.patient_id: each for each in found}
    admissions = sort_out(newcomers, owners, faces, ids)
    fresh = [
        (each, patient_id)
        for each, patient_id, admission in zip(newcomers, ids, admissions, strict=True)
        if admission.outcome is Outcome.ADMITTED
    ]
    if fresh:
        await _write(unit, fresh)
    return admissions


async def _owners(unit: ReadUnit, newcomers: Sequence[Newcomer]) -> dict[Key, UUID]:
    """Say whose the newcomers' numbers are already."""
    keys = {key for each in newcomers for key in keys_of(each)}
    pairs = [(system, value) for system, value in keys if system is not None]
    mrns = [value for system, value in keys if system is None]
    owners: dict[Key, UUID] = {}
    if pairs:
        systems, values = map(list, zip(*pairs, strict=True))
        for found in await store.list_numbered(unit, systems, values):
            owners[found.system, found.value] = found.patient_id
    if mrns:
        for each in await store.find_recorded(unit, mrns):
            owners[None, each.value] = each.patient_id
    return owners


async def _write(unit: Unit, fresh: Sequence[tuple[Newcomer, UUID]]) -> None:
    """Write newcomers of whom nothing is known: persons, patients, and how others number them."""
    unnumbered = sum(each.mrn is None for each, _ in fresh)
    drawn = iter(await store.draw_mrns(unit, unnumbered) if unnumbered else ())
    persons = [
        identity.Person(
            new_id(),
            each.given_name,
            each.family_name,
            each.birth_date,
            each.language or LANGUAGE,
        )
        for each, _ in fresh
    ]
    await identity.enrol_all(unit, persons)
    await store.add_patients(
        unit,
        PatientColumns(
            [patient_id for _, patient_id in fresh],
            [each.person_id for each in persons],
            [each.given_name for each, _ in fresh],
            [each.family_name for each, _ in fresh],
            [each.birth_date for each, _ in fresh],
            [each.gender for each, _ in fresh],
            [each.phone for each, _ in fresh],
            [each.email for each, _ in fresh],
            [each.address for each, _ in fresh],
            [each.language for each, _ in fresh],
            [each.deceased_on for each, _ in fresh],
            [next(drawn) if each.mrn is None else each.mrn for each, _ in fresh],
        ),
    )
    numbered = {
        (number.system, number.value): (number.kind, patient_id)
        for each, patient_id in fresh
        for number in reversed(each.identifiers)  # of one that is there twice, the first counts
    }
    if numbered:
        keys = sorted(numbered)  # as the index lies
        await store.add_identifiers(
            unit,
            [system for system, _ in keys],
            [value for _, value in keys],
            [numbered[key][0] for key in keys],
            [numbered[key][1] for key in keys],
        )
    for _, patient_id in fresh:
        tell(unit, PatientRegistered(patient_id))


async def find_by_identifiers(
    unit: ReadUnit, system: str, values: Sequence[str]
) -> list[tuple[str, UUID]]:
    """Find patients by identifiers of one system; what is nobody's is left out."""
    found = await store.find_numbered(unit, system, list(values))
    return [(each.value, each.patient_id) for each in found]


async def find_by_mrns(unit: ReadUnit, mrns: Sequence[str]) -> list[tuple[str, UUID]]:
    """Find patients by record number; what is nobody's is left out."""
    found = await store.find_recorded(unit, list(mrns))
    return [(each.value, each.patient_id) for each in found]


async def register_dependant(
    unit: Unit, guardian: Patient, dependant: Patient, relationship: Relationship
) -> None:
    """Let one patient's person act for another patient of the clinic."""
    await store.add_guardian(unit, dependant.patient_id, guardian.person_id, relationship, unit.now)
    tell(unit, GuardianAdded(dependant.patient_id, guardian.person_id))


async def get_patient(unit: ReadUnit, patient_id: UUID) -> Patient:
    """Find a patient in sight.

    Raises: PATIENT_NOT_FOUND 404.
    """
    found = await store.find_patients(unit, [patient_id])
    if not found:
        raise PatientNotFound
    return found[0]


async def change_patient(unit: Unit, patient_id: UUID, changes: Mapping[str, object]) -> Patient:
    """Change what is known of a patient: the named fields, and nothing else.

    Nobody says which version they saw: two who change different fields do not undo each other's
    work, for whoever comes second reads what the first wrote; of one field, the later word counts.
    Raises: PATIENT_NOT_FOUND 404.
    """
    before = await store.hold_patient(unit, patient_id)
    if before is None:
        raise PatientNotFound
    after = replace(before, **changes)
    changed = sorted(name for name in changes if getattr(before, name) != getattr(after, name))
    if changed:
        await store.change_patient(unit, after)
        tell(unit, PatientChanged(patient_id, changed))
    return after


async def list_identifiers(unit: ReadUnit, patient_id: UUID) -> list[Identifier]:
    """List how a patient is numbered elsewhere.

    Raises: PATIENT_NOT_FOUND 404.
    """
    await get_patient(unit, patient_id)
    return await store.list_identifiers(unit, patient_id)


async def list_patients(
    unit: ReadUnit, keyring: Keyring, wanted: Wanted, limit: int, cursor: str | None
) -> Page:
    """List the clinic's patients by name, or find the one who has a number.

    Raises: REQUEST_INVALID 422 for a number beside anything else, or for a strange cursor.
    """
    if wanted.mrn is not None or wanted.identifier is not None:
        return Page(await _find_numbered(unit, wanted), None)
    after = read_cursor(keyring, unit.scope, "patients", cursor, Mark) or Mark(NOWHERE)
    place = (wanted.name or "", after.patient_id, limit + 1)
    if wanted.birth_date is None:
        found = await store.list_by_name(unit, *place)
    else:
        found = await store.list_by_birth(unit, *place, wanted.birth_date)
    if len(found) <= limit:
        return Page(found, None)
    mark = Mark(found[limit - 1].patient_id)
    return Page(found[:limit], write_cursor(keyring, unit.scope, "patients", mark))


async def _find_numbered(unit: ReadUnit, wanted: Wanted) -> list[Patient]:
    if sum(each is not None for each in astuple(wanted)) > 1:
        raise RequestInvalid(errors=["query: mrn and identifier stand alone"])
    if wanted.identifier is not None:
        value = [wanted.identifier.value]
        found = await store.find_numbered(unit, wanted.identifier.system, value)
    else:
        assert wanted.mrn is not None  # noqa: S101 - one of the two is named
        found = await store.find_recorded(unit, [wanted.mrn])
    return await store.find_patients(unit, [each.patient_id for each in found])
