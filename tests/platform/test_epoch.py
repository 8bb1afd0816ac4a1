"""The epoch: one for all processes and over restarts, another for another history."""

from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.support import Admin, Hands


async def test_processes_of_one_database_speak_of_one_epoch_until_it_is_renewed(
    own_urls: Urls, own_admin: Admin, hands: Hands
) -> None:
    async with house_of(own_urls) as here, house_of(own_urls) as there:
        first = here.entrance.hub.epoch
        assert there.entrance.hub.epoch == first
    async with house_of(own_urls) as restarted:
        assert restarted.entrance.hub.epoch == first
    await own_admin.execute("update live_epoch set renewed = gen_random_uuid()")
    async with house_of(own_urls) as restored:
        assert restored.entrance.hub.epoch != first


async def test_another_database_on_the_same_server_has_another_epoch(
    urls: Urls, own_urls: Urls, own_admin: Admin, admin: Admin, hands: Hands
) -> None:
    row = await admin.fetchval("select renewed from live_epoch")
    await own_admin.execute("update live_epoch set renewed = $1", row)  # as a dump would bring it
    async with house_of(urls) as here, house_of(own_urls) as copied:
        assert here.entrance.hub.epoch != copied.entrance.hub.epoch
