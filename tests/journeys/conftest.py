"""The real server over the shared database, and a clinic whose local time is noon right now."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from cliniq.app import House, open_house
from cliniq.platform.clock import Clocks, utc_now
from cliniq.platform.source import Urls
from tests.journeys import sizes
from tests.journeys.served import Installation, Served
from tests.support import SECRET, SomeClinic, found_clinic

Note = Callable[..., None]


@pytest.fixture(scope="session")
async def real_house(urls: Urls) -> AsyncIterator[House]:
    """A house of the test's own process, on real clocks as the server's."""
    async with open_house(urls.application, SECRET, 6, Clocks(), promises=None) as house:
        yield house


@pytest.fixture
async def clinic(real_house: House) -> SomeClinic:
    return await found_clinic(real_house, zone_at_noon())


@pytest.fixture(scope="session")
def installation(urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """What it takes to serve the shared database."""
    assert urls.owner
    settings = {"CLINIQ_DATABASE_URL": urls.application, "CLINIQ_OWNER_URL": urls.owner}
    return Installation(Path(tmp_path_factory.mktemp("serve")), settings)


@pytest.fixture(scope="module")
async def served(installation: Installation) -> AsyncIterator[Served]:
    """The real server; that it ends well is part of every journey."""
    async with installation.running("serve") as served:
        yield served


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Write down what a test has counted, for the table of proofs."""

    def write(size: str, **counted: object) -> None:
        if sizes.FACTS is not None:
            fact = {"test": request.node.name, "size": size, "counted": counted}
            with sizes.FACTS.open("ab") as facts:
                facts.write(msgspec.json.encode(fact, enc_hook=str) + b"\n")

    return write


def zone_at_noon() -> str:
    """Name a zone in which it is between 12 and 13 o'clock now: no test has a midnight in it."""
    ahead = 12 - utc_now().hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/UTC"
