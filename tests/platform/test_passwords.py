"""Passwords: hashed as OWASP asks, on a few threads, and never in the way of anybody else."""

import asyncio
import threading

import pytest

from cliniq.kernel.problem import RateLimitExceeded
from cliniq.platform import passwords as module
from cliniq.platform.passwords import Passwords
from tests.support import PASSWORD, Admin, SomeClinic, known_hash


async def test_hash_says_that_it_is_argon2id_with_19_mib_and_two_rounds() -> None:
    with Passwords() as passwords:
        first, second = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert PASSWORD not in first


async def test_hash_that_is_stored_says_so_too(clinic: SomeClinic, admin: Admin) -> None:
    query = "select password_hash from account where person_id = $1"
    stored = await admin.fetchval(query, clinic.doctor.person_id)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize(
    "wrong",
    ["", PASSWORD[:-1], PASSWORD + "x", PASSWORD.upper(), " " + PASSWORD, PASSWORD + "\x00"],
)
async def test_password_that_is_wrong_is_wrong(wrong: str) -> None:
    with Passwords() as passwords:
        assert not await passwords.verify(wrong, known_hash())


@pytest.mark.parametrize(
    "password", [PASSWORD, "x" * 256, "\u00fc\U0001f600 \u5bc6\u7801", " ", "\x00"]
)
async def test_password_of_any_letters_and_length_is_kept_whole(password: str) -> None:
    with Passwords() as passwords:
        stored = await passwords.hash(password)
        assert not await passwords.verify(password + "x", stored)
        assert not await passwords.verify(password[:-1] + "#", stored)
        assert await passwords.verify(password, stored)


async def test_nobody_has_a_password_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with Passwords() as passwords:
        checked = []
        verify = passwords._hash.verify  # noqa: SLF001

        def watch(password: str, known: str) -> bool:
            checked.append(known)
            return verify(password, known)

        monkeypatch.setattr(passwords._hash, "verify", watch)  # noqa: SLF001
        assert not await passwords.verify("nobody has this password", None)
        assert [each[:30] for each in checked] == ["$argon2id$v=19$m=19456,t=2,p=1"]


async def test_passwords_are_checked_on_two_threads_and_the_rest_waits() -> None:
    working, most = 0, 0
    lock = threading.Lock()
    both = threading.Barrier(2, timeout=10)

    def work() -> bool:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        both.wait()
        with lock:
            working -= 1
        return True

    with Passwords() as passwords:
        done = await asyncio.gather(*(passwords._run(work) for _ in range(10)))  # noqa: SLF001
    assert all(done)
    assert most == 2


async def test_others_are_served_while_passwords_are_checked() -> None:
    begun, served = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return served.wait(10)

    with Passwords(threads=1) as passwords:
        checking = asyncio.create_task(passwords._run(work))  # noqa: SLF001
        await asyncio.to_thread(begun.wait, 10)
        assert not checking.done()
        served.set()  # only a loop that is free can do this
        assert await checking


async def test_storm_of_sign_ins_is_turned_away_and_whoever_waits_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAITING_AT_MOST", 3)
    go = threading.Event()
    with Passwords() as passwords:
        waiting = [
            asyncio.create_task(passwords._run(lambda: go.wait(10)))  # noqa: SLF001
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        for _ in range(5):
            with pytest.raises(RateLimitExceeded) as refused:
                await passwords.verify(PASSWORD, known_hash())
            assert refused.value.retry_after_seconds == 5
        waiting[2].cancel()
        go.set()
        assert await asyncio.gather(*waiting[:2]) == [True, True]
        assert await passwords.verify(PASSWORD, known_hash())
    assert passwords._waiting == 0  # noqa: SLF001
