"""What the tests of the rooms share."""

import itertools
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from fastapi import FastAPI

from cliniq.app import House, build_app
from tests.domains.watch import Messages, Watch, watched
from tests.support import KEYED, Client, Hands

ADDRESSES = itertools.count(1)


def client_at(app: FastAPI, address: str) -> Client:
    """A client of an address: limits count by it."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False, client=(address, 1))
    return httpx2.AsyncClient(transport=transport, base_url="http://cliniq.test", event_hooks=KEYED)


def new_address() -> str:
    """An address that nobody has used."""
    return f"2001:db8:0:{next(ADDRESSES):x}::1"  # a home of its own


@pytest.fixture(scope="session")
def messages() -> Messages:
    return Messages()


@pytest.fixture(scope="session")
def watched_app(house: House, messages: Messages) -> FastAPI:
    return build_app(watched(house, messages), "http://cliniq.test")


@pytest.fixture
async def watch(watched_app: FastAPI, messages: Messages, hands: Hands) -> AsyncIterator[Watch]:
    """A client whose requests are heard at the database's door."""
    async with client_at(watched_app, new_address()) as client:
        watch = Watch(client, messages)
        await watch.said()
        yield watch


@pytest.fixture
async def elsewhere(app: FastAPI, hands: Hands) -> AsyncIterator[Client]:
    """A client of an address of its own: nobody else has used up its limits."""
    async with client_at(app, new_address()) as client:
        yield client


Build = Callable[[House], Client]


@pytest.fixture
def open_client(hands: Hands) -> Build:
    """A client of another house."""
    return lambda house: client_at(build_app(house, "http://cliniq.test"), new_address())
