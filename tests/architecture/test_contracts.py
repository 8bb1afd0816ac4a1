"""Who may import whom: the contracts hold, cover every room, and each was seen to bite."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = sorted(path.parent.name for path in ROOT.glob("src/cliniq/domains/*/__init__.py"))


def lint_imports(tree: Path) -> tuple[str, dict[str, str]]:
    """What import-linter says of a tree: all of it, and what it says of each broken contract."""
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        env={"PYTHONPATH": str(tree / "src"), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    said = result.stdout + result.stderr
    assert "Contracts:" in said, said
    _, *sections = re.split(r"^(\d+\. .*)\n-+$", said, flags=re.MULTILINE)
    broken = dict(zip(sections[::2], sections[1::2], strict=True))
    assert bool(broken) == bool(result.returncode), said
    return said, broken


def test_contracts_hold() -> None:
    said, broken = lint_imports(ROOT)
    assert not broken, said


def test_every_room_has_a_contract_for_its_door() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    doors = {each["name"]: each for each in tool["importlinter"]["contracts"]}
    for room in ROOMS:
        door = doors[f"4. only the door of {room} is open"]
        assert door["protected_modules"] == [f"cliniq.domains.{room}.*"]
        assert door["allowed_importers"] == [f"cliniq.domains.{room}"]
        assert door["ignore_imports"] == [
            f"** -> cliniq.domains.{room}.api",
            f"cliniq.app -> cliniq.domains.{room}.http",
            f"cliniq.worker -> cliniq.domains.{room}.jobs",
            f"cliniq.worker -> cliniq.domains.{room}.subscribers",
        ]


SINS = [
    ("kernel/problem.py", "import cliniq.platform.db", "1. floors"),
    ("platform/events.py", "import cliniq.domains.queue.api", "1. floors"),
    ("domains/queue/service.py", "import cliniq.app", "1. floors"),
    ("app.py", "import cliniq.cli.main", "1. floors"),
    ("helpers.py", "", "1. floors"),
    ("domains/appointments/service.py", "import cliniq.domains.queue.api", "2. rooms"),
    ("domains/identity/service.py", "import cliniq.domains.clinics.api", "2. rooms"),
    ("domains/lounge/__init__.py", "", "2. rooms"),
    ("domains/queue/helpers.py", "", "3. inside a room"),
    ("domains/queue/service.py", "import cliniq.domains.queue.http", "3. inside a room"),
    ("domains/queue/service.py", "import cliniq.domains.queue.api", "3. inside a room"),
    ("domains/queue/store.py", "import cliniq.domains.queue.service", "3. inside a room"),
    ("domains/queue/rules.py", "import cliniq.domains.queue.store", "3. inside a room"),
    ("domains/queue/models.py", "import cliniq.domains.queue.events", "3. inside a room"),
    ("domains/queue/models.py", "import cliniq.domains.queue.errors", "3. inside a room"),
    *(
        (
            "demo.py",
            f"import cliniq.domains.{room}.store\nimport cliniq.domains.{room}.api",
            f"4. only the door of {room} is open",
        )
        for room in ROOMS
    ),
    (
        "domains/checkin/service.py",
        "from cliniq.domains.appointments import models",
        "4. only the door of appointments is open",
    ),
    (
        "domains/checkin/http.py",
        "import cliniq.domains.queue.http",
        "4. only the door of queue is open",
    ),
    ("domains/checkin/rules.py", "import asyncpg", "5. kernel, rules"),
    ("domains/queue/errors.py", "import cliniq.platform.clock", "5. kernel, rules"),
    ("domains/queue/models.py", "import pydantic", "5. kernel, rules"),
    ("domains/queue/rules.py", "from time import time", "5. kernel, rules"),
    ("kernel/ids.py", "import os", "5. kernel, rules"),
    ("domains/checkin/service.py", "import fastapi", "6. stories"),
    ("domains/checkin/store.py", "import asyncpg", "6. stories"),
    ("domains/checkin/api.py", "import cliniq.platform.http.guards", "6. stories"),
    ("domains/queue/service.py", "import cliniq.platform.sql", "7. SQL"),
    ("platform/upkeep.py", "import cliniq.platform.sql", "7. SQL"),
    ("platform/http/system.py", "import asyncpg", "8. the driver"),
    ("platform/events.py", "import starlette.requests", "9. the web"),
    ("domains/queue/models.py", "import fastapi", "9. the web"),
    ("domains/queue/http.py", "import pydantic", "10. pydantic"),
    ("platform/clock.py", "import cliniq.platform.upkeep", "11. no cycle"),
    ("platform/limits.py", "import redis.asyncio", "12. Redis is known"),
    ("domains/queue/service.py", "import httpx2", "13. providers"),
    ("platform/http/system.py", "import stamina", "13. providers"),
    ("platform/telemetry.py", "from opentelemetry import trace", "14. traces"),
    ("platform/outbound/client.py", "import opentelemetry.trace", "14. traces"),
    ("platform/jobs.py", "import pgqueuer.db", "15. the job engine"),
    ("domains/queue/http.py", "import croniter", "15. the job engine"),
]


def rounds(sins: Sequence[tuple[str, str, str]]) -> Iterator[list[tuple[str, str, str]]]:
    """Deal the sins out so that a tree has one of each contract: no sin hides behind another."""
    waiting = list(sins)
    while waiting:
        dealt = {sin[2]: sin for sin in reversed(waiting)}
        yield list(dealt.values())
        waiting = [sin for sin in waiting if sin not in dealt.values()]


@pytest.mark.parametrize("sins", list(rounds(SINS)), ids=lambda sins: f"{len(sins)}-contracts")
def test_each_contract_bites(tmp_path: Path, sins: list[tuple[str, str, str]]) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("web", "*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, sin, _ in sins:
        place = tmp_path / "src/cliniq" / file
        place.parent.mkdir(exist_ok=True)
        with place.open("a") as source:
            source.write(f"\n{sin}\n")
    said, broken = lint_imports(tmp_path)
    for file, _, contract in sins:
        sinner = Path(file).parent.name if file.endswith("/__init__.py") else Path(file).stem
        found = "".join(text for name, text in broken.items() if name.startswith(contract))
        assert f".{sinner}" in found, said


def test_every_contract_was_seen_to_bite() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    names = [each["name"] for each in tool["importlinter"]["contracts"]]
    assert [name for name in names if not any(name.startswith(sin[2]) for sin in SINS)] == []
