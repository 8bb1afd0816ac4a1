"""What is signed: only ours opens, only for its purpose, and in one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliniq.platform.signing import MAC_BYTES, Keyring, from_text, to_text
from tests.platform.chance import STEADY
from tests.support import SECRET

KEYRING = Keyring(SECRET)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@STEADY
@given(st.binary(max_size=80), st.binary(max_size=8))
def test_sealed_text_opens_for_its_purpose_and_context_and_for_no_other(
    payload: bytes, context: bytes
) -> None:
    sealed = KEYRING.seal("letter", payload, context)
    assert KEYRING.open("cursor", sealed, context) is None
    assert KEYRING.open("letter", sealed, context + b"x") is None
    assert KEYRING.open("letter", sealed, b"\x00" + context) is None
    assert Keyring(SECRET + "x").open("letter", sealed, context) is None
    opened = KEYRING.open("letter", sealed, context)
    assert opened == (payload or None)


def test_seal_with_any_bit_flipped_or_any_byte_missing_does_not_open() -> None:
    sealed = from_text(KEYRING.seal("letter", b"payload"))
    assert sealed is not None
    for bit in range(8 * len(sealed)):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        assert KEYRING.open("letter", to_text(bytes(forged))) is None
    for length in range(len(sealed)):
        assert KEYRING.open("letter", to_text(sealed[:length])) is None
        assert KEYRING.open("letter", to_text(sealed[length + 1 :])) is None
    assert KEYRING.open("letter", to_text(sealed + b"\x00")) is None
    assert KEYRING.open("letter", to_text(sealed)) == b"payload"


@pytest.mark.parametrize("text", ["", "=", "A", "\x00", "\u00fc", "\ud800", "A" * 10_000, "../"])
def test_text_that_is_no_seal_opens_nothing(text: str) -> None:
    assert KEYRING.open("letter", text) is None


@STEADY
@given(st.text(ALPHABET + "=+/ \n", max_size=24))
def test_text_of_bytes_has_one_spelling(text: str) -> None:
    raw = from_text(text)
    assert raw is None or to_text(raw) == text


@STEADY
@given(st.binary(max_size=40))
def test_bytes_come_back_from_text_that_is_safe_in_an_address(raw: bytes) -> None:
    text = to_text(raw)
    assert set(text) <= set(ALPHABET)
    assert from_text(text) == raw


@STEADY
@given(st.binary(min_size=1, max_size=8))
def test_spelling_with_spare_bits_set_is_refused(raw: bytes) -> None:
    text = to_text(raw)
    if len(raw) % 3:
        other = ALPHABET[ALPHABET.index(text[-1]) ^ 1]
        assert from_text(text[:-1] + other) is None
    assert from_text(text + "=" * (-len(text) % 4 or 4)) is None


def test_keys_differ_by_purpose_context_and_master() -> None:
    keys = {
        Keyring(master).key(purpose, context)
        for master in (SECRET, SECRET + "x")
        for purpose in ("a", "b", "ab")
        for context in (b"", b"b", b"\x00")
    }
    assert len(keys) == 2 * 3 * 3
    assert {len(key) for key in keys} == {32}
    assert len(KEYRING.mac("a", b"x")) == MAC_BYTES == 16
