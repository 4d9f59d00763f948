"""Options of the engines' loaders, and how tensors are grouped for a device."""

import pytest

from cachefs.errors import ConfigError
from cachefs.sdk.diffusers import unwanted
from cachefs.sdk.engines import LoaderOptions, groups, parse_options


def test_options_are_what_was_typed():
    options = parse_options({"dataset": "cachefs://a@1234abcd", "deadline_seconds": 5})
    assert options == LoaderOptions(dataset="cachefs://a@1234abcd", deadline_seconds=5)
    assert options.reader.deadline_seconds == 5
    assert options.reader.readahead_bytes == 0
    assert parse_options({"concurrency": 9}).reader.connections_limit == 9
    assert parse_options({}) == LoaderOptions()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a"], "must be an object, not list"),
        ({"memory": 1}, r"has no 'memory' \(it has dataset, backend, device, memory_bytes"),
        ({"concurrency": "8"}, "concurrency must be of type int, not str"),
        ({"concurrency": True}, "concurrency must be of type int, not bool"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"memory_bytes": -1}, "memory_bytes must not be negative"),
        ({"deadline_seconds": 0}, "deadline_seconds must be more than 0"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds must be more than 0"),
        ({"allow_pickle": 1}, "allow_pickle must be of type bool, not int"),
        ({"backend": "magic"}, "backend must be one of auto, mmap, pread"),
        ({"device": "tpu"}, "device must be cpu, cuda or cuda:N"),
        ({"dataset": "llama"}, "dataset must be cachefs://name"),
    ],
)
def test_a_wrong_option_is_one_clear_error(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_options(given)


def test_groups_are_no_larger_than_the_limit_but_for_single_ones():
    sizes = {"a": 3, "b": 3, "c": 4, "d": 20, "e": 1}
    assert list(groups(sizes, 10)) == [["a", "b", "c"], ["d"], ["e"]]
    assert list(groups({}, 10)) == []


PIPELINE = {
    "model_index.json",
    "all.safetensors",
    "unet/model.safetensors",
    "unet/model.fp16.safetensors",
    "unet/model.bin",
    "vae/model-00001-of-00002.safetensors",
    "vae/model.fp16-00001-of-00002.safetensors",
    "tokenizer/vocab.json",
    "head/model.safetensors",
    "head/model.onnx",
}


@pytest.mark.parametrize(
    ("variant", "read"),
    [
        (None, {"unet/model.safetensors", "vae/model-00001-of-00002.safetensors"}),
        ("fp16", {"unet/model.fp16.safetensors", "vae/model.fp16-00001-of-00002.safetensors"}),
    ],
)
def test_of_a_pipeline_s_weights_those_are_copied_that_will_be_read(variant, read):
    leave_out = unwanted(PIPELINE, variant)
    assert {path for path in PIPELINE if not leave_out(path)} == {
        "model_index.json", "tokenizer/vocab.json", "head/model.safetensors", *read,
    }  # fmt: skip
