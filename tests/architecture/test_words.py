"""The house's words: file kinds, names, shapes of what rooms say, and what is banned everywhere."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ClassVar

import pytest
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel

from cliniq.app import build_app
from cliniq.kernel.permissions import Permission
from cliniq.kernel.record import Record
from cliniq.platform.events import Event
from cliniq.platform.http.fields import Incoming
from cliniq.platform.http.route import GuardedRoute
from tests.architecture.statements import MODULES

ROOT = Path(__file__).parents[2]
TREES = ("src", "tests", "tools", "bench")


# --- names ----------------------------------------------------------------------------------------

NO_FILES = {"common", "helper", "helpers", "misc", "shared", "util", "utils"}
NO_WORDS = {"data", "handle", "helper", "info", "manager", "process", "util", "utils"}
VERBS = ("create_", "delete_", "get_", "list_", "replace_")


def ensure_files_have_a_kind(names: Iterable[str]) -> None:
    assert [name for name in names if Path(name).stem.strip("_") in NO_FILES] == []


def test_no_file_is_a_drawer() -> None:
    files = [file.name for tree in TREES for file in (ROOT / tree).rglob("*.py")]
    assert len(files) > 150
    ensure_files_have_a_kind(files)


@pytest.mark.parametrize("name", ["utils.py", "helpers.py", "common.py", "_util.py"])
def test_drawer_is_found(name: str) -> None:
    with pytest.raises(AssertionError):
        ensure_files_have_a_kind(["rules.py", name])


def empty_names(source: str) -> list[str]:
    """Names of functions and classes that begin or end with a word that says nothing.

    What overrides has its name from elsewhere.
    """
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if "override" not in {getattr(each, "id", "") for each in node.decorator_list}
        for words in [re.findall(r"[A-Z]?[a-z]+", node.name)]
        if {word.lower() for word in (words[:1] + words[-1:])} & NO_WORDS
    ]


def test_names_say_something() -> None:
    found = {
        str(file.relative_to(ROOT)): names
        for file in (ROOT / "src").rglob("*.py")
        if (names := empty_names(file.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    "sin",
    [
        "def handle_scan(): ...",
        "class QueueManager: ...",
        "def process(): ...",
        "def get_data(): 1",
    ],
)
def test_empty_name_is_found(sin: str) -> None:
    assert empty_names(sin)


def misnamed_handlers(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(VERBS)]


def test_handlers_say_what_they_do_to_a_noun() -> None:
    routes = [context.original_route for context in iter_route_contexts(build_app().routes)]
    names = [route.name for route in routes if isinstance(route, GuardedRoute)]
    assert len(names) > 30
    assert misnamed_handlers(names) == []
    assert misnamed_handlers(["get_queue", "call_next"]) == ["call_next"]


def test_permissions_are_resource_and_action() -> None:
    assert len(Permission) > 90
    for permission in Permission:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*:[a-z]+", permission)
        assert permission.name == re.sub("[-:]", "_", permission).upper()


# --- what the files of a room hold ----------------------------------------------------------------


def files_of_rooms(kind: str) -> list[ModuleType]:
    """The modules of one file kind, over all rooms."""
    return [
        module
        for module in MODULES
        if re.fullmatch(rf"cliniq\.domains\.\w+\.{kind}", module.__name__)
    ]


def classes_of(module: ModuleType) -> Iterator[type]:
    for thing in vars(module).values():
        if isinstance(thing, type) and thing.__module__ == module.__name__:
            yield thing


def ensure_says_one_sentence(source: str) -> None:
    """A room's `__init__` says what it is for, and exports nothing."""
    body = ast.parse(source).body
    assert len(body) == 1
    said = ast.get_docstring(ast.parse(source)) or ""
    assert re.match(r"[A-Z][a-z -]+: .*\.$", said)


def test_rooms_say_what_they_are_for() -> None:
    rooms = sorted((ROOT / "src/cliniq/domains").glob("*/__init__.py"))
    assert len(rooms) > 7
    for room in rooms:
        ensure_says_one_sentence(room.read_text())


@pytest.mark.parametrize("sin", ["", '"""The room."""', '"""Queue: who waits."""\nimport os'])
def test_room_that_does_not_is_found(sin: str) -> None:
    with pytest.raises(AssertionError):
        ensure_says_one_sentence(sin)


def ensure_knows_only(kind: type) -> None:
    """What stands in `models.py` is a frozen record or a closed list of words; it does nothing."""
    if issubclass(kind, Record):
        assert kind.__struct_config__.frozen, kind
    else:
        assert issubclass(kind, Enum), kind
    inner = [each for name, each in vars(kind).items() if not name.startswith("_")]
    assert not any(isinstance(each, FunctionType | property) for each in inner), kind


def test_models_know_and_do_nothing() -> None:
    kinds = [kind for module in files_of_rooms("models") for kind in classes_of(module)]
    assert len(kinds) > 40
    for kind in kinds:
        ensure_knows_only(kind)


class Doer(Record, frozen=True):
    name: str

    def act(self) -> None: ...


class Careful(Record, frozen=True):
    name: str

    @property
    def length(self) -> int:
        return len(self.name)


class Loose:
    name: str


@pytest.mark.parametrize("sin", [Doer, Careful, Loose])
def test_model_that_does_something_is_found(sin: type) -> None:
    with pytest.raises(AssertionError):
        ensure_knows_only(sin)


def ensure_crosses_the_wire(kind: type) -> None:
    """`…In` refuses unknown fields; `…Out` has no default, so that nothing is left out unseen."""
    if issubclass(kind, BaseModel):
        assert kind.__name__.endswith("In"), kind
        assert issubclass(kind, Incoming), kind
        assert kind.model_config["extra"] == "forbid", kind
    elif issubclass(kind, Record):
        assert kind.__name__.endswith("Out"), kind
        assert kind.__struct_defaults__ == (), kind
    else:
        assert issubclass(kind, Enum), kind


def test_schemas_are_strict_both_ways() -> None:
    kinds = [kind for module in files_of_rooms("schemas") for kind in classes_of(module)]
    assert len(kinds) > 8
    for kind in kinds:
        ensure_crosses_the_wire(kind)


class TeaIn(BaseModel):
    cups: int


class TeaWish(Incoming):
    cups: int


class MilkIn(Incoming, extra="allow"):
    drops: int


class TeaOut(Record, frozen=True):
    cups: int = 1


class Tea(Record, frozen=True):
    cups: int


@pytest.mark.parametrize("sin", [TeaIn, TeaWish, MilkIn, TeaOut, Tea, Loose])
def test_loose_schema_is_found(sin: type) -> None:
    with pytest.raises(AssertionError):
        ensure_crosses_the_wire(sin)


# No name, no contact, no free text: events go to everyone who listens, and into the outbox.
PERSONAL = re.compile(r"name|birth|phone|mail|address|reason|note|text|diagnosis")


def ensure_is_a_fact(kind: type[Event], room: str) -> None:
    """An event is `room.fact.v1`, frozen, and holds ids, words and numbers."""
    assert re.fullmatch(rf"{room}\.[a-z]+(_[a-z]+)*\.v[1-9]\d*", kind.kind), kind
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.subject_type), kind
    assert kind.__struct_config__.frozen, kind
    assert not [name for name in kind.__struct_fields__ if PERSONAL.search(name)], kind
    assert kind.__doc__, kind


def test_events_are_facts_without_names() -> None:
    facts = {
        kind: module.__name__.split(".")[2]
        for module in files_of_rooms("events")
        for kind in classes_of(module)
        if issubclass(kind, Event) and "kind" in vars(kind)
    }
    assert len(facts) > 6
    for kind, room in facts.items():
        ensure_is_a_fact(kind, room)
    assert len({kind.kind for kind in facts}) == len(facts)


def some_fact(kind: str, doc: str | None = "Tea was served.", **fields: type) -> type[Event]:
    body = {
        "__module__": __name__,
        "__doc__": doc,
        "__annotations__": {"kind": ClassVar[str], "subject_type": ClassVar[str], **fields},
        "kind": kind,
        "subject_type": "tea",
    }
    made: Any = type(Event)
    fact: type[Event] = made("TeaServed", (Event,), body, frozen=True)
    return fact


def test_event_that_tells_too_much_is_found() -> None:
    ensure_is_a_fact(some_fact("tea.served.v1", cups=int), "tea")
    for sin in [
        some_fact("tea.served"),
        some_fact("tea.Served.v1"),
        some_fact("milk.served.v1"),
        some_fact("tea.served.v1", doc=None),
        some_fact("tea.served.v1", given_name=str),
        some_fact("tea.served.v1", reason=str),
    ]:
        with pytest.raises(AssertionError):
            ensure_is_a_fact(sin, "tea")


# --- what is banned everywhere --------------------------------------------------------------------

BANNED = [
    ("from fastapi import HTTPException", "TID251"),
    ("import os\n\nHOME = os.environ", "TID251"),
    ("from os import getenv", "TID251"),
    ("from datetime import UTC, datetime\n\nNOW = datetime.now(UTC)", "TID251"),
    ("from datetime import datetime\n\nNOW = datetime.utcnow()", "TID251"),
    ("from datetime import date\n\nTODAY = date.today()", "TID251"),
    ("import time\n\nNOW = time.time()", "TID251"),
    ("import pickle", "TID251"),
    ("X = eval('1')", "S307"),
    ("import yaml\n\nX = yaml.load('1')", "S506"),
    ("from . import rules", "TID252"),
    ("print('found')", "T201"),
    ("def find(): return 1", "D103"),
    ("class Desk:\n    def open(self): return 1", "D102"),
    ("# x = 1", "ERA001"),
]


def ruff(tree: Path) -> dict[str, set[str]]:
    """What ruff says of each file of a tree, under our configuration."""
    result = subprocess.run(
        [
            Path(sys.executable).with_name("ruff"),
            *["check", "--no-cache", "--output-format", "json"],
            *["--config", str(ROOT / "pyproject.toml"), str(tree)],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, set[str]] = {}
    for each in json.loads(result.stdout):
        found.setdefault(Path(each["filename"]).name, set()).add(each["code"])
    return found


def test_what_is_banned_is_found(tmp_path: Path) -> None:
    for number, (sin, _) in enumerate(BANNED):
        (tmp_path / f"sin{number}.py").write_text(f'"""A sin."""\n\n{sin}\n')
    found = ruff(tmp_path)
    missed = [
        sin for number, (sin, rule) in enumerate(BANNED) if rule not in found[f"sin{number}.py"]
    ]
    assert missed == []
