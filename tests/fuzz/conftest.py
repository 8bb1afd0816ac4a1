"""What the stranger finds."""

from collections.abc import AsyncIterator

import pytest

from cliniq.app import House
from cliniq.platform.source import Urls
from tests.conftest import HANDS, house_of
from tests.fuzz.town import Town, settle, unlimited
from tests.journeys.conftest import note

__all__ = ["note"]

# Hypothesis takes it for a strategy's doing; it is the house's, which answers in another thread.
NO_RANDOM = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


@pytest.fixture(scope="package")
async def open_town(urls: Urls) -> AsyncIterator[tuple[House, Town]]:
    """A house without limits, with a town in it; its clocks stand at noon."""
    HANDS.reset()
    async with house_of(urls, size=4) as house:
        free = unlimited(house)
        yield free, await settle(free)
