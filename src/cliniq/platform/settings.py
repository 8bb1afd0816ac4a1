"""Settings: one frozen object, built by a composition root, never read at import."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from cliniq.platform.backends import Backends, read_storage_address

PREFIX = "CLINIQ_"
FOR_TESTS = "CLINIQ_TEST_"  # the test suite's own switches, not ours


class SettingsRefused(Exception):
    """A setting is missing or wrong; the message is one sentence for the operator."""


class Settings(BaseModel):
    """What an operator may decide, from the environment (`CLINIQ_...`).

    Without `database_url` the PostgreSQL that comes with the package runs under `data_dir`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: SecretStr | None = Field(
        None, description="PostgreSQL, as the application's login: owns nothing, no superuser"
    )
    owner_url: SecretStr | None = Field(
        None, description="The same database, as the owner: migrations only"
    )
    secret: SecretStr | None = Field(
        None,
        description="The master secret, 32 characters or more; made in the data folder if absent",
    )
    database_pooler: Literal["none", "transaction"] = Field(
        "none", description="transaction: PgBouncer or the like stands before the database"
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey: needed as soon as there are two processes"
    )
    storage_url: str | None = Field(
        None, description="Object storage: file:<folder> (in the data folder if absent) or s3://..."
    )
    storage_key_id: str | None = Field(
        None, description="Access key of the S3 storage; without it AWS's own variables and roles"
    )
    storage_secret: SecretStr | None = Field(None, description="The secret of that access key")
    storage_public_url: str | None = Field(
        None, description="Address under which a CDN serves what is public in the storage"
    )
    otlp_url: str | None = Field(
        None, description="Where traces are sent (OTLP over HTTP); none are made without it"
    )
    slow_query_ms: Annotated[int, Field(ge=0, le=60_000)] = Field(
        500, description="A statement slower than this is logged; 0 for none"
    )
    data_dir: Path = Field(Path("var"), description="Folder of the embedded database")
    clinic_clock: Path | None = Field(
        None, description="Clinic time is read from this dial; for rehearsals only"
    )
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="Port to listen on")
    public_url: str | None = Field(
        None, description="Address that patients' phones reach, printed into codes"
    )
    trusted_proxies: str | None = Field(
        None,
        description="Addresses or networks, by comma, whose X-Forwarded-For is believed",
    )
    rate_scale: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1, description="Multiplies the rate limits of traffic; those of sign-in stay"
    )
    pool_size: Annotated[int, Field(ge=2, le=200)] = Field(
        10, description="Connections for staff, and as many for patients"
    )
    log_level: str = Field("info", description="debug, info, warning or error")

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < 32:  # noqa: PLR2004
            raise ValueError("must have 32 characters or more")
        return secret

    @field_validator("database_url", "owner_url")
    @classmethod
    def _postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(
            ("postgresql://", "postgres://")
        ):
            raise ValueError("must begin with postgresql://")
        if url is not None and _split(url.get_secret_value()) is None:
            raise ValueError("must be postgresql://user:password@host:port/database")
        return url

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, url: SecretStr | None) -> SecretStr | None:
        said = url.get_secret_value() if url is not None else "redis://"
        if not said.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        if url is not None and _split(said) is None:
            raise ValueError("must be redis://user:password@host:port/number")
        return url

    @field_validator("storage_url")
    @classmethod
    def _storage(cls, url: str | None) -> str | None:
        if url is not None:
            read_storage_address(url)
        return url

    @field_validator("public_url", "storage_public_url", "otlp_url")
    @classmethod
    def _web_address(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        parts = _split(url) if url else None
        if url and (not parts or not parts.hostname or parts.query or parts.fragment or " " in url):
            raise ValueError("must be an address such as https://clinic.example")
        return url.rstrip("/") if url else None

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: str | None) -> str | None:
        try:
            for each in proxies.split(",") if proxies else ():
                ip_network(each.strip(), strict=False)
        except ValueError:
            raise ValueError("must be IP addresses or networks, by comma") from None
        return proxies

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level not in {"debug", "info", "warning", "error"}:
            raise ValueError("must be debug, info, warning or error")
        return level

    @model_validator(mode="after")
    def _server_needs_a_secret(self) -> Self:
        if self.database_url is not None and self.secret is None:
            raise ValueError("CLINIQ_SECRET is missing: it must be set with CLINIQ_DATABASE_URL")
        if self.owner_url is not None and self.database_url is None:
            raise ValueError("CLINIQ_OWNER_URL is set without CLINIQ_DATABASE_URL")
        if (self.storage_key_id is None) != (self.storage_secret is None):
            raise ValueError("CLINIQ_STORAGE_KEY_ID and CLINIQ_STORAGE_SECRET go together")
        return self

    @property
    def address(self) -> str:
        """Say where patients' phones reach this installation."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def own_address(self) -> str:
        """Say where this process reaches itself."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - seen, not bound
        host = everywhere.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.port}"

    @property
    def backends(self) -> Backends:
        """Say what stands behind the process besides PostgreSQL."""
        return Backends(
            redis_url=self.redis_url.get_secret_value() if self.redis_url else None,
            storage_url=self.storage_url or f"file:{self.data_dir / 'storage'}",
            storage_public_url=self.storage_public_url,
            pooler=self.database_pooler == "transaction",
            slow_query_ms=self.slow_query_ms,
            rate_scale=self.rate_scale,
            storage_key_id=self.storage_key_id,
            storage_secret=(
                self.storage_secret.get_secret_value() if self.storage_secret else None
            ),
        )


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises: SettingsRefused with one sentence for what is unknown, missing or wrong.
    """
    given = os.environ if environment is None else environment  # noqa: TID251 - the one place
    named = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in given.items()
        if name.startswith(PREFIX) and not name.startswith(FOR_TESTS)
    }
    if unknown := sorted(named.keys() - Settings.model_fields.keys()):
        raise SettingsRefused(f"{PREFIX}{unknown[0].upper()} is no setting of Cliniq.")
    if empty := sorted(name for name, value in named.items() if not value.strip()):
        raise SettingsRefused(f"{PREFIX}{empty[0].upper()} is empty: give it a value, or unset it.")
    try:
        return Settings.model_validate(named)
    except ValidationError as error:
        raise SettingsRefused(_sentence(error)) from None


def _split(url: str) -> SplitResult | None:
    """Take an address apart; nothing where it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # is read only when asked for
    except ValueError:
        return None
    return parts


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    said = first["msg"].removeprefix("Value error, ")
    where = f"{PREFIX}{str(first['loc'][0]).upper()} is wrong: " if first["loc"] else ""
    return f"{where}{said}."


def master_secret(settings: Settings) -> str:
    """Return the master secret; one machine without a set secret makes its own, once.

    Raises: SettingsRefused where the file cannot be read or made.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value()
    file = settings.data_dir / "secret"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _make_secret(file)
        found = file.read_text(encoding="ascii")
    except OSError as error:
        raise SettingsRefused(f"{file} cannot be read or written: {error.strerror}.") from None
    if len(found) < 32:  # noqa: PLR2004
        raise SettingsRefused(f"{file} is damaged: it must hold 32 characters or more.")
    return found


def _make_secret(file: Path) -> None:
    """Write a secret whole, or leave the one of whoever was first: nobody ever sees half of one."""
    draft = file.with_name(f"{file.name}-{secrets.token_hex(8)}")
    try:
        with open(draft, "x", encoding="ascii", opener=_private) as new:
            new.write(secrets.token_urlsafe(48))
            new.flush()
            os.fsync(new.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def inherited(changes: Mapping[str, str]) -> dict[str, str]:
    """Give this process' environment to a program that it starts, with settings of its own."""
    return {**os.environ, **changes}  # noqa: TID251 - handed on as it is, and not read
