"""What is sealed opens where it belongs, whole, and nowhere else."""

from hypothesis import given
from hypothesis import strategies as st

from cliniq.platform.sealing import Sealer
from cliniq.platform.signing import Keyring
from tests.support import SECRET

SEALER = Sealer(Keyring(SECRET))


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_was_sealed_opens_with_its_purpose_and_context(payload: bytes, context: bytes) -> None:
    sealed = SEALER.seal("test", payload, context)
    assert SEALER.open("test", sealed, context) == payload
    assert SEALER.open("other", sealed, context) is None
    assert SEALER.open("test", sealed, context + b"x") is None


def test_every_flipped_bit_and_every_cut_is_refused_alike() -> None:
    sealed = SEALER.seal("test", b"payload", b"context")
    for place in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[place // 8] ^= 1 << place % 8
        assert SEALER.open("test", bytes(flipped), b"context") is None
    for length in range(len(sealed)):
        assert SEALER.open("test", sealed[:length], b"context") is None


def test_same_payload_is_never_sealed_the_same_twice_and_other_keys_do_not_open_it() -> None:
    first, second = SEALER.seal("test", b"payload"), SEALER.seal("test", b"payload")
    assert first != second
    assert Sealer(Keyring("x" * 32)).open("test", first) is None


def test_sealer_tells_nothing_of_its_keys() -> None:
    assert repr(SEALER) == "Sealer()"
