"""Files behind links of our own: where the storage cannot sign links itself, we serve them."""

from typing import Annotated

from fastapi import APIRouter
from starlette.requests import Request

from cliniq.kernel.problem import DependencyUnavailable, NotFound
from cliniq.platform.http.guards import entrance_of, public
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import RootRoute, Streamed, Untyped, contents
from cliniq.platform.storage import TYPES, media_type_of

router = APIRouter(tags=["files"], route_class=RootRoute)


class FileLinkInvalid(NotFound):
    """The link to a file is forged or over, or the file is gone."""

    code = "FILE_LINK_INVALID"
    title = "This link is no longer valid; open the page again"
    is_denial = False


@router.get(
    "/files/{token}",
    response_class=Untyped,
    response_model=None,
    responses=contents(TYPES.values()) | problems(FileLinkInvalid, DependencyUnavailable),
)
async def get_file(
    door: Annotated[None, public("the link itself is signed, for one file and for an hour")],
    request: Request,
    token: str,
) -> Streamed:
    """Serve a file by its link, to be saved and never to be shown."""
    storage = entrance_of(request).storage
    name = storage.linked(token)
    found = None if name is None else await storage.stream(name)
    if name is None or found is None:
        raise FileLinkInvalid
    headers = {
        "Content-Length": str(found.size),
        "Content-Disposition": f'attachment; filename="{name.rpartition("/")[2]}"',
        "Cache-Control": "private, no-store",
    }
    return Streamed(found.pieces, media_type_of(name), headers)
