"""Routes of the identity room: parse, call one use case, present."""

from typing import Annotated

from starlette.requests import Request

from cliniq.domains.identity import errors, service
from cliniq.domains.identity.models import SignedIn
from cliniq.domains.identity.schemas import PersonOut, RefreshIn, SignedInOut, SignInIn
from cliniq.kernel.problem import RateLimitExceeded
from cliniq.platform.db import ReadUnit
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.guards import own_everywhere, public, signed_in
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room
from cliniq.platform.http.terms import terms
from cliniq.platform.http.traffic import Traffic, address_of

router = room("/auth", "identity")

Nobody = Annotated[None, public("one signs in here")]
AUTH = terms(no_key="a sign-in is never given twice", traffic=Traffic.AUTH)


def _desk(request: Request) -> service.SignInDesk:
    desk: service.SignInDesk = request.app.state.sign_in_desk
    return desk


def _present(given: SignedIn) -> SignedInOut:
    person = PersonOut(given.person_id, given.given_name, given.family_name)
    return SignedInOut(given.access_token, given.expires_in, given.refresh_token, person)


@router.post("/login", responses=problems(errors.SignInFailed, RateLimitExceeded), **AUTH)
async def create_session(door: Nobody, request: Request, body: SignInIn) -> SignedInOut:
    """Sign in by e-mail and password."""
    given = await service.sign_in(
        _desk(request),
        body.email,
        body.password.get_secret_value(),
        address=address_of(request),
        request_id=exchange_of(request).request_id,
    )
    return _present(given)


@router.post("/refresh", responses=problems(errors.RefreshRefused), **AUTH)
async def replace_session_tokens(door: Nobody, request: Request, body: RefreshIn) -> SignedInOut:
    """Exchange the newest refresh token for its successor."""
    return _present(
        await service.refresh(
            _desk(request), body.refresh_token, request_id=exchange_of(request).request_id
        )
    )


@router.post("/logout", status_code=204, **AUTH)
async def delete_session(unit: Annotated[ReadUnit, own_everywhere()], request: Request) -> None:
    """End this sign-in; its open sockets close."""
    caller = signed_in(request)
    await service.sign_out(_desk(request), caller.person_id, caller.session_id)
