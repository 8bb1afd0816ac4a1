"""The generated pages: `python -m tools.reference` writes docs/errors.md and docs/map.md.

With `--check` it writes nothing, and fails where the committed pages differ from the code.
"""

import ast
import inspect
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff
from importlib import import_module
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts

from cliniq.app import TOPICS, build_app
from cliniq.kernel.permissions import GRANTED, REACH, Permission, Role
from cliniq.kernel.problem import Problem, RateLimitExceeded, RequestInvalid, Unauthenticated
from cliniq.platform.events import Event
from cliniq.platform.http.route import is_policy
from cliniq.platform.http.system import all_problems, meaning_of
from cliniq.platform.idempotency import KeyExpired, KeyInFlight, KeyMissing, KeyReused
from cliniq.platform.jobs import Errand, Job
from cliniq.platform.lanes import LANES
from cliniq.worker import REGISTRY

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src/cliniq"
NOTE = "<!-- Made by `make docs` from the code; `make check` compares. -->"
HINT_LINES = 12
EVERYWHERE = {RequestInvalid.code, Unauthenticated.code, RateLimitExceeded.code} | {
    kind.code for kind in (KeyMissing, KeyReused, KeyInFlight, KeyExpired)
}


def main(arguments: Sequence[str], docs: Path = ROOT / "docs") -> int:
    pages = {"errors.md": write_errors(), "map.md": write_map()}
    if "--check" in arguments:
        return max(check(docs / name, text) for name, text in pages.items())
    for name, text in pages.items():
        (docs / name).write_text(text, encoding="utf-8")
    return 0


def check(page: Path, text: str) -> int:
    """Compare a page with what it should be; say where it differs first."""
    found = page.read_text(encoding="utf-8") if page.exists() else ""
    if found == text:
        return 0
    difference = unified_diff(found.splitlines(), text.splitlines(), "committed", "code", n=0)
    print(f"{page.name} differs from the code; run `make docs`:")
    print("\n".join([*difference][:HINT_LINES]))
    return 1


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return re.sub(r"\|  (?=\|)", "| ", "\n".join(f"| {' | '.join(row)} |" for row in cells))


def page(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"


def first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")


# --- errors.md ------------------------------------------------------------------------------------


def write_errors() -> str:
    rows = (
        (
            f"`{kind.code}`",
            str(kind.status),
            room_of(kind),
            kind.title,
            meaning_of(kind),
            facts_of(kind),
        )
        for kind in all_problems()
    )
    return page(
        "# Every refusal",
        NOTE,
        "Answers that refuse are `application/problem+json` (RFC 9457). Clients branch on `code`:\n"
        "it is set once and never changed. Facts are members beside it.",
        table(("code", "status", "said by", "title", "meaning", "facts"), rows),
    )


def room_of(kind: type) -> str:
    """Name the room, or `everyone` for what stands in the kernel or on the platform."""
    found = re.match(r"cliniq\.domains\.(\w+)\.", kind.__module__)
    return found[1] if found else "everyone"


def facts_of(kind: type[Problem]) -> str:
    """Name the members that a refusal carries: those that its constructor hands on."""
    if "__init__" not in vars(kind):
        return ""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__init__)))
    names = [
        name
        for node in ast.walk(tree)
        for name in (
            [word.arg for word in node.keywords if word.arg]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"
            else [str(key.value) for key in node.keys if isinstance(key, ast.Constant)]
            if isinstance(node, ast.Dict)
            else []
        )
    ]
    return ", ".join(f"`{name}`" for name in names)


# --- map.md ---------------------------------------------------------------------------------------


def write_map() -> str:
    floors, rooms, files = (layers(number) for number in ("1.", "2.", "3."))
    return page(
        "# The map",
        NOTE,
        "## Floors",
        f"Each may import those to its right: {chain(floors)}.",
        "## Rooms",
        "Upper rooms ask lower ones, through `api.py` only; lower rooms tell them by events.\n"
        f"Inside a room: {chain(files)}.",
        table(("room", "what it is for", "asks"), map(describe_room, rooms)),
        "## Endpoints",
        "Beside its own refusals an endpoint answers 422 to a malformed request, 429 to who asks\n"
        "too often for its class and, unless it is public, 401 to who is not signed in.\n"
        "One that takes an `Idempotency-Key` answers `IDEMPOTENCY_KEY_REUSED`, `…_IN_FLIGHT` and\n"
        "`…_EXPIRED` too, and `…_MISSING` where the key is required.",
        table(
            ("endpoint", "who", "counts as", "key", "refusals", "what it does"),
            sorted(describe_endpoints(), key=by_path),
        ),
        "## Live topics",
        table(("topic", "who", "snapshot"), sorted(describe_topics())),
        "## Events",
        table(("event", "fields", "what happened"), sorted(describe_events(rooms))),
        "## Jobs",
        "Promised with their cause, done later. An errand speaks to somebody outside; what is\n"
        "done for somebody needs a permission, and dies with it. Times of schedules are UTC.",
        table(("job", "lane", "kind", "promised by", "what it does"), sorted(describe_jobs())),
        "## Lanes",
        table(
            ("lane", "at once, a worker", "a second, all", "tries", "waits", "deadline", "rank"),
            describe_lanes(),
        ),
        "## Tables",
        "What each database role may do, behind its wall. Of their clinics persons see `own` rows\n"
        "of their patients, `clinic` all, `shared` nobody's or own, `self` their own; they never\n"
        "read what is `written`.",
        table(
            ("table", "cut by", "staff", "persons", "platform", "what it holds"), describe_tables()
        ),
        "## Who may do what",
        table(("permission", *Role), describe_roles()),
    )


def layers(number: str) -> list[str]:
    """Read who may import whom, upper ones first, from the contract that holds it."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    named = {each["name"].split()[0]: each for each in tool["importlinter"]["contracts"]}
    found: list[str] = named[number]["layers"]
    return found


def chain(names: Iterable[str]) -> str:
    return " > ".join(re.sub(r"\(?(\w+)\)?", r"`\1`", name) for name in names)


def describe_room(room: str) -> tuple[str, str, str]:
    said = first_line(import_module(f"cliniq.domains.{room}")).partition(": ")[2]
    text = "\n".join(
        file.read_text(encoding="utf-8") for file in (SRC / "domains" / room).glob("*.py")
    )
    asked = set(
        re.findall(r"^from cliniq\.domains\.(\w+)(?: import api|\.api import)", text, re.MULTILINE)
    )
    return f"`{room}`", said[0].upper() + said[1:], ", ".join(sorted(asked - {room}))


def describe_endpoints() -> Iterator[tuple[str, ...]]:
    for context in iter_route_contexts(build_app().routes):
        route = context.original_route
        if isinstance(route, APIRoute | APIWebSocketRoute):
            door: Any = next(filter(is_policy, route.dependant.dependencies)).call
            methods, answers = ["WEBSOCKET"], {}
            if isinstance(route, APIRoute):
                methods, answers = sorted(route.methods or ()), route.responses
            said = " ".join(str(each["description"]) for each in answers.values())
            codes = sorted(set(re.findall(r"`([A-Z_]+)`", said)) - EVERYWHERE)
            for method in methods:
                where = f"`{method} {context.path}`"
                traffic, key = getattr(route, "traffic", "live"), getattr(route, "key", "")
                said = first_line(route.endpoint)
                yield where, door.words, traffic, key, ", ".join(codes), said


def by_path(row: Sequence[str]) -> list[str]:
    return row[0].strip("`").split()[::-1]


def describe_topics() -> Iterator[tuple[str, str, str]]:
    for name, topic in TOPICS.items():
        yield f"`{name}:<id>`", topic.guard.words, first_line(topic.load)


def describe_events(rooms: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for room in rooms:
        if (SRC / "domains" / room / "events.py").exists():
            for kind in vars(import_module(f"cliniq.domains.{room}.events")).values():
                if isinstance(kind, type) and issubclass(kind, Event) and "kind" in vars(kind):
                    yield f"`{kind.kind}`", ", ".join(kind.__struct_fields__), first_line(kind)


def describe_jobs() -> Iterator[tuple[str, ...]]:
    """List what may be promised, with the events and schedules that promise it."""
    for job in REGISTRY.jobs.values():
        by = [f"`{kind}`" for kind, heard in REGISTRY.subscribers.items() if job in heard]
        by += [f"`{duty.cron}`" for duty in REGISTRY.duties if duty.job is job]
        kind = "errand" if isinstance(job, Errand) else "use case"
        if isinstance(job, Job) and job.seat:
            kind += f", `{job.seat}`"
        done = first_line(getattr(job, "use_case", None))
        yield f"`{job.name}`", f"`{job.lane}`", kind, ", ".join(by), done


def describe_lanes() -> Iterator[tuple[str, ...]]:
    for lane, policy in LANES.items():
        waits = f"{policy.first_wait.seconds} s to {policy.longest_wait.seconds} s"
        rate = str(policy.per_second or "")
        figures = (policy.at_once, rate, policy.tries, waits, f"{policy.deadline.seconds} s")
        yield f"`{lane}`", *map(str, figures), str(policy.rank)


def describe_tables() -> Iterator[tuple[str, ...]]:
    """Read the tables and their walls from the migrations' text."""
    text = "\n".join(
        file.read_text(encoding="utf-8") for file in sorted(SRC.glob("migrations/*.sql"))
    )
    may: dict[tuple[str, str], list[str]] = {}
    for name, clinic, person, sees in re.findall(
        r"call wall_in\('(\w+)', '([^']*)'(?:, '([^']*)')?(?:, '(\w+)')?\)", text
    ):
        may[name, "clinic"] = [clinic]
        may[name, "person"] = [f"{sees or 'own'}: {person}"] if person else []
    for name, platform in re.findall(r"call admit_platform\('(\w+)', '([^']*)'\)", text):
        may[name, "platform"] = [platform]
    for words, name, roles in re.findall(
        r"^grant ([\w ,()]+) on (\w+) to ([\w, ]+);", text, re.MULTILINE
    ):
        for role in re.findall(r"cliniq_(\w+)", roles):
            may.setdefault((name, role), []).append(words)
    made = (
        r"((?:^--.*\n)*)^create table (\w+) \((?:.|\n)*?^\)"
        r"(?: partition by (\w+ \(\w+\))| with \(.*\))?;"
    )
    for comment, name, cut in re.findall(made, text, re.MULTILINE):
        said = " ".join(comment.replace("-- ", "").split())
        granted = (
            "; ".join(may.get((name, role), [])) for role in ("clinic", "person", "platform")
        )
        yield f"`{name}`", cut, *granted, said


def describe_roles() -> Iterator[tuple[str, ...]]:
    yield "*charts in reach*", *(REACH[role] for role in Role)
    for permission in Permission:
        yield f"`{permission}`", *("●" if permission in GRANTED[role] else "" for role in Role)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
