"""Every refusal has one code, is explained, and is announced by whoever may utter it."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from cliniq.app import build_app
from cliniq.domains.clinics.errors import SiteNotFound
from cliniq.domains.queue import service as queue_service
from cliniq.domains.queue.errors import QueueEmpty
from cliniq.kernel.problem import Conflict, NotFound, Problem
from cliniq.platform.http.guards import public
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room
from cliniq.platform.http.system import all_problems, meaning_of
from tests.architecture.statements import MODULES

CODE = re.compile(r"\b[A-Z][A-Z_]{3,}\b")
NOT_A_CODE = {"UUID"}
STATUS_OF = {kind.code: kind.status for kind in all_problems()}
ANSWERS = {400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 503}


def family() -> list[type[Problem]]:
    """Every kind of refusal in the code, the abstract ones included."""
    found, waiting = [], [Problem]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("cliniq."):
            found.append(kind)
    return found


# --- the codes ------------------------------------------------------------------------------------


def ensure_codes_are_sound(kinds: Sequence[type[Problem]]) -> None:
    """One code each, set where the class is, spelt like a code, and explained."""
    for kind in kinds:
        assert {"code", "title", "__doc__"} <= vars(kind).keys(), kind
        assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", kind.code), kind
        assert kind.status in ANSWERS, kind
        assert meaning_of(kind).endswith("."), kind
        assert kind.title == kind.title.strip(" ."), kind
    codes = [kind.code for kind in kinds]
    assert sorted(set(codes)) == sorted(codes)


def test_every_code_is_unique_and_explained() -> None:
    assert len(family()) > 25
    ensure_codes_are_sound(family())
    assert sorted(kind.code for kind in family()) == [kind.code for kind in all_problems()]


def some_kind(**facts: object) -> type[Problem]:
    sound = {"code": "TEA_COLD", "title": "The tea is cold", "__doc__": "Somebody forgot the tea."}
    return type("TeaCold", (Conflict,), {"__module__": "tests", **sound, **facts})


def test_unsound_code_is_found() -> None:
    ensure_codes_are_sound([*family(), some_kind()])
    sins: list[dict[str, object]] = [
        {"code": "teaCold"},
        {"code": "TEA_COLD_"},
        {"code": QueueEmpty.code},
        {"status": 418},
        {"__doc__": None},
        {"__doc__": ""},
        {"title": "The tea is cold."},
    ]
    for sin in sins:
        with pytest.raises(AssertionError):
            ensure_codes_are_sound([*family(), some_kind(**sin)])
    borrowed = type("Borrowed", (QueueEmpty,), {"__module__": "tests", "__doc__": "Again."})
    with pytest.raises(AssertionError, match="Borrowed"):
        ensure_codes_are_sound([borrowed])


# --- what docstrings say --------------------------------------------------------------------------


def announced(function: object) -> list[tuple[str, int | None]]:
    """The codes that a docstring names after `Raises:`, each with the next status in line."""
    _, _, said = (inspect.getdoc(function) or "").partition("Raises:")
    status: int | None = None
    found: list[tuple[str, int | None]] = []
    for word in reversed(re.findall(rf"{CODE.pattern}|\b[45]\d\d\b", said)):
        if word.isdigit():
            status = int(word)
        elif word not in NOT_A_CODE:
            found.append((word, status))
    return found


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions that a module defines, those of its classes too."""
    for thing in vars(module).values():
        if getattr(thing, "__module__", None) == module.__name__:
            inner = vars(thing).values() if isinstance(thing, type) else [thing]
            yield from (each for each in inner if isinstance(each, FunctionType))


def ensure_announces_real_codes(function: object) -> None:
    for code, status in announced(function):
        assert code in STATUS_OF, code
        assert status in {None, STATUS_OF[code]}, (code, status)


def test_docstrings_name_codes_that_exist() -> None:
    functions = [each for module in MODULES for each in functions_of(module)]
    assert sum(bool(announced(each)) for each in functions) > 40
    for function in functions:
        ensure_announces_real_codes(function)


@pytest.mark.parametrize(
    "sin",
    [
        "Sit.\n\nRaises: TEA_COLD 409.",
        "Sit.\n\nRaises: SLOT_TAKEN 404.",
        "Sit.\n\nRaises: QUEUE_EMPTY, SLOT_TAKEN 404.",
        "Sit.\n\nRaises: SLOT_TAKEN 409 where\n    it is, QUEUE_FULL.",
    ],
)
def test_docstring_that_names_a_wrong_code_is_found(sin: str) -> None:
    with pytest.raises(AssertionError):
        ensure_announces_real_codes(SimpleNamespace(__doc__=sin))


# --- what is really raised ------------------------------------------------------------------------


# What a call could refuse, but cannot here: a foreign key says that what is looked for is there,
# a visit is checked in only after it was judged eligible, and a walk-in's is new.
CANNOT_HAPPEN = {
    "cliniq.domains.intake.service.bring_in": {"IMPORT_NOT_FOUND"},
    "cliniq.domains.checkin.service.check_in_at_desk": {"SITE_NOT_FOUND"},
    "cliniq.domains.checkin.service.walk_in": {
        "INVALID_TRANSITION",
        "SITE_NOT_FOUND",
        "STALE_VERSION",
    },
    "cliniq.domains.checkin.service.scan": {"INVALID_TRANSITION", "SITE_NOT_FOUND"},
    "cliniq.domains.queue.service.get_todays": {"SITE_NOT_FOUND"},
    "cliniq.domains.queue.service.call_next": {"PATIENT_NOT_FOUND"},
    "cliniq.domains.queue.service.join": {"PRACTITIONER_NOT_FOUND", "SITE_NOT_FOUND"},
    "cliniq.domains.queue.service._step": {"APPOINTMENT_NOT_FOUND"},
}


def raised_by(function: Any) -> frozenset[str]:
    """The codes that a function raises itself, or through functions of ours that it calls by name.

    Blind to what it calls on instances: limits, pools, doors.
    """
    return _raised_by(function, frozenset()) - CANNOT_HAPPEN.get(name_of(function), set())


def name_of(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


@cache
def _raised_by(function: Any, above: frozenset[Any]) -> frozenset[str]:
    known = inspect.getmodule(function)
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.cleandoc("\n" + inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            kind = _resolve(known, raised)
            if isinstance(kind, type) and issubclass(kind, Problem):
                found.add(kind.code)
        elif isinstance(node, ast.Call):
            called = _resolve(known, node.func)
            ours = isinstance(called, FunctionType) and called.__module__.startswith("cliniq.")
            if ours and called is not function and called not in above:
                cannot = CANNOT_HAPPEN.get(name_of(called), set())
                found |= _raised_by(called, above | {function}) - cannot
    return frozenset(found)


def _resolve(module: Any, node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return vars(module).get(node.id)
    if isinstance(node, ast.Attribute):
        base = _resolve(module, node.value)
        return getattr(base, node.attr, None) if isinstance(base, ModuleType) else None
    return None


def ensure_announces_all(function: Any) -> None:
    missing = raised_by(function) - {code for code, _ in announced(function)}
    assert not missing, f"{name_of(function)}: {sorted(missing)}"


def test_use_cases_and_rules_announce_what_they_raise() -> None:
    told = [module for module in MODULES if module.__name__.endswith((".service", ".rules"))]
    public_ones = [
        function
        for module in told
        for function in functions_of(module)
        if not function.__name__.startswith("_")
    ]
    assert sum(bool(raised_by(each)) for each in public_ones) > 20
    for function in public_ones:
        ensure_announces_all(function)


def test_what_cannot_happen_would_be_missed_otherwise() -> None:
    functions = {name_of(each): each for module in MODULES for each in functions_of(module)}
    for name, codes in CANNOT_HAPPEN.items():
        assert codes <= _raised_by(functions[name], frozenset()), name


async def quiet() -> None:
    """Take a place that is taken.

    Raises: NOT_FOUND 404.
    """
    await queue_service.call_next(None, None, None)  # type: ignore[arg-type]
    raise NotFound


def test_use_case_that_keeps_a_refusal_to_itself_is_found() -> None:
    with pytest.raises(AssertionError, match=r"quiet: .*QUEUE_EMPTY.*QUEUE_NOT_FOUND"):
        ensure_announces_all(quiet)


# --- what routes say ------------------------------------------------------------------------------


def ensure_routes_describe_what_they_raise(app: FastAPI) -> int:
    """Every code that a handler raises stands in the route's description; answer with how many."""
    seen = 0
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            described: Mapping[Any, Any] = route.responses
            told = {
                code
                for answer in described.values()
                for code in re.findall(r"`([A-Z_]+)`", answer["description"])
            }
            raised = raised_by(inspect.unwrap(route.endpoint))
            assert raised <= told, (route.path, raised - told)
            seen += len(raised)
    return seen


def test_routes_describe_what_they_raise() -> None:
    assert ensure_routes_describe_what_they_raise(build_app()) > 25


async def secretive(door: Annotated[None, public("a test")]) -> None:
    await queue_service.call_next(None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("told", [(), (SiteNotFound,), (QueueEmpty,)])
def test_route_that_keeps_a_refusal_to_itself_is_found(told: tuple[type[Problem], ...]) -> None:
    router = room("", "x")
    router.get("/secret", responses=problems(*told))(secretive)
    app = FastAPI()
    app.include_router(router)
    with pytest.raises(AssertionError, match="QUEUE_NOT_FOUND"):
        ensure_routes_describe_what_they_raise(app)
