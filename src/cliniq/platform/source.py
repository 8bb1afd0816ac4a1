"""Where the database comes from: the operator's, or the PostgreSQL that comes with the package."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliniq.kernel.record import Record
from cliniq.platform.embedded import embedded_server
from cliniq.platform.provision import provision
from cliniq.platform.settings import Settings, SettingsRefused

NAME = "cliniq"


class Urls(Record, frozen=True):
    """How to reach the database: as the application, and as the owner where that is known."""

    application: str
    owner: str | None


@asynccontextmanager
async def database_urls(settings: Settings) -> AsyncIterator[Urls]:
    """Yield the database's URLs; the embedded server runs for as long as somebody uses it.

    Raises: EmbeddedDatabaseRefused with one sentence.
    """
    if settings.database_url is not None:
        owner = settings.owner_url
        yield Urls(
            settings.database_url.get_secret_value(), owner.get_secret_value() if owner else None
        )
        return
    async with embedded_server(settings.data_dir / "postgres") as admin:
        application, owner_url = await provision(admin, NAME)
        yield Urls(application, owner_url)


def owner_of(urls: Urls) -> str:
    """Return the owner's URL.

    Raises: SettingsRefused where it is not set.
    """
    if urls.owner is None:
        raise SettingsRefused("CLINIQ_OWNER_URL is missing: migrations need the owner's login.")
    return urls.owner
