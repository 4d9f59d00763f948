"""Indexes: which shard a tensor is in, and nothing that leads out of the checkpoint."""

import json

import pytest

from cachefs.sdk.safetensors.header import SafetensorsError, parse_header, read_header
from cachefs.sdk.safetensors.index import check_shards, complete_sets, parse_index
from tests.unit.sdk.safetensors.files import safetensors_file

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
PATH = "model.safetensors.index.json"
PRESENT = {FIRST, SECOND, PATH, "config.json", "consolidated.safetensors"}


def parse(weights, present=frozenset(PRESENT), path=PATH):
    return parse_index(json.dumps({"weight_map": weights}).encode(), path, present)


def header(*names):
    content = safetensors_file(dict.fromkeys(names, ("U8", (1,), b"x")))
    return read_header(lambda at, n: content[at : at + n], len(content), subject="shard")


def test_an_index_says_which_tensor_is_in_which_shard():
    index = parse({"b": SECOND, "a": FIRST, "c": FIRST})
    assert index.shards == (FIRST, SECOND)
    assert index.shard_of == {"b": SECOND, "a": FIRST, "c": FIRST}


def test_shards_are_named_relative_to_the_index():
    present = {f"fp8/{FIRST}", f"fp8/{SECOND}"}
    index = parse({"a": FIRST, "b": SECOND}, present, f"fp8/{PATH}")
    assert index.shards == (f"fp8/{FIRST}", f"fp8/{SECOND}")


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors", "/etc/passwd.safetensors", "a/../../b.safetensors", "./a.safetensors",
        "", ".", "..", "a//b.safetensors", "a\0.safetensors", "x" * 300 + ".safetensors", "model.bin",
        "config.json", 7, None, ["a"], {"a": 1}, True,
    ],
)  # fmt: skip
def test_a_shard_that_is_no_file_of_the_checkpoint_is_refused(name):
    with pytest.raises(SafetensorsError, match=r"index\.json"):
        parse({"a": name, "b": SECOND})


def test_a_missing_shard_is_refused():
    with pytest.raises(SafetensorsError, match=r"00002-of-00002.*missing"):
        parse({"a": FIRST, "b": SECOND}, {FIRST})


def test_a_shard_of_the_same_set_that_the_index_does_not_name_is_refused():
    with pytest.raises(SafetensorsError, match=r"00002-of-00002.*not in the index"):
        parse({"a": FIRST})
    extra = "model-00003-of-00002.safetensors"
    with pytest.raises(SafetensorsError, match="00003-of-00002"):
        parse({"a": FIRST, "b": SECOND}, {*PRESENT, extra})


def test_other_safetensors_files_are_none_of_the_index_s_business():
    parse({"a": FIRST, "b": SECOND}, {*PRESENT, "model-00001-of-00009.safetensors"})


@pytest.mark.parametrize(
    "encoded",
    [
        b"", b"{}", b"[]", b'{"weight_map": {}}', b'{"weight_map": []}', b'{"weight_map": null}',
        b'{"weight_map": {"a": "x"', b"\xff", b'{"weight_map": {"a": "m.safetensors", "a": "n"}}',
        b"[" * 100_000, b'{"weight_map":' * 100_000,
    ],
)  # fmt: skip
def test_a_malformed_index_is_refused(encoded):
    with pytest.raises(SafetensorsError):
        parse_index(encoded, PATH, PRESENT)


def test_a_tensor_that_is_not_where_the_index_says_is_refused():
    index = parse({"a": FIRST, "b": SECOND})
    with pytest.raises(SafetensorsError, match="'b' is not in shard"):
        check_shards(index, {FIRST: header("a", "b"), SECOND: header("c")})


def test_a_tensor_in_two_shards_is_refused():
    index = parse({"a": FIRST, "b": SECOND})
    with pytest.raises(SafetensorsError, match="'a' is in"):
        check_shards(index, {FIRST: header("a"), SECOND: header("a", "b")})


def test_a_tensor_that_the_index_does_not_name_is_no_fault():
    check_shards(parse({"a": FIRST, "b": SECOND}), {FIRST: header("a", "x"), SECOND: header("b")})


def test_a_set_of_shards_is_complete_or_none():
    assert complete_sets([SECOND, "model.safetensors", FIRST]) == [(FIRST, SECOND)]
    assert complete_sets([FIRST]) == []
    assert complete_sets(["m-00001-of-99999999999999999999.safetensors"]) == []
    assert complete_sets([FIRST, "x-1-of-1.safetensors"]) == [("x-1-of-1.safetensors",)]


def test_a_header_is_not_believed_about_the_file_s_size():
    with pytest.raises(SafetensorsError, match="the file at 99"):
        parse_header(b"{}", 99, subject="x")
