"""A small day at a real server: nothing is lost, doubled or stuck, and a seed is a story."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from cliniq.app import open_house
from cliniq.platform.clock import Clocks, Dial
from cliniq.platform.migrate import migrate
from cliniq.platform.provision import provision
from cliniq.platform.rehearsal import RealInstallation, mark
from cliniq.simulation import town
from cliniq.simulation.cast import list_companies
from cliniq.simulation.play import Play, Summary
from cliniq.simulation.server import own_server
from cliniq.simulation.wire import Answer, Wire
from tests.conftest import on_server
from tests.support import SECRET

DAY = date(2026, 3, 2)


class Liar(Wire):
    """Answers what it likes to some of what is asked."""

    def __init__(self, *given: Any, sin: str) -> None:
        super().__init__(*given)
        self.sin = sin

    @override
    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: object = None
    ) -> Answer:
        if self.sin == "no calls" and path.endswith("/calls"):
            return Answer(409, "QUEUE_EMPTY", {"code": "QUEUE_EMPTY"})
        answer = await super().ask(method, path, headers, body)
        if answer.code == "OK":
            self._lie(method, path, answer.body)
        return answer

    def _lie(self, method: str, path: str, body: Any) -> None:
        if (
            self.sin == "no entry"
            and method == "GET"
            and path.count("/") == 2
            and "entries" in body
        ):
            body["entries"] = body["entries"][:-1]
        elif self.sin == "other place" and "/entries/" in path and method == "GET":
            body["position"] += 1
        elif self.sin == "same ticket" and path.endswith("/scan-qr"):
            for each in body["check_ins"]:
                each["ticket"] = 1


async def played(
    server: str, folder: Path, *, name: str, seed: int = 1, people: int = 20, sin: str = ""
) -> Summary:
    """Play a small day in a database of its own."""
    application, owner = await provision(server, name)
    try:
        await migrate(owner, Clocks())
        await mark(owner)
        dial = Dial.make(folder / "clock", datetime.combine(DAY, time(5), UTC), 0)
        told = {
            "CLINIQ_DATABASE_URL": application,
            "CLINIQ_OWNER_URL": owner,
            "CLINIQ_SECRET": SECRET,
            "CLINIQ_CLINIC_CLOCK": str(dial.path),
            "CLINIQ_DATA_DIR": str(folder),
        }
        async with open_house(application, SECRET, 2, Clocks(clinic=dial.read)) as house:
            await town.build(house, DAY, people, seed)
            companies = await list_companies(house, DAY)
            async with own_server(told, folder / "journal") as own:
                wire = Liar(own.address, house.desk, 20, sin=sin)
                try:
                    return await Play(companies, wire, seed, DAY).perform(dial, 0)
                finally:
                    await wire.close()
    finally:
        await on_server(server, f"drop database {name} with (force)")


async def test_small_day_loses_doubles_and_leaves_nothing_and_a_seed_is_a_story(
    server: str, tmp_path: Path
) -> None:
    once = await played(server, tmp_path, name="cliniq_play")
    assert once.is_clean, once.wrong
    assert once.wrong == []
    assert once.clinics == 2
    assert once.checked_in == once.called > 8
    booked = once.completed + once.no_show + once.cancelled - once.walk_ins
    assert booked == 20
    again = await played(server, tmp_path, name="cliniq_play")
    other = await played(server, tmp_path, name="cliniq_play", seed=2)
    assert other.is_clean, other.wrong
    assert once.digest == again.digest != other.digest


@pytest.mark.parametrize(
    ("sin", "fault"),
    [
        ("no entry", "lost"),
        ("same ticket", "doubled"),
        ("other place", "astray"),
        ("no calls", "stuck"),
    ],
)
async def test_sin_of_the_server_is_counted(
    server: str, tmp_path: Path, sin: str, fault: str
) -> None:
    summary = await played(server, tmp_path, name="cliniq_sin", people=10, sin=sin)
    assert not summary.is_clean
    assert getattr(summary, fault) > 0, summary


async def test_nothing_is_played_where_somebody_real_may_be_seen(
    server: str, tmp_path: Path
) -> None:
    application, owner = await provision(server, "cliniq_real")
    try:
        await migrate(owner, Clocks())
        async with open_house(application, SECRET, 2, Clocks()) as house:
            with pytest.raises(RealInstallation):
                await town.build(house, DAY, 10, 1)
    finally:
        await on_server(server, "drop database cliniq_real with (force)")
