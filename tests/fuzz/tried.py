"""Schemathesis over the document: all its phases, and what came of them for each operation."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from uuid import UUID

import schemathesis
from fastapi import FastAPI
from schemathesis import Case, Config, GenerationMode, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.schemas import BaseSchema
from typing_extensions import override

from tests.fuzz import sizes
from tests.fuzz.callers import Callers
from tests.fuzz.served import on_a_port
from tests.fuzz.town import Town

Document = dict[str, Any]

PATIENCE_SECONDS = 30
DAY_LIST = "GET /api/v1/appointments"
ONE_OF = ("site_id", "practitioner_id", "patient_id")  # it is asked for
MADE_UP = re.compile(r"[A-Za-z0-9_-]{1,200}")  # as the document has them
OFTEN, SOMETIMES = 0.8, 0.4  # how probably a word that means something is put in for another
# Rules between inputs, which OpenAPI has no words for: the refusal says them.
BETWEEN_INPUTS = {
    "query: one of site_id, practitioner_id, patient_id",
    "query: mrn and identifier stand alone",
    "query.cursor: not_ours",
    "body.practitioner_id: this line is of the whole site",
}


@dataclass(frozen=True)
class Finding:
    """A check that an operation has failed."""

    check: str
    what: str
    how: str  # a command that shows it

    @override
    def __str__(self) -> str:
        return f"{self.check}: {self.what}\n{self.how}"


@dataclass
class Tried:
    """What came of it, by operation."""

    findings: dict[str, list[Finding]] = field(default_factory=dict)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    of_sound: Counter[int] = field(default_factory=Counter)  # answers to what the document allows
    errors: list[str] = field(default_factory=list)

    def broken(self) -> int:
        """Count answers that the server could not give."""
        return sum(
            many
            for statuses in self.statuses.values()
            for status, many in statuses.items()
            if status >= 500
        )

    def table(self) -> str:
        """Write down how often each operation answered with which status."""
        return "\n".join(
            f"{name}: {dict(sorted(statuses.items()))}"
            for name, statuses in sorted(self.statuses.items())
        )

    @property
    def share_within(self) -> float:
        """Say how much of what is allowed was done, or refused by a state or a rule."""
        within = sum(many for status, many in self.of_sound.items() if is_within(status))
        return within / max(1, self.of_sound.total())

    def unreached(self) -> list[str]:
        """Name operations behind whose door nobody has been."""
        return [
            operation
            for operation, statuses in self.statuses.items()
            if not any(map(is_within, statuses))
        ]

    def checks_failed(self, operation: str) -> set[str]:
        return {each.check for each in self.findings.get(operation, ())}

    def take(self, event: events.EngineEvent) -> None:
        """Write down what has happened."""
        match event:
            case events.ScenarioFinished():
                self._take_answers(event)
                self._take_findings(event)
            case events.NonFatalError() | events.FatalError():
                self.errors.append(str(event))

    def _take_answers(self, event: events.ScenarioFinished) -> None:
        for case_id, seen in event.recorder.interactions.items():
            case = event.recorder.cases[case_id].value
            if seen.response is not None and case.method.upper() == case.operation.method.upper():
                status = seen.response.status_code
                self.statuses.setdefault(case.operation.label, Counter())[status] += 1
                if case.meta and case.meta.generation.mode is GenerationMode.POSITIVE:
                    self.of_sound[status] += 1

    def _take_findings(self, event: events.ScenarioFinished) -> None:
        for case_id, checks in event.recorder.checks.items():
            label = event.recorder.cases[case_id].value.operation.label
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    what = f"{failure.title}. {failure.message}"
                    finding = Finding(check.name, what, check.failure_info.code_sample)
                    self.findings.setdefault(label, []).append(finding)


def is_within(status: int) -> bool:
    """Tell whether an answer comes from behind the door, from a use case that was carried out."""
    return status < 400 or status == 409


async def try_app(app: FastAPI, town: Town, paths: str | None = None) -> Tried:
    """Try what an application says of itself; with `paths`, those operations only."""
    async with on_a_port(app) as address:
        return await asyncio.to_thread(_try_all, app.openapi(), address, town, paths)


def _try_all(document: Document, address: str, town: Town, paths: str | None) -> Tried:
    """Try operations with what the document allows and with what it forbids."""
    schema: BaseSchema = schemathesis.openapi.from_dict(
        with_examples(document, town.words), config=settings_of(address, town)
    )
    if paths:
        schema = schema.include(path_regex=paths)
    schema.auth.providers.append(Callers(town))
    schema.hook(filter_failure)
    schema.hook(map_body_by(town.proofs))
    schema.hook(map_query_by(town.words))
    tried = Tried()
    for event in from_schema(schema).execute():
        tried.take(event)
    return tried


def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """Keep every failure but that of a rule which the document says in words only."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 422:
        return True
    said = response.json()
    return said["code"] != "REQUEST_INVALID" or not set(said["errors"]) <= BETWEEN_INPUTS


def map_body_by(proofs: Mapping[str, list[str]]) -> Callable[[HookContext, Any], Any]:
    """Put real proofs where made-up ones stand, which nobody would hit upon.

    Nowhere else: a body may have one kind of them, and not another beside it.
    """
    real = {name: cycle(values) for name, values in proofs.items()}

    def map_body(context: HookContext, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        texts = {name: body[name] for name in real if isinstance(body.get(name), str)}
        sound = [name for name, text in texts.items() if MADE_UP.fullmatch(text)]
        return body | {name: next(real[name]) for name in sound}

    return map_body


def map_query_by(words: Mapping[str, list[str]]) -> Callable[[HookContext, Any], Any]:
    """Ask for one of several where exactly one is to be asked for: it would seldom come about."""
    real = cycle((name, value) for name in ONE_OF for value in words[name][:3])

    def map_query(context: HookContext, query: Any) -> Any:
        known = {name: query[name] for name in ONE_OF if name in (query or {})}
        of_it = context.operation is not None and context.operation.label == DAY_LIST
        if not of_it or not all(isinstance(each, str) and _is_id(each) for each in known.values()):
            return query
        name, value = next(real)
        return {each: query[each] for each in query or {} if each not in known} | {name: value}

    return map_query


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def settings_of(address: str, town: Town) -> Config:
    """Set it up: the same tries every time, and words that mean something among the others."""
    places = (("path", OFTEN), ("query", SOMETIMES), ("body", OFTEN))
    others = {("body", name) for name in town.proofs} | {("query", name) for name in ONE_OF}
    parameters = {
        f"{place}.{name}": {"dictionary": name, "probability": often}
        for name in town.words
        for place, often in places
        if (place, name) not in others
    }
    parameters["header.X-Clinic-Id"] = {"dictionary": "X-Clinic-Id", "probability": 1.0}
    return Config.from_dict(
        {
            "base-url": address,
            "request-timeout": PATIENCE_SECONDS,
            "seed": sizes.SEED,
            "continue-on-failure": True,
            "phases": {"coverage": {"generate-duplicate-query-parameters": True}},
            "max-stream-events": 1,  # the next one would come when something happens
            "generation": {
                "max-examples": sizes.EXAMPLES,
                "deterministic": True,
                "database": "none",
                "no-shrink": True,
            },
            "dictionaries": {name: {"values": values} for name, values in town.words.items()},
            "parameters": parameters,
        }
    )


def with_examples(document: Document, words: Mapping[str, list[str]]) -> Document:
    """Put an example of a real thing to every input of whose name there is one."""
    found: Document = deepcopy(document)
    real = {name: cycle(values) for name, values in words.items()}
    for inputs in _inputs_of(found):
        for name, said in inputs.items():
            if name in real:
                said["examples" if "type" in said or "anyOf" in said else "example"] = [
                    next(real[name])
                ]
    return found


def _inputs_of(document: Document) -> Iterator[dict[str, Any]]:
    """Go over what is asked for: the parameters of an operation, the properties of a body."""
    for methods in document["paths"].values():
        for operation in methods.values():
            yield {each["name"]: each["schema"] for each in operation.get("parameters", ())}
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("In"):
            yield schema.get("properties", {})
