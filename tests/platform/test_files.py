"""Files behind links of our own: to be saved, for a while, and nothing else."""

from datetime import timedelta

from cliniq.app import House
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.platform.storage import new_name
from tests.support import Client, Hands


async def refused(client: Client, path: str) -> tuple[int, str]:
    answer = await client.get(path)
    return answer.status_code, answer.json()["code"]


async def test_link_serves_an_attachment_until_it_ends(
    client: Client, house: House, hands: Hands
) -> None:
    storage = house.entrance.storage
    name = new_name(ClinicId(new_id()), "letters", suffix="svg")
    body = b"<svg onload='alert(1)'/>" * 1000
    await storage.put(name, body)
    link = await storage.link(name, timedelta(minutes=5))
    answer = await client.get(link)
    assert (answer.status_code, answer.content) == (200, body)
    file_name = name.rpartition("/")[2]
    assert answer.headers["content-disposition"] == f'attachment; filename="{file_name}"'
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["content-length"] == str(len(body))
    hands.wall += timedelta(minutes=5)
    assert await refused(client, link) == (404, "FILE_LINK_INVALID")


async def test_link_to_what_is_gone_or_was_never_ours_is_refused(
    client: Client, house: House
) -> None:
    storage = house.entrance.storage
    name = new_name(ClinicId(new_id()), "letters", suffix="pdf")
    link = await storage.link(name, timedelta(minutes=5))
    assert await refused(client, link) == (404, "FILE_LINK_INVALID")
    for forged in (
        link[:-1],
        "/files/A",
        "/files/" + "A" * 500,
        f"/files/{name.replace('/', '-')}",
    ):
        assert await refused(client, forged) == (404, "FILE_LINK_INVALID")
    for elsewhere in ("/files/../secret", "/files/", "/files", f"/files/{name}"):
        assert await refused(client, elsewhere) == (404, "NOT_FOUND")
