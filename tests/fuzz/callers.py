"""Who asks: for every operation, in turn, each of those whom the document lets in."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemathesis import AuthContext, Case
from schemathesis.core.parameters import ParameterLocation

from cliniq.kernel.ids import new_id
from cliniq.platform.idempotency import HEADER
from tests.fuzz.town import Town
from tests.platform.wire import Operation, operations
from tests.support import Someone

SIGN_OUT = "POST /api/v1/auth/logout"


@dataclass
class Callers:
    """Signs requests. Whoever is to sign out has a sign-in of their own, or nobody could go on."""

    town: Town
    turns: dict[str, Iterator[Someone]] = field(default_factory=dict)

    def get(self, _case: Case[Any], context: AuthContext) -> dict[str, str] | None:
        """Choose who asks; nobody at an open door."""
        label = context.operation.label
        if label not in self.turns:
            self.turns[label] = self._in_turn(label)
        someone = next(self.turns[label], None)
        return None if someone is None else self.town.clinic.acting(someone)

    def set(self, case: Case[Any], data: dict[str, str], _context: AuthContext) -> None:
        """Sign a request; a clinic that it names already is left to it. A sound key is made new."""
        for name, value in data.items():
            case.headers.setdefault(name, value)
        case.headers["Authorization"] = data["Authorization"]
        sound = case.meta is None or not case.meta.is_negative_at(ParameterLocation.HEADER)
        if HEADER in case.headers and sound:
            case.headers[HEADER] = str(new_id())

    def _in_turn(self, label: str) -> Iterator[Someone]:
        found = [each for each in operations() if str(each) == label]
        if label == SIGN_OUT:
            return iter(self.town.leavers)
        return itertools.cycle(who(found[0], self.town) if found else [self.town.clinic.admin])


def who(operation: Operation, town: Town) -> list[Someone]:
    """List who may: of staff those who hold the permission, and patients for what is their own."""
    staff = [town.staff[role] for role in operation.roles]
    own = operation.words.startswith("self") or operation.is_for_patients
    parents = town.parents if own else []
    if operation.is_public:
        return []
    both = itertools.zip_longest(parents, staff)
    return [each for pair in both for each in pair if each is not None]
