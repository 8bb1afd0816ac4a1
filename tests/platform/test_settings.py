"""Settings: a wrong one stops start-up with one sentence; `cliniq doctor` says what is what."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from os import defpath
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from cliniq.cli.checks import new_passwords
from cliniq.cli.main import cli
from cliniq.platform.provision import provision
from cliniq.platform.settings import Settings, SettingsRefused, load_settings, master_secret
from cliniq.platform.source import Urls
from tests.hatchery import run_to_end
from tests.platform.wire import operations
from tests.support import SECRET, Admin

SERVER = {"CLINIQ_DATABASE_URL": "postgresql://app:hush@h/db", "CLINIQ_SECRET": SECRET}


def refusal(**settings: str) -> str:
    with pytest.raises(SettingsRefused) as refused:
        load_settings({f"CLINIQ_{name}": value for name, value in settings.items()})
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "PORT": ("no", "0", "65536", "-1", "8000.5", "0x50"),
        "POOL_SIZE": ("no", "1", "201"),
        "LOG_LEVEL": ("no", "INFO", "trace"),
        "SECRET": ("no", "x" * 31),
        "DATABASE_URL": (
            "no",
            "mysql://h/db",
            "/var/run/postgresql",
            "postgresql://[",
            "postgresql://[::1/db",
            "postgresql://h:port/db",
            "postgresql://h:99999/db",
        ),
        "OWNER_URL": ("no", "mysql://h/db", "postgresql://h:port/db"),
        "PUBLIC_URL": (
            "no",
            "ftp://clinic.example",
            "http://",
            "https:///path",
            "https://[",
            "https://a b",
            "https://clinic.example/?a=1",
            "https://clinic.example/#a",
        ),
        "TRUSTED_PROXIES": ("no", "*", "10.0.0.1,", "10.0.0.0/33", "::1,no"),
    }.items(),
)
def test_setting_that_is_wrong_is_named_in_one_sentence_without_its_value(
    name: str, values: tuple[str, ...]
) -> None:
    for value in values:
        sentence = refusal(**{name: value})
        assert sentence.startswith(f"CLINIQ_{name} is wrong: "), value
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert len(value) < 4 or value not in sentence


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_setting_that_is_empty_is_wrong(name: str) -> None:
    for blank in ("", " ", "\t"):
        assert refusal(**{name.upper(): blank}) == (
            f"CLINIQ_{name.upper()} is empty: give it a value, or unset it."
        )


def test_setting_that_is_unknown_is_named() -> None:
    assert refusal(PROT="80") == "CLINIQ_PROT is no setting of Cliniq."
    assert refusal(DATABASE_URL_="x") == "CLINIQ_DATABASE_URL_ is no setting of Cliniq."


def test_setting_that_another_one_needs_is_named() -> None:
    assert refusal(DATABASE_URL="postgresql://h/db").startswith("CLINIQ_SECRET is missing")
    assert refusal(OWNER_URL="postgresql://h/db").startswith("CLINIQ_OWNER_URL is set without")


def test_settings_are_read_from_what_is_given_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLINIQ_PORT", "9")
    monkeypatch.setenv("PORT", "10")
    given = {"CLINIQ_TEST_DATABASE_URL": "x", "HOME": "/", "cliniq_port": "11", "PORT": "12"}
    assert load_settings(given).port == 8000
    for name in [each for each in os.environ if each.startswith("CLINIQ_")]:  # noqa: TID251
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLINIQ_PORT", "9")
    assert load_settings().port == 9


def test_settings_of_one_machine_and_of_a_server() -> None:
    alone = load_settings({})
    assert (alone.database_url, alone.secret) == (None, None)
    assert alone.address == "http://127.0.0.1:8000"
    served = load_settings(
        SERVER
        | {
            "CLINIQ_PUBLIC_URL": "https://clinic.example/",
            "CLINIQ_TRUSTED_PROXIES": "10.0.0.1, fd00::/8",
            "CLINIQ_POOL_SIZE": "2",
        }
    )
    assert served.address == "https://clinic.example"
    assert served.pool_size == 2


def test_secrets_are_in_no_representation_and_settings_do_not_change() -> None:
    settings = load_settings(SERVER | {"CLINIQ_OWNER_URL": "postgresql://owner:hush@h/db"})
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(vars(settings))):
        assert "hush" not in shown
        assert SECRET not in shown
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


# The master secret of one machine.


def in_folder(folder: Path) -> Settings:
    return load_settings({"CLINIQ_DATA_DIR": str(folder)})


def test_master_secret_is_made_once_private_and_kept(tmp_path: Path) -> None:
    settings = in_folder(tmp_path / "deep" / "var")
    made = master_secret(settings)
    file = tmp_path / "deep" / "var" / "secret"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(made) >= 43
    assert master_secret(settings) == made == file.read_text()
    assert master_secret(in_folder(tmp_path / "other")) != made
    set_by_hand = load_settings({"CLINIQ_SECRET": SECRET, "CLINIQ_DATA_DIR": str(tmp_path)})
    assert master_secret(set_by_hand) == SECRET


def test_master_secret_that_many_ask_for_at_once_is_one(tmp_path: Path) -> None:
    async def ask_all() -> set[str]:
        ask = [asyncio.to_thread(master_secret, in_folder(tmp_path)) for _ in range(16)]
        return set(await asyncio.gather(*ask))

    assert len(asyncio.run(ask_all())) == 1
    assert left_in(tmp_path) == ["secret"]


def test_master_secret_that_is_damaged_or_out_of_reach_is_refused(tmp_path: Path) -> None:
    for damaged in ("", "short"):
        (tmp_path / "secret").write_text(damaged)
        with pytest.raises(SettingsRefused, match="is damaged"):
            master_secret(in_folder(tmp_path))
    (tmp_path / "secret").unlink()
    (tmp_path / "secret").mkdir()
    with pytest.raises(SettingsRefused, match="cannot be read or written"):
        master_secret(in_folder(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(SettingsRefused, match="cannot be read or written"):
        master_secret(in_folder(tmp_path / "file"))


# The command line.


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody has, held without listening until the test is over."""
    with closing(socket.socket()) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def run(folder: Path, command: str, **settings: str) -> Ended:
    """Run a command with these settings and no others."""
    environment = {f"CLINIQ_{name}": value for name, value in settings.items()}
    environment |= {"PATH": defpath, "CLINIQ_DATA_DIR": str(folder / "var"), "COLUMNS": "200"}
    ended = await asyncio.to_thread(run_to_end, command.split(), folder, environment)
    assert "Traceback" not in ended.stderr
    assert "hush" not in ended.stdout + ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def left_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def sentence(ended: Ended) -> str:
    """Fail unless the command was refused with one sentence, and return it."""
    assert ended.code == 2, ended
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("cliniq: ")
    return line.removeprefix("cliniq: ")


async def test_commands_are_stopped_by_a_setting_in_one_sentence(tmp_path: Path) -> None:
    up, serve, migrate, doctor = await asyncio.gather(
        run(tmp_path, "up", PORT="hush"),
        run(tmp_path, "serve", DATABASE_URL="postgresql://app:hush@h/db"),
        run(tmp_path, "migrate", DATABASE_URL="postgresql://app:hush@h/db", SECRET=SECRET),
        run(tmp_path, "doctor", SECERT="hush"),
    )
    assert sentence(up).startswith("CLINIQ_PORT is wrong")
    assert sentence(serve).startswith("CLINIQ_SECRET is missing")
    assert sentence(migrate).startswith("CLINIQ_OWNER_URL is missing")
    assert (doctor.code, doctor.err) == (1, "")
    assert "CLINIQ_SECERT is no setting of Cliniq." in doctor.out
    assert left_in(tmp_path) == []


async def test_database_that_cannot_be_had_is_said_in_one_sentence(
    tmp_path: Path, free_port: int
) -> None:
    away = f"postgresql://app:hush@127.0.0.1:{free_port}/db"
    strange = f"{away}?sslmode=hush"
    serve, migrate, doctor, wrong = await asyncio.gather(
        run(tmp_path, "serve", DATABASE_URL=away, SECRET=SECRET, PORT=str(free_port)),
        run(tmp_path, "migrate", DATABASE_URL=away, OWNER_URL=away, SECRET=SECRET),
        run(tmp_path, "doctor", DATABASE_URL=away, SECRET=SECRET),
        run(tmp_path, "migrate", DATABASE_URL=away, OWNER_URL=strange, SECRET=SECRET),
    )
    for ended in (serve, migrate, wrong):
        assert sentence(ended).startswith("the database does not answer: ")
    assert doctor.code == 1
    assert "does not answer" in doctor.out


async def test_login_above_the_walls_and_database_without_a_schema_are_refused(
    tmp_path: Path, server: str, free_port: int
) -> None:
    name = f"cliniq_bare_{os.getpid()}"
    application, _ = await provision(server, name)
    port = str(free_port)
    try:
        superuser = urlsplit(server)._replace(path=f"/{name}").geturl()
        above, empty, doctor = await asyncio.gather(
            run(tmp_path, "serve", DATABASE_URL=superuser, SECRET=SECRET, PORT=port),
            run(tmp_path, "serve", DATABASE_URL=application, SECRET=SECRET, PORT=port),
            run(tmp_path, "doctor", DATABASE_URL=application, SECRET=SECRET, PORT=port),
        )
        assert "is above row-level security: use a humble one." in sentence(above)
        assert sentence(empty) == "The database is empty: run `cliniq migrate`."
        assert doctor.code == 1
        assert "The database is empty: run `cliniq migrate`." in doctor.out
    finally:
        connection = await asyncpg.connect(server)
        await connection.execute(f"drop database {name} with (force)")
        await connection.close()


async def test_doctor_finds_a_database_that_is_as_it_should_be(
    tmp_path: Path, urls: Urls, admin: Admin, free_port: int
) -> None:
    assert urls.owner is not None
    await admin.execute("delete from outbox_held")  # of other tests
    owning, doctor, up_to_date = await asyncio.gather(
        run(tmp_path, "serve", DATABASE_URL=urls.owner, SECRET=SECRET, PORT=str(free_port)),
        run(
            tmp_path,
            "doctor",
            DATABASE_URL=urls.application,
            SECRET=SECRET,
            PUBLIC_URL="https://clinic.example",
            PORT=str(free_port),
        ),
        run(
            tmp_path,
            "migrate",
            DATABASE_URL=urls.application,
            OWNER_URL=urls.owner,
            SECRET=SECRET,
        ),
    )
    assert "owns tables: the owner is for migrations only." in sentence(owning)
    assert (doctor.code, doctor.err) == (0, "")
    for said in ("as it should be", "https://clinic.example", f"port {free_port}", "free"):
        assert said in doctor.out
    assert SECRET not in doctor.out
    assert (up_to_date.code, up_to_date.out) == (0, "Nothing to do.\n")


async def test_port_that_is_taken_is_said_before_anything_else_is_touched(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        up, doctor = await asyncio.gather(
            run(tmp_path, "up", PORT=port),
            run(tmp_path, "doctor", PORT=port),
        )
    assert sentence(up).startswith(f"Port {port} of 127.0.0.1 cannot be had")
    assert sentence(up).endswith("choose another with CLINIQ_PORT.")
    assert doctor.code == 0
    assert "in use" in doctor.out
    assert "not running; `cliniq up` starts it" in doctor.out
    assert left_in(tmp_path) == []


async def test_openapi_needs_neither_settings_nor_a_server(tmp_path: Path) -> None:
    printed = await run(tmp_path, "openapi", PORT="no", NONSENSE="x")
    assert (printed.code, printed.err) == (0, "")
    document = json.loads(printed.out)
    written = CliRunner().invoke(cli, ["openapi", "--output", str(tmp_path / "api.json")])
    assert (written.exit_code, written.output) == (0, "")
    assert json.loads((tmp_path / "api.json").read_text()) == document
    assert document["openapi"].startswith("3.")
    assert document["paths"].keys() == {each.path for each in operations()}
    assert left_in(tmp_path) == ["api.json"]


def test_passwords_that_are_made_are_long_and_different() -> None:
    assert len({*new_passwords(), *new_passwords()}) == 4
    assert all(len(each) >= 32 for each in new_passwords())


async def test_doctor_tries_redis_and_the_storage(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "a file").write_text("")
    away = "redis://127.0.0.1:1/0"
    nothing, well, ill = await asyncio.gather(
        run(tmp_path, "doctor"),
        run(tmp_path, "doctor", REDIS_URL=redis_url, STORAGE_URL=f"file:{tmp_path}"),
        run(tmp_path, "doctor", REDIS_URL=away, STORAGE_URL=f"file:{tmp_path / 'a file'}"),
    )
    assert (nothing.code, well.code, ill.code) == (0, 0, 1)
    for found, said in (
        (nothing, ("not set: one process", "not there yet")),
        (well, ("answers", "can be written and read")),
        (ill, ("does not answer", "cannot be written and read")),
    ):
        for words in said:
            assert words in " ".join(found.out.replace("\u2502", " ").split())
    assert not (tmp_path / "clinics").exists() or not any((tmp_path / "clinics").rglob("*.txt"))
