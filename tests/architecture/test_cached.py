"""What the cache keeps is what everybody seated in a clinic may see alike, and nothing else."""

import re
from collections.abc import Iterable
from typing import Any

import pytest

from cliniq.app import STALE
from cliniq.domains.access import store as access
from cliniq.domains.patients import store as patients
from cliniq.platform.cached import Cached
from cliniq.platform.sql import Statement
from tests.architecture.declared import WALLS, lines
from tests.architecture.statements import MODULES, bare

KINDS = {
    id(thing): thing
    for module in MODULES
    for thing in vars(module).values()
    if isinstance(thing, Cached)
}
SHARED = {table for table, *walls in lines(WALLS) if "person=clinics" in walls}


def unshared(kinds: Iterable[Cached[Any]]) -> dict[str, set[str]]:
    """Name the tables that a kind is read from and that not all seats of a clinic see alike."""
    return {kind.name: found for kind in kinds if (found := tables_of(kind) - SHARED)}


def tables_of(kind: Cached[Any]) -> set[str]:
    load = kind._load  # noqa: SLF001
    assert isinstance(load, Statement), f"{kind.name} must be loaded by one statement"
    return set(re.findall(r"\b(?:from|join) ([a-z_]+)", bare(load.text)))


def twice(names: Iterable[str]) -> set[str]:
    seen = list(names)
    return {name for name in seen if seen.count(name) > 1}


def test_only_what_a_clinic_s_seats_see_alike_is_kept() -> None:
    assert len(KINDS) >= 3
    assert unshared(KINDS.values()) == {}


def test_kind_of_somebody_s_own_rows_is_found() -> None:
    sins: list[Cached[Any]] = [
        Cached("own", list[str], patients.list_own),
        Cached("members", list[str], access.list_memberships),
    ]
    assert unshared(sins) == {"own": {"patient"}, "members": {"membership"}}

    async def anything(_unit: object) -> str:
        raise NotImplementedError

    with pytest.raises(AssertionError, match="one statement"):
        unshared([Cached("loose", str, anything)])


def test_no_two_kinds_have_one_name() -> None:
    assert twice(kind.name for kind in KINDS.values()) == set()
    assert twice(["sites", "places", "sites"]) == {"sites"}


def test_every_kind_has_facts_that_make_it_stale() -> None:
    assert {kind.name for kind in STALE.values()} == {kind.name for kind in KINDS.values()}
