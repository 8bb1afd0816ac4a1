"""What the tests of the platform share: two clinics with a row in every table."""

import pytest

from cliniq.app import House
from tests.platform.world import World, inhabit
from tests.support import Admin


@pytest.fixture(scope="session")
async def world(house: House, admin: Admin) -> World:
    """Two clinics that no test changes: each only tries to."""
    return World(await inhabit(house, admin), await inhabit(house, admin))
