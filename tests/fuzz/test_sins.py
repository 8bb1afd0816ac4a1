"""The same stranger notices an API that sins: every check that the API passes was seen to fail."""

from typing import Annotated

import pytest
from fastapi import FastAPI, Query

from cliniq import app as composition
from cliniq.app import House, build_app
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import NotFound, RequestInvalid
from cliniq.platform.db import ReadUnit
from cliniq.platform.http.guards import may_read, public
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import Content, room
from cliniq.platform.http.terms import SIGNED_IN
from tests.fuzz.conftest import NO_RANDOM
from tests.fuzz.town import Town
from tests.fuzz.tried import Tried, try_app

pytestmark = NO_RANDOM

Anyone = Annotated[None, public("a sin")]
Staff = Annotated[ReadUnit, may_read(Permission.CLINICS_READ)]
Few = Annotated[int, Query(ge=0, le=9)]
NEEDED = {"name": "X-Needed", "in": "header", "required": True, "schema": {"type": "integer"}}

router = room("/sins", "sins")


@router.get("/none")
async def get_without_sin(door: Staff, many: Few = 1) -> list[int]:
    """Do what the document says."""
    return [many]


@router.get("/open", openapi_extra={"security": SIGNED_IN})
async def get_without_sign_in(door: Anyone) -> list[int]:
    """Say that one must sign in, and let everybody in."""
    return [1]


@router.get("/broken")
async def get_broken(door: Staff, many: Few) -> list[int]:
    """Break at the least that is allowed."""
    return [1 // many]


@router.get("/liar", response_model=list[int])
async def get_another_shape(door: Staff) -> Content:
    """Answer with something else than was said."""
    return Content(b'{"one": 1}', "application/json")


@router.get("/painter", response_model=list[int])
async def get_another_kind(door: Staff) -> Content:
    """Answer with a picture."""
    return Content(b"GIF89a", "image/gif")


@router.get("/surprise", response_model=list[int])
async def get_another_status(door: Staff) -> Content:
    """Answer with a status that was not announced."""
    return Content(b"[]", "application/json", status=207)


@router.get("/careless")
async def get_carelessly(
    door: Staff, many: Annotated[int, Query(json_schema_extra={"maximum": 9})]
) -> list[int]:
    """Take more than is said to be the most."""
    return [many]


@router.get("/picky")
async def get_pickily(door: Staff, many: int) -> list[int]:
    """Refuse what is said to be allowed."""
    if many < 0:
        raise RequestInvalid(errors=["query.many: less than nothing"])
    return [many]


@router.get("/headless", openapi_extra={"parameters": [NEEDED]})
async def get_without_header(door: Staff) -> list[int]:
    """Need a header, and do without."""
    return [1]


@router.get("/secret")
async def get_what_is_known(door: Staff) -> list[int]:
    """Have a neighbour of another method, of which the document says nothing."""
    return [1]


@router.put("/secret", include_in_schema=False)
async def replace_secretly(door: Staff) -> list[int]:
    """Be that neighbour."""
    return [2]


@router.get("/locked", responses=problems(NotFound))
async def get_nothing(door: Staff) -> list[int]:
    """Be there for nobody."""
    raise NotFound


SINS = {
    "open": "ignored_auth",
    "broken": "not_a_server_error",
    "liar": "response_schema_conformance",
    "painter": "content_type_conformance",
    "surprise": "status_code_conformance",
    "careless": "negative_data_rejection",
    "picky": "positive_data_acceptance",
    "headless": "missing_required_header",
    "secret": "unsupported_method",
}


class Sinful:
    """A room as the composition root knows rooms."""

    router = router


@pytest.fixture(scope="module")
def sinful(open_town: tuple[House, Town]) -> FastAPI:
    """The API with one more room."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "ROOMS", (*composition.ROOMS, Sinful))
        return build_app(open_town[0], "http://cliniq.test")


@pytest.fixture(scope="module")
async def tried(sinful: FastAPI, open_town: tuple[House, Town]) -> Tried:
    return await try_app(sinful, open_town[1], "/sins/")


def named(sin: str) -> str:
    return f"GET /api/v1/sins/{sin}"


@pytest.mark.parametrize(("sin", "check"), SINS.items())
async def test_sin_is_noticed_by_its_check(tried: Tried, sin: str, check: str) -> None:
    assert check in tried.checks_failed(named(sin))
    assert any(each.how.startswith("curl") for each in tried.findings[named(sin)])


async def test_who_has_not_sinned_is_not_accused(tried: Tried) -> None:
    assert tried.checks_failed(named("none")) == tried.checks_failed(named("locked")) == set()
    assert not tried.errors


async def test_door_behind_which_nobody_has_been_is_noticed(tried: Tried) -> None:
    assert tried.unreached() == [named("locked")]
