"""Over the real server: an address that a client makes up is not believed."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.journeys.served import Installation, Served
from tests.support import Client, SomeClinic

LOGIN = "/api/v1/auth/login"
TRIES = 12  # of which ten are let through, from one address


async def tries(client: Client, clinic: SomeClinic, *forwarded: str) -> list[int]:
    """Sign in wrongly, each time with another address in place of `{}`."""
    body = {"email": clinic.doctor.email, "password": "wrong"}
    return [
        (
            await client.post(
                LOGIN,
                json=body,
                headers=[
                    ("X-Forwarded-For", each.replace("{}", str(number))) for each in forwarded
                ],
            )
        ).status_code
        for number in range(1, TRIES + 1)
    ]


@pytest.fixture
async def served(installation: Installation) -> AsyncIterator[Served]:
    """A server of a test's own: without Redis there is one at a time."""
    async with installation.running("serve") as served:
        yield served


@pytest.fixture
async def behind_a_proxy(installation: Installation) -> AsyncIterator[Served]:
    """A server that believes whoever speaks to it from this machine."""
    settings = {**installation.settings, "CLINIQ_TRUSTED_PROXIES": "127.0.0.1/8,10.0.0.0/8"}
    async with replace(installation, settings=settings).running("serve") as served:
        yield served


async def test_address_that_a_client_writes_itself_changes_nothing(
    served: Served, clinic: SomeClinic
) -> None:
    async with served.client() as client:
        statuses = await tries(client, clinic, "198.51.100.{}")
    assert statuses.count(429) >= 1
    assert statuses[:10] == [401] * 10


async def test_behind_a_proxy_what_a_client_wrote_before_it_changes_nothing(
    behind_a_proxy: Served, clinic: SomeClinic
) -> None:
    async with behind_a_proxy.client() as client:
        for forwarded in ("198.51.100.{}, 203.0.113.1", "198.51.100.{}, 203.0.113.2, 10.0.0.{}"):
            statuses = await tries(client, clinic, forwarded)
            assert statuses.count(429) >= 1
            assert statuses[:10] == [401] * 10


async def test_behind_a_proxy_people_are_told_apart(
    behind_a_proxy: Served, clinic: SomeClinic
) -> None:
    async with behind_a_proxy.client() as client:
        assert await tries(client, clinic, "198.51.100.9", "203.0.113.{}") == [401] * TRIES
        statuses = await tries(client, clinic, "2001:db8:0:1::{}")  # of one home
        assert statuses.count(429) >= 1
