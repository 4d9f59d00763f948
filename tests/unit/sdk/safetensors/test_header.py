"""Headers: all that is wrong is refused, quickly and without memory; what is right is understood."""

import json
import random
import resource
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.errors import ConfigError, NotKnownError
from cachefs.sdk.safetensors.header import DTYPE_BITS, SafetensorsError, read_header
from tests.unit.counting import lines_run
from tests.unit.sdk.safetensors.files import (
    DTYPES,
    MALFORMED,
    STRICTER,
    entry,
    file_of,
    safetensors_file,
    with_header,
)

LINES_MAX = 5000
"""What it takes at most to find out what is wrong, in lines of Python; three more for each byte."""
official = pytest.importorskip("safetensors")


def header_of(content: bytes):
    """Read a header as from a file; no byte beyond the file may be asked for."""

    def read(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= len(content)
        return content[offset : offset + length]

    return read_header(read, len(content), subject="file")


def is_accepted(content: bytes) -> bool:
    try:
        header_of(content)
    except SafetensorsError:
        return False
    return True


def is_accepted_officially(content: bytes) -> bool:
    try:
        official.deserialize(content)
    except official.SafetensorError:
        return False
    return True


def test_there_are_at_least_a_hundred_kinds_of_malformed_files():
    assert len(MALFORMED) >= 100


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_file_is_one_error_at_once_and_without_memory(fault):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def read():
        with pytest.raises(SafetensorsError) as caught:
            header_of(MALFORMED[fault])
        return caught

    caught = read()
    assert lines_run(read) < LINES_MAX + 3 * len(MALFORMED[fault])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert str(caught.value).startswith("file: ")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("fault", MALFORMED)
def test_the_official_reader_refuses_it_too_except_where_we_are_stricter(fault):
    assert is_accepted_officially(MALFORMED[fault]) == (fault in STRICTER)


def test_the_error_is_a_value_error_that_nobody_retries():
    assert issubclass(SafetensorsError, ConfigError)
    assert issubclass(SafetensorsError, ValueError)
    assert not SafetensorsError.retryable


def test_a_valid_file_is_understood():
    content = safetensors_file(
        {"x": ("F32", (2, 3), bytes(24)), "s": ("BF16", (), bytes(2)), "e": ("U8", (0, 4), b"")},
        {"format": "pt"},
    )
    header = header_of(content)
    assert [each.name for each in header.tensors] == ["x", "s", "e"]
    assert header.metadata == {"format": "pt"}
    x = header.find("x")
    assert (x.dtype, x.shape, x.size) == ("F32", (2, 3), 24)
    assert x.offset == header.data_offset
    assert header.find("s").offset == header.data_offset + 24
    assert header.find("e").size == 0
    with pytest.raises(NotKnownError):
        header.find("nothing")


@pytest.mark.parametrize(
    "content",
    [
        with_header("{}"),
        with_header("{}   \n\t\r "),
        with_header('{"__metadata__": null}'),
        with_header('{"__metadata__": {}}'),
        file_of({"": entry()}, bytes(2)),
        file_of({"../../etc/passwd": entry()}, bytes(2)),
        file_of({"a": entry(more=[1, 2.5, -1, {"deep": None}])}, bytes(2)),
        file_of({"\U0001f600\x7f": entry()}, bytes(2)),
        with_header('{"\\ud83d\\ude00\\\\ud800": ' + json.dumps(entry()) + "}", bytes(2)),
        file_of({"b": entry(offsets=(2, 4)), "a": entry()}, bytes(4)),
        file_of({"a": entry(shape=(0, 2**63), offsets=(0, 0))}, b""),
        file_of({"a": entry("F4", (2, 1), (0, 1))}, b"\0"),
        file_of({"a": entry(shape=[1] * 100, offsets=(0, 1))}, b"\0"),
    ],
)
def test_what_is_odd_but_allowed_is_accepted(content):
    assert is_accepted_officially(content)
    assert is_accepted(content)


def test_the_dtypes_are_those_of_the_format():
    assert dict(DTYPE_BITS) == DTYPES


BASE = safetensors_file(
    {
        "model.layers.0.weight": ("BF16", (4, 8), bytes(64)),
        "bias": ("F32", (2,), bytes(8)),
        "empty": ("I64", (0,), b""),
        "half\u00e9": ("F4", (2, 2), bytes(2)),
    },
    {"format": "pt", "note": "\u20ac"},
)
SPICES = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00", b" ", b"\n", b"0",
    b"-", b"-0", b"1e9", b"1e999", b"9" * 25, b"18446744073709551615", b"18446744073709551616", b"null",
    b"true", b"NaN", b".5", b"\0", b"\xff", b"\xef\xbb\xbf", b'"dtype"', b'"U8"', b'"shape"',
)  # fmt: skip


def assert_never_laxer(content: bytes) -> None:
    if is_accepted(content):
        assert is_accepted_officially(content)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_damage_makes_us_accept_what_the_official_reader_refuses(data):
    content = bytearray(BASE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.integers(0, 4))
        content[at : at + cut] = data.draw(st.sampled_from(SPICES) | st.binary(max_size=3))
    fitted = with_header(bytes(content[8:-74]), bytes(content[-74:]))
    for candidate in (bytes(content), fitted):
        assert_never_laxer(candidate)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=4),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from([*DTYPES, "F128"]),
                "shape": st.lists(st.integers(-1, 4) | st.just(2**63), max_size=3),
                "data_offsets": st.lists(st.integers(-1, 64), min_size=1, max_size=3),
            }
        ),
        max_size=3,
    ),
    st.binary(max_size=64),
)
def test_no_document_makes_us_accept_what_the_official_reader_refuses(tensors, content):
    candidate = file_of(tensors, content)
    assert is_accepted(candidate) == is_accepted_officially(candidate)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(JSON, JSON)
def test_no_field_makes_us_accept_what_the_official_reader_refuses(value, other):
    assert_never_laxer(file_of({"a": entry(x=value)}, bytes(2), __metadata__={"x": "1"}))
    shaped = {"a": entry(shape=other)} if isinstance(other, list) else {}
    assert_never_laxer(file_of(shaped, bytes(2)))
    assert_never_laxer(file_of({"a": value}, bytes(2), __metadata__=other))


def test_thousands_of_flipped_and_cut_files_are_each_one_error_or_accepted_by_both():
    draw = random.Random(1)
    for _ in range(3000):
        content = bytearray(BASE)
        for _ in range(draw.randrange(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        if draw.random() < 0.2:
            del content[draw.randrange(len(content) + 1) :]
        assert_never_laxer(bytes(content))


def test_a_header_of_many_tensors_takes_no_more_for_each_than_one_of_few():
    def of_tensors(count):
        tensors = {f"t{at}": entry("U8", (1,), (at, at + 1)) for at in range(count)}
        return file_of(tensors, bytes(count))

    few, many = (lines_run(header_of, of_tensors(count)) for count in (200, 2000))
    assert 2000 < many < 10.5 * few
    assert len(header_of(of_tensors(20_000)).tensors) == 20_000


def test_the_prefix_is_read_before_anything_else():
    asked = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return struct.pack("<Q", 10**8)[:length]

    with pytest.raises(SafetensorsError):
        read_header(read, 1000, subject="file")
    assert asked == [(0, 8)]
