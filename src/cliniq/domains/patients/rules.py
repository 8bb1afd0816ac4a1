"""Pure decisions of the patients room."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Protocol, TypeAlias
from uuid import UUID

from cliniq.domains.patients.models import Admission, Newcomer, Outcome

AT_ONCE = 5_000  # newcomers of one call

# What leads to a patient: system and value of an identifier; for an MRN, no system.
Key: TypeAlias = tuple[str | None, str]

_NUMBER = re.compile("[1-9][0-9]{0,17}")  # as the roll writes numbers, and within its bounds


def keys_of(newcomer: Newcomer) -> Iterator[Key]:
    """List what leads to a newcomer."""
    if newcomer.mrn is not None:
        yield None, newcomer.mrn
    for each in newcomer.identifiers:
        yield each.system, each.value


def highest_number(mrns: Iterable[str | None]) -> int:
    """Say how far given record numbers push the roll; those that it could never draw do not."""
    return max((int(mrn) for mrn in mrns if mrn and _NUMBER.fullmatch(mrn)), default=0)


class Face(Protocol):
    """What tells two people apart who have one number."""

    @property
    def family_name(self) -> str:
        """Say how they are called."""

    @property
    def birth_date(self) -> date | None:
        """Say when they were born, if that is known."""


def may_be(one: Face, other: Face) -> bool:
    """Tell whether two may be one person: born on one day, or else of one name where it is unknown.

    A number alone proves nothing: a licence is given twice, a card is read from the wrong drawer.
    """
    if one.birth_date and other.birth_date:
        return one.birth_date == other.birth_date
    return one.family_name.casefold() == other.family_name.casefold()


def sort_out(
    newcomers: Sequence[Newcomer],
    owners: Mapping[Key, UUID],
    faces: Mapping[UUID, Face],
    ids: Sequence[UUID],
) -> list[Admission]:
    """Decide who is new, as if each came when those before them had been admitted.

    `owners` says whose the keys are already, `faces` who these are; `ids` are for those who turn
    out to be new.
    """
    here = dict(owners)
    known: dict[UUID, Face] = dict(faces)
    admitted: set[UUID] = set()
    admissions = []
    for newcomer, patient_id in zip(newcomers, ids, strict=True):
        keys = list(keys_of(newcomer))
        found = {here[key] for key in keys if key in here}
        if len(found) > 1 or any(not may_be(newcomer, known[each]) for each in found):
            admissions.append(Admission(None, Outcome.CONFLICT))
        elif found:
            (owner,) = found
            is_twin = owner in admitted
            admissions.append(Admission(owner, Outcome.TWIN if is_twin else Outcome.KNOWN))
        else:
            admitted.add(patient_id)
            known[patient_id] = newcomer
            here |= dict.fromkeys(keys, patient_id)
            admissions.append(Admission(patient_id, Outcome.ADMITTED))
    return admissions
