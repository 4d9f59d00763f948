"""Plans: the bytes of any slice, and no more of them than the rules allow."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.core.blocks import Range
from cachefs.errors import ConfigError
from cachefs.sdk.safetensors.header import TensorEntry
from cachefs.sdk.safetensors.plan import (
    ALIGNMENT_BYTES,
    GAP_BYTES,
    make_batches,
    pieces,
    rank_slices,
    want,
)
from cachefs.sdk.safetensors.streaming import stored_tensor

np = pytest.importorskip("numpy")

ITEM_BYTES = {"I32": 4, "U8": 1, "F64": 8, "F4": 0.5, "I16": 2}


def tensor(name="t", dtype="I32", shape=(4, 6), offset=100):
    return TensorEntry(name, dtype, shape, offset, int(math.prod(shape) * ITEM_BYTES[dtype]))


def load(content, batches, piece_bytes=1 << 20):
    """Do what a plan says, on a file in memory; every byte of a tensor must have been read."""
    from cachefs.sdk.numpy import FRAMEWORK  # noqa: PLC0415

    found = {}
    for batch in batches:
        buffer = bytearray(b"\xee" * batch.size)
        for piece in pieces(batch, piece_bytes):
            assert piece.offset // piece_bytes == (piece.offset + piece.length - 1) // piece_bytes
            part = content[piece.offset : piece.offset + piece.length]
            buffer[piece.position : piece.position + piece.length] = part
        for placed in batch.tensors:
            memory = memoryview(buffer)[placed.position : placed.position + placed.size]
            found[placed.entry.name] = stored_tensor(FRAMEWORK, memory, placed)
    return found


SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=4).map(tuple)
BOUNDS = st.none() | st.integers(-6, 6)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_slice_of_any_tensor_is_what_numpy_says(data):
    shape = data.draw(SHAPES)
    entry = tensor(shape=shape, offset=data.draw(st.integers(0, 9)))
    values = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    cut = tuple(
        slice(data.draw(BOUNDS), data.draw(BOUNDS))
        for _ in range(data.draw(st.integers(0, len(shape))))
    )
    content = b"\xff" * entry.offset + values.tobytes() + b"\xff" * 9
    gap = data.draw(st.sampled_from([0, 8, GAP_BYTES]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cachefs.sdk.safetensors.plan.GAP_BYTES", gap)
        batches = make_batches([want(entry, cut)], limit_bytes=None)
    found = load(content, batches, data.draw(st.sampled_from([4, 64, 1 << 20])))["t"]
    assert found.shape == values[cut].shape
    assert np.array_equal(found, values[cut])


def test_a_slice_along_the_first_dimension_is_one_run():
    wanted = want(tensor(shape=(8, 6, 5)), slice(2, 4))
    assert wanted.runs == (Range(100 + 2 * 120, 240),)
    assert wanted.shape == (2, 6, 5)
    assert wanted.cut is None


def test_rows_far_apart_are_read_one_by_one_and_nothing_between_them():
    columns = GAP_BYTES  # of four bytes each
    wanted = want(tensor(shape=(3, columns)), (slice(None), slice(0, columns // 2)))
    assert wanted.size == 3 * columns // 2 * 4
    assert [run.offset for run in wanted.runs] == [100, 100 + 4 * columns, 100 + 8 * columns]
    assert wanted.cut is None


def test_rows_near_each_other_are_read_with_what_is_between_them():
    wanted = want(tensor(shape=(100, 16)), (slice(10, 20), slice(0, 4)))
    assert wanted.runs == (Range(100 + 10 * 64, 10 * 64),)
    assert wanted.cut == (slice(0, 10), slice(0, 4))
    assert wanted.shape == (10, 4)


def test_nothing_is_read_for_an_empty_slice():
    assert want(tensor(), slice(3, 3)).size == 0
    assert want(tensor(), slice(3, 1)).shape == (0, 6)
    (batch,) = make_batches([want(tensor(), slice(3, 3))], limit_bytes=None)
    assert batch.reads == []


@pytest.mark.parametrize(
    ("entry", "cut"),
    [
        (tensor(), slice(0, 4, 2)),
        (tensor(), (slice(0, 1),) * 3),
        (tensor(shape=()), slice(0, 1)),
        (tensor(dtype="F4", shape=(2, 4)), (slice(None), slice(1, 3))),
        (tensor(dtype="F4", shape=(2, 3)), (slice(None), slice(0, 2))),
        (tensor(dtype="F4", shape=(2, 3)), slice(1, 2)),
    ],
)
def test_a_slice_that_does_not_fit_is_refused(entry, cut):
    with pytest.raises(ConfigError, match="t: the slice does not fit"):
        want(entry, cut)


def test_the_ranks_of_a_split_tensor_are_all_of_it():
    values = np.arange(48).reshape(4, 12)
    parts = [values[rank_slices((4, 12), rank=rank, ranks=3, dimension=1)] for rank in range(3)]
    assert np.array_equal(np.concatenate(parts, axis=1), values)


@pytest.mark.parametrize(
    ("rank", "ranks", "dimension"), [(3, 3, 1), (-1, 3, 1), (0, 5, 1), (0, 2, 2), (0, 2, -1)]
)
def test_a_rank_that_cannot_be_is_refused(rank, ranks, dimension):
    with pytest.raises(ConfigError):
        rank_slices((4, 12), rank=rank, ranks=ranks, dimension=dimension)


def neighbours(count, size=1000, dtype="U8", offset=64):
    return [tensor(f"t{at}", dtype, (size,), offset + at * size) for at in range(count)]


def test_neighbouring_tensors_are_one_read():
    (batch,) = make_batches([want(each) for each in neighbours(10)], limit_bytes=None)
    assert batch.reads == [(64, 10_000, 0)]
    assert batch.size == 10_000


def test_tensors_far_apart_are_read_alone():
    entries = [tensor("a", "U8", (10,), 0), tensor("b", "U8", (10,), 1_000_000)]
    (batch,) = make_batches([want(each) for each in entries], limit_bytes=None)
    assert batch.reads == [(0, 10, 0), (1_000_000, 10, ALIGNMENT_BYTES)]


def test_a_tensor_begins_where_its_dtype_wants_it_to():
    entries = [tensor("a", "U8", (3,), 0), tensor("b", "F64", (2,), 3), tensor("c", "U8", (1,), 19)]
    (batch,) = make_batches([want(each) for each in entries], limit_bytes=None)
    assert batch.tensors[1].position % 8 == 0
    content = b"abc" + np.array([1.5, 2.5]).tobytes() + b"z"
    found = load(content, [batch])
    assert found["b"].tolist() == [1.5, 2.5]
    assert found["a"].tobytes() == b"abc"
    assert found["c"].tobytes() == b"z"


def test_batches_keep_to_their_limit_unless_one_tensor_is_larger():
    further = [tensor("big", "U8", (5000,), 50_000), tensor("z", "U8", (1,), 90_000)]
    entries = [*neighbours(10), *further]
    batches = make_batches([want(each) for each in entries], limit_bytes=3000)
    assert [len(batch.tensors) for batch in batches] == [3, 3, 3, 1, 1, 1]
    assert max(batch.size for batch in batches if len(batch.tensors) > 1) <= 3000


def test_the_share_of_one_rank_is_read_and_hardly_more():
    size = 4096 * 1024 * 2
    entries = [tensor(f"t{at}", "I16", (4096, 1024), 1000 + at * size) for at in range(8)]
    wanted = [want(each, rank_slices(each.shape, rank=1, ranks=4, dimension=0)) for each in entries]
    (batch,) = make_batches(wanted, limit_bytes=None)
    read = sum(each.length for each in batch.reads)
    assert read == sum(each.size for each in entries) // 4
    assert batch.size <= read * 1.001
