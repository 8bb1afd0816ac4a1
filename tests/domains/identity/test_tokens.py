"""Access tokens: of one type, of one algorithm, for a quarter of an hour."""

from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest

from cliniq.app import House
from cliniq.kernel.ids import new_id
from cliniq.platform.signing import Keyring
from tests.domains.identity.sign_ins import is_in
from tests.support import NOON, SECRET, Client, Hands, Someone, sign_up


@pytest.fixture
async def someone(house: House, hands: Hands) -> Someone:
    return await sign_up(house)


def claims(someone: Someone, **changes: object) -> dict[str, Any]:
    return {
        "iss": "cliniq",
        "aud": "cliniq",
        "iat": NOON,
        "nbf": NOON,
        "exp": NOON + timedelta(minutes=15),
        "sub": str(someone.person_id),
        "sid": str(someone.session_id),
        "staff": False,
    } | changes


def signed(
    said: dict[str, Any],
    *,
    algorithm: str | None = "HS256",
    typ: str | None = "at+jwt",
    master: str = SECRET,
    purpose: str = "access-token",
) -> str:
    """A token made with the house's own key, unless told otherwise."""
    if algorithm == "none":
        return jwt.encode(said, "", algorithm, headers={"typ": typ})
    return jwt.encode(said, Keyring(master).key(purpose), algorithm, headers={"typ": typ})


async def test_token_made_as_ours_is_taken(client: Client, someone: Someone) -> None:
    """So that each refusal below has one reason."""
    assert await is_in(client, signed(claims(someone)))
    assert await is_in(client, someone.access_token)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(
    "how",
    [
        {"algorithm": "none"},
        {"algorithm": "HS512"},
        {"algorithm": "HS384"},
        {"typ": "JWT"},
        {"typ": "at+JWT"},
        {"typ": None},
        {"master": SECRET + "!"},
        {"purpose": "refresh-token"},
        {"purpose": "cursor"},
    ],
)
async def test_token_of_another_type_algorithm_or_key_is_refused(
    client: Client, someone: Someone, how: dict[str, Any]
) -> None:
    assert not await is_in(client, signed(claims(someone), **how))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": "another"},
        {"exp": NOON},
        {"nbf": NOON + timedelta(seconds=1)},
        {"sid": str(new_id())},
        {"sub": str(new_id())},
    ],
)
async def test_token_that_says_something_else_is_refused(
    client: Client, someone: Someone, changes: dict[str, Any]
) -> None:
    assert not await is_in(client, signed(claims(someone, **changes)))


@pytest.mark.parametrize("missing", ["exp", "nbf", "sub", "sid", "aud", "iss"])
async def test_token_that_lacks_a_claim_is_refused(
    client: Client, someone: Someone, missing: str
) -> None:
    said = claims(someone)
    del said[missing]
    assert not await is_in(client, signed(said))


async def test_token_that_is_too_long_is_refused_before_it_is_read(
    client: Client, someone: Someone, house: House
) -> None:
    token = signed(claims(someone, pad="x" * 1024))
    assert house.desk.tokens.read(token) is None
    assert not await is_in(client, token)


async def test_token_ends_after_a_quarter_of_an_hour(
    client: Client, hands: Hands, someone: Someone
) -> None:
    hands.wall += timedelta(minutes=15)
    assert not await is_in(client, someone.access_token)
    hands.wall -= timedelta(seconds=1)
    assert await is_in(client, someone.access_token)
    hands.wall = NOON - timedelta(seconds=1)
    assert not await is_in(client, someone.access_token)


@pytest.mark.parametrize("scheme", ["", "Basic ", "Token ", "Bearer  ", "Bearer\t"])
async def test_token_is_taken_only_as_a_bearer_s(
    client: Client, someone: Someone, scheme: str
) -> None:
    headers = {"Authorization": f"{scheme}{someone.access_token}"}
    assert (await client.get("/api/v1/me", headers=headers)).status_code == 401


async def test_refresh_token_is_no_bearer_token(client: Client, someone: Someone) -> None:
    assert not await is_in(client, someone.refresh_token)
    assert not await is_in(client, "")
    assert (await client.get("/api/v1/me")).status_code == 401
    headers = {"Cookie": f"access_token={someone.access_token}"}
    assert (await client.get("/api/v1/me", headers=headers)).status_code == 401


async def test_token_with_any_letter_changed_is_refused(
    client: Client, someone: Someone, house: House
) -> None:
    token = someone.access_token
    for place in range(len(token)):
        letter = "A" if token[place] != "A" else "B"
        changed = token[:place] + letter + token[place + 1 :]
        read = house.desk.tokens.read(changed)
        assert read is None or read == house.desk.tokens.read(token), place
    assert not await is_in(client, token[: len(token) // 2] + "A" + token[len(token) // 2 + 1 :])


async def test_token_says_no_more_than_it_must(someone: Someone) -> None:
    said = jwt.decode(someone.access_token, options={"verify_signature": False})
    assert said.keys() == {"iss", "aud", "iat", "nbf", "exp", "sub", "sid", "staff"}
    assert datetime.fromtimestamp(said["exp"], NOON.tzinfo) == NOON + timedelta(minutes=15)
