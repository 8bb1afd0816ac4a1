"""A pgbench script from what one request really sends, and pgbench itself.

The request is answered in this process by the real application, and what its connections send is
recorded. Each id in it is replaced, by its kind (see `town`), with that of the transaction's own
visit, doctor, site or caller; an id that the request made gets a kind of its own. The moment of the
request becomes `now()`. All else stays as it was, as a literal.

pgbench prepares every statement, and a prepared one is a single statement: what Cliniq sends as one
message (BEGIN, role, seat) becomes one pipeline, so it is one round trip too. As a pipeline is
prepared before it runs, its connections have the role from the beginning.
"""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2
from asyncpg.connection import LoggedQuery

from bench.ground import SECRET, Connection, Ground
from bench.load import Ask, Sample
from bench.report import BenchFailed
from bench.town import DIGITS, FIRST, Kind, Town, prefix
from cliniq.app import build_app, open_house
from cliniq.platform.clock import Clocks, utc_now
from cliniq.platform.embedded import programs

THREADS = 2
FRESH = 0x1000  # the first kind for ids that a request makes
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBERS = {prefix(kind): kind.numbered_by for kind in Kind}


@dataclass(frozen=True)
class Recording:
    """What one request sent, and when it began and ended."""

    said: Sequence[LoggedQuery]
    began: datetime
    ended: datetime


async def record(ground: Ground, asks: Iterable[Ask]) -> Recording:
    """Answer requests in this process and record the last; those before it warm the connections.

    Raises: BenchFailed where one is refused.
    """
    said: list[LoggedQuery] = []
    began = ended = utc_now()
    async with open_house(ground.application, SECRET, 2, Clocks(), promises=None) as house:
        for pool in (house.entrance.database.clinic, house.entrance.database.person):
            async with pool.acquire() as connection:  # the one that every request will get
                connection.add_query_logger(said.append)
        transport = httpx2.ASGITransport(app=build_app(house))
        async with httpx2.AsyncClient(transport=transport) as client:
            for ask in asks:
                said.clear()
                began = utc_now()
                answer = await client.request(
                    ask.method, f"http://here{ask.path}", headers=ask.headers, json=ask.body
                )
                ended = utc_now()
                if not answer.is_success:
                    raise BenchFailed(f"{ask.path}: {answer.text}")
                await asyncio.sleep(0)  # asyncpg logs a moment later
    return Recording(said, began, ended)


async def write_script(
    connection: Connection, recording: Recording, town: Town, doctor: str | None = None
) -> str:
    """Write the script; `doctor` is an expression where it is not the visit's.

    Needs `-D base`, the first visit of all, and `-D each`, how many a client has.
    """
    doctor = doctor or town.doctor_of_i.format(i=":i")
    lines = [
        "\\set i :base + :client_id * :each + :n",
        "\\set n :n + 1",
        f"\\set d {doctor}",
        f"\\set s {FIRST} + :d % {town.sites}",
        f"\\set c {FIRST} + :client_id",
    ]
    varying = _Varying(recording)
    for message in recording.said:
        if message.args:
            statement = await connection.prepare(message.query)
            types = [each.name for each in statement.get_parameters()]
            lines.append(varying.statement(message.query, message.args, types) + ";")
        else:
            lines += varying.message(message.query)
    return "\n".join(lines) + "\n"


class _Varying:
    """Rewrites recorded text so that every transaction has its own ids."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._fresh: dict[str, int] = {}

    def message(self, text: str) -> list[str]:
        """Rewrite a message without arguments: one statement, or several in a pipeline."""
        varied = self._varied(re.sub(rf"'({_UUID.pattern})'", r"('\1')::uuid", text))
        statements = [f"{each.strip()};" for each in varied.split(";")]
        if len(statements) == 1:
            return statements
        return ["\\startpipeline", *statements, "\\endpipeline"]

    def statement(self, text: str, arguments: Sequence[Any], types: Sequence[str]) -> str:
        """Rewrite a statement with its arguments as literals."""

        def literal(found: re.Match[str]) -> str:
            place = int(found[1]) - 1
            return f"({self._literal(arguments[place])})::{types[place]}"

        return re.sub(r"\$(\d+)", literal, text).strip()

    def _literal(self, value: Any) -> str:
        if value is None:
            return "null"
        if isinstance(value, datetime) and self._recording.began <= value <= self._recording.ended:
            return "now()"
        if isinstance(value, bytes):
            return f"'\\x{value.hex()}'"
        if isinstance(value, list):
            value = f"{{{','.join(map(str, value))}}}"
        quoted = str(value).replace("'", "''")
        return self._varied(f"'{quoted}'")

    def _varied(self, text: str) -> str:
        # pgbench takes `:word` for a variable, even inside a literal
        text = re.sub(r"(?<!:):(?=[A-Za-z_])", ":' || '", text)
        return _UUID.sub(lambda found: self._name(found[0]), text)

    def _name(self, known: str) -> str:
        stem = known[:-DIGITS]
        number = _NUMBERS.get(stem)
        if number is None:
            kind = FRESH + self._fresh.setdefault(known, len(self._fresh))
            stem, number = prefix(kind), "i"
        return f"{stem}' || :{number} || '" if number else known


async def run_pgbench(ground: Ground, script: str, stretches: Sequence[range]) -> list[Sample]:
    """Run the script over each client's stretch of visits, as the application's login.

    Raises: BenchFailed where pgbench fails, or does not do every transaction.
    """
    clients, each = len(stretches), len(stretches[0])
    file, log = ground.folder / "script.sql", ground.folder / "transactions"
    file.write_text(script, encoding="utf-8")
    numbers = {"n": 0, "base": stretches[0].start, "each": each}
    role = re.search(r"set local role (\w+)", script)
    process = await asyncio.create_subprocess_exec(
        _program(),
        *("--no-vacuum", "--protocol=prepared", f"--file={file}"),
        *(f"--client={clients}", f"--jobs={THREADS}", f"--transactions={each}"),
        *("--log", f"--log-prefix={log}"),
        *(f"--define={name}={value}" for name, value in numbers.items()),
        ground.application,
        env={"PGOPTIONS": f"-c role={role[1]}"} if role else {},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    samples = []
    for part in ground.folder.glob("transactions.*"):
        samples += [_sample(line) for line in part.read_text().splitlines()]
        part.unlink()
    if process.returncode or len(samples) != clients * each:
        raise BenchFailed(f"pgbench: {said.decode(errors='replace')}")
    return samples


def _program() -> str:
    """Find pgbench: the one beside the embedded server, or else on the PATH."""
    bundled = programs() / "pgbench"
    found = str(bundled) if bundled.exists() else shutil.which("pgbench")
    if found is None:
        raise BenchFailed("pgbench is not installed")
    return found


def _sample(line: str) -> Sample:
    client, _, took_us, _, second, us = map(int, line.split()[:6])
    return Sample(client, second + us / 1e6, took_us / 1e6)
