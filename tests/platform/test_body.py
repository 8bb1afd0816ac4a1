"""Bodies: what RFC 8259 and the database can hold, as it was sent, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliniq.platform.http.body import DEEPEST, read_json
from tests.platform.chance import STEADY

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def is_read_or_refused(raw: bytes) -> bool:
    """Tell whether JSON that is read can be written again, and whether a refusal has a reason."""
    try:
        json.dumps(read_json(raw), allow_nan=False).encode()
    except json.JSONDecodeError as refusal:
        return bool(refusal.msg)
    return True


@STEADY
@given(VALUES, st.booleans())
def test_json_that_is_sound_is_read_as_it_was_written(value: Any, escaped: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


@STEADY
@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_read_or_refused_as_json(raw: bytes) -> None:
    assert is_read_or_refused(raw)


@STEADY
@given(VALUES, st.data())
def test_json_with_a_bite_taken_out_is_read_or_refused_as_json(
    value: Any, data: st.DataObject
) -> None:
    raw = json.dumps(value).encode()
    begin = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(begin, len(raw)))
    assert is_read_or_refused(raw[:begin] + data.draw(st.binary(max_size=4)) + raw[end:])


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_is_read_down_to_its_deepest_level_and_refused_below(
    opening: str, closing: str
) -> None:
    for levels in (DEEPEST + 1, 500, 5000, 100_000):
        with pytest.raises(json.JSONDecodeError, match="nested too deeply"):
            read_json(f"{opening * levels}1{closing * levels}".encode())
    value = read_json(f"{opening * DEEPEST}1{closing * DEEPEST}".encode())
    for _ in range(DEEPEST):
        value = value[0] if isinstance(value, list) else value["a"]
    assert value == 1


def test_character_beyond_the_first_plane_is_read_however_it_is_written() -> None:
    assert read_json(b'"\\ud83d\\ude00"') == read_json('"\U0001f600"'.encode()) == "\U0001f600"
    with pytest.raises(json.JSONDecodeError, match="half a character"):
        read_json(b'"\\ude00\\ud83d"')


def test_equal_keys_in_different_objects_are_no_rivals() -> None:
    assert read_json(b'[{"a": {"a": 1}}, {"a": 2}]') == [{"a": {"a": 1}}, {"a": 2}]


@pytest.mark.parametrize("number", ["1e308", "-1e308", "1e-999", "-0.0", "9" * 300])
def test_number_that_is_finite_is_read(number: str) -> None:
    assert read_json(number.encode()) == json.loads(number)


@pytest.mark.parametrize(
    ("written", "meant"), [("203.0", 203), ("1e3", 1000), ("-2.50e1", -25), ("0.0", 0), ("1E-0", 1)]
)
def test_number_without_a_fraction_is_an_integer_however_it_is_written(
    written: str, meant: int
) -> None:
    read = read_json(written.encode())
    assert read == meant
    assert type(read) is int


@pytest.mark.parametrize("number", ["1.5", "1e-3", "9007199254740993.0", "1e300"])
def test_number_with_a_fraction_or_beyond_exactness_is_none(number: str) -> None:
    assert type(read_json(number.encode())) is float
