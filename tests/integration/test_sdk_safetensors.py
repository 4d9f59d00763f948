"""Weights through the SDK: bit for bit what the official reader gives, from wherever the bytes are."""

import json
import os
import random
import resource
import threading
from pathlib import Path

import pytest

from cachefs.config.schema import ReaderConfig
from cachefs.errors import ConfigError, NotKnownError
from cachefs.sdk import open_dataset
from cachefs.sdk.safetensors import (
    SafetensorsError,
    iter_tensors,
    load_file,
    rank_slices,
    safe_open,
)
from cachefs.sdk.safetensors.header import DTYPE_BITS
from tests.integration.sdk_systems import running
from tests.unit.sdk.safetensors.files import MALFORMED, safetensors_file

np = pytest.importorskip("numpy")
pytest.importorskip("ml_dtypes")
official = pytest.importorskip("safetensors")

pytestmark = pytest.mark.slow

DRAW = random.Random(9)
NUMPY_DTYPES = [each for each in DTYPE_BITS if not each.startswith(("F4", "F6_"))]
SHAPES = ((), (0,), (7,), (3, 0, 2), (12, 16), (2, 3, 4, 5))


def content(dtype, shape):
    count = int(np.prod(shape, dtype=np.int64))
    if dtype == "BOOL":
        return bytes(DRAW.randrange(2) for _ in range(count))
    return DRAW.randbytes(count * DTYPE_BITS[dtype] // 8)


def every_dtype():
    return safetensors_file(
        {
            f"{dtype}.{'x'.join(map(str, shape))}": (dtype, shape, content(dtype, shape))
            for dtype in reversed(NUMPY_DTYPES)  # so that some begin unaligned
            for shape in SHAPES
        },
        {"format": "pt"},
    )


def write_checkpoint(folder):
    """Write three shards and their index."""
    weights = {}
    for number in range(1, 4):
        name = f"model-{number:05}-of-00003.safetensors"
        shape = (64, 320 * number)
        tensors = {
            f"layers.{number}.{part}": ("BF16", shape, content("BF16", shape))
            for part in ("q", "k", "v")
        }
        (folder / name).write_bytes(safetensors_file(tensors, {"format": "pt"}))
        weights |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin")
    write_checkpoint(folder)
    (folder / "odd").mkdir()
    (folder / "odd" / "every.safetensors").write_bytes(every_dtype())
    (folder / "pickled").mkdir()
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    (folder / "bad.safetensors").write_bytes(MALFORMED["a tensor twice"])
    return folder


@pytest.fixture(scope="module")
def system(origin, tmp_path_factory):
    with running(tmp_path_factory.mktemp("run"), {"model": origin}, ("model",)) as system:
        yield system


@pytest.fixture(scope="module")
def scattered(origin, tmp_path_factory):
    """Run a system of two workers on this node, of which none has all of a file."""
    folder = tmp_path_factory.mktemp("two")
    with running(folder, {"model": origin}, ("model",), workers=2) as system:
        yield system


@pytest.fixture(params=["views", "own", "remote", "path", "path, own"])
def place(system, origin, request):
    """Return where the files are, and how they are read."""
    if request.param.startswith("path"):
        backend = "pread" if "own" in request.param else "mmap"
        return lambda path: {"filename": str(origin / path), "backend": backend}
    config = ReaderConfig(local=request.param != "remote")
    backend = {"views": "mmap", "own": "pread", "remote": "auto"}[request.param]
    return lambda path: {
        "filename": f"cachefs://model/{path}",
        "backend": backend,
        "state": system.folder,
        "config": config,
    }


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].shape == tensor.shape
        assert ours[name].tobytes() == tensor.tobytes()


def test_every_dtype_is_bit_for_bit_the_file_s(place, origin):
    found = load_file(**place("odd/every.safetensors"), framework="numpy")
    flat = dict(official.deserialize((origin / "odd/every.safetensors").read_bytes()))
    assert found.keys() == flat.keys()
    for name, tensor in found.items():
        assert tensor.shape == tuple(flat[name]["shape"])
        assert tensor.tobytes() == bytes(flat[name]["data"])


def test_what_numpy_knows_is_as_the_official_reader_has_it(place, origin):
    known = [each for each in NUMPY_DTYPES if not each.startswith("F8")]
    with (
        safe_open(**place("odd/every.safetensors"), framework="numpy") as ours,
        official.safe_open(origin / "odd/every.safetensors", framework="np") as theirs,
    ):
        names = [name for name in theirs.keys() if name.partition(".")[0] in known]  # noqa: SIM118
        assert len(names) == len(known) * len(SHAPES)
        assert_same(
            {name: ours.get_tensor(name) for name in names},
            {name: theirs.get_tensor(name) for name in names},
        )
        assert ours.keys() == theirs.keys()
        assert ours.offset_keys() == theirs.offset_keys()
        assert ours.metadata() == theirs.metadata()


def test_a_whole_checkpoint_is_found_by_its_index(place, origin):
    theirs = {}
    for path in sorted(origin.glob("*-of-*")):
        with official.safe_open(path, framework="np") as shard:
            theirs |= shard.get_tensors()
    for path in ("", "model.safetensors.index.json"):
        assert_same(load_file(**place(path), framework="numpy"), theirs)
    with safe_open(**place(""), framework="numpy") as ours:
        assert ours.keys() == sorted(theirs)
        assert_same(ours.get_tensors(), theirs)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


INDEXES = [
    np.s_[1], np.s_[-1], np.s_[0:1], np.s_[:, 1], np.s_[3, 5], np.s_[:, 2:9], np.s_[2:5, 3:300],
    np.s_[...], np.s_[..., 1], np.s_[1, ...], np.s_[::2], np.s_[1:60:7, ::3], np.s_[-3:], np.s_[5:3],
    np.s_[60:100], np.s_[:, :0], np.s_[()], np.s_[np.int64(4)],
]  # fmt: skip


def test_any_part_of_a_tensor_is_what_numpy_gives(place):
    with safe_open(**place(""), framework="numpy") as model:
        for name in ("layers.1.q", "layers.3.v"):
            whole = model.get_tensor(name)
            part = model.get_slice(name)
            assert part.get_shape() == list(whole.shape)
            assert part.get_dtype() == "BF16"
            for index in INDEXES:
                found = part[index]
                assert found.shape == whole[index].shape, index
                assert found.tobytes() == whole[index].tobytes(), index
            for wrong in (np.s_[0, 0, 0], np.s_[..., ...], [1, 2], None, "a", np.s_[::-1], 1.5):
                with pytest.raises(ConfigError):
                    part[wrong]
            for beyond in (64, -65, np.s_[0, 10_000]):
                with pytest.raises(NotKnownError):
                    part[beyond]


def test_ranks_together_have_everything_and_each_its_part(place):
    whole = load_file(**place(""), framework="numpy")
    for dimension in (0, 1):
        parts = [
            dict(
                iter_tensors(
                    **place(""),
                    framework="numpy",
                    plan={
                        name: rank_slices(tensor.shape, rank=rank, ranks=4, dimension=dimension)
                        for name, tensor in whole.items()
                    },
                )
            )
            for rank in range(4)
        ]
        for name, tensor in whole.items():
            joined = np.concatenate([part[name] for part in parts], axis=dimension)
            assert joined.tobytes() == tensor.tobytes()


def test_a_rank_reads_its_bytes_and_the_headers(system):
    with open_dataset("model", state=system.folder) as dataset:
        with safe_open("", "numpy", dataset=dataset) as model:
            names = model.keys()
            shapes = {name: model.get_slice(name).get_shape() for name in names}
        before = sum(dataset.statistics().bytes_by_source.values())
        plan = {name: rank_slices(shape, rank=0, ranks=4) for name, shape in shapes.items()}
        found = dict(
            iter_tensors("", dataset=dataset, framework="numpy", plan=plan, backend="pread")
        )
        read = sum(dataset.statistics().bytes_by_source.values()) - before
    needed = sum(tensor.nbytes for tensor in found.values())
    headers = 4096  # index and three headers
    assert needed <= read <= needed * 1.02 + headers


def test_tensors_are_chosen_by_name_before_anything_is_read(place):
    found = dict(iter_tensors(**place(""), framework="numpy", names=["layers.2.k"]))
    assert list(found) == ["layers.2.k"]
    chosen = iter_tensors(**place(""), framework="numpy", names=lambda name: name.endswith(".q"))
    assert sorted(dict(chosen)) == ["layers.1.q", "layers.2.q", "layers.3.q"]
    for wrong in ({"names": ["nothing"]}, {"plan": {"nothing": None}}):
        with pytest.raises(NotKnownError, match="nothing"):
            iter_tensors(**place(""), framework="numpy", **wrong)


def test_a_budget_is_kept_or_refused_beforehand(place):
    whole = load_file(**place(""), framework="numpy")
    for name, tensor in iter_tensors(**place(""), framework="numpy", budget_bytes=1_000_000):
        assert tensor.tobytes() == whole[name].tobytes()
    place = place("")
    if place["backend"] != "mmap":
        with pytest.raises(ConfigError, match="budget of 1000"):
            iter_tensors(**place, framework="numpy", budget_bytes=1000)


def test_tensors_may_be_written_and_nobody_else_sees_it(place):
    first = load_file(**place("odd/every.safetensors"), framework="numpy")
    second = load_file(**place("odd/every.safetensors"), framework="numpy")
    before = second["U8.12x16"].tobytes()
    first["U8.12x16"][:] = 77
    assert second["U8.12x16"].tobytes() == before
    third = load_file(**place("odd/every.safetensors"), framework="numpy")
    assert third["U8.12x16"].tobytes() == before


def test_a_file_in_the_parts_of_two_workers_is_no_view_but_is_read(scattered, origin):
    expected = load_file(str(origin), framework="numpy")
    where = {"state": scattered.folder, "framework": "numpy"}
    assert_same(load_file("cachefs://model", **where), expected)
    with pytest.raises(ConfigError, match="not whole on this node"):
        load_file("cachefs://model", backend="mmap", **where)


def test_views_outlive_the_dataset_and_an_eviction(system, origin):
    found = load_file("cachefs://model", framework="numpy", backend="mmap", state=system.folder)
    expected = load_file(str(origin), framework="numpy")
    system.api.post("/v1/evict", {"dataset": "model", "version": "", "paths": []})
    assert_same(found, expected)
    assert system.wait_for_job(system.warm("model"))["state"] == "done"
    assert_same(found, expected)


def test_several_threads_read_one_checkpoint(place):
    whole = load_file(**place(""), framework="numpy")
    wrong = []

    def read(model):
        for name, tensor in whole.items():
            if model.get_tensor(name).tobytes() != tensor.tobytes():
                wrong.append(name)

    with safe_open(**place(""), framework="numpy") as model:
        threads = [threading.Thread(target=read, args=(model,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert wrong == []


def test_a_pickle_is_refused_in_one_line(place):
    for path in ("pickled/pytorch_model.bin", "pickled"):
        with pytest.raises(ConfigError, match="a pickle can run any code") as caught:
            load_file(**place(path), framework="numpy")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="GGUF"):
        load_file(**place("tiny.gguf"), framework="numpy")


def test_a_malformed_file_is_an_error_that_names_it(place):
    with pytest.raises(SafetensorsError, match=r"bad\.safetensors.*twice"):
        load_file(**place("bad.safetensors"), framework="numpy")


@pytest.mark.parametrize("fault", MALFORMED)
def test_no_malformed_file_costs_memory_or_leaves_anything_open(fault, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(MALFORMED[fault])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = open_descriptors()
    for backend in ("mmap", "pread"):
        with pytest.raises(SafetensorsError):
            load_file(path, framework="numpy", backend=backend)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert open_descriptors() == opened


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"framework": "tf"}, "no framework"),
        ({"framework": "numpy", "backend": "magic"}, "no backend"),
        ({"framework": "numpy", "device": "cuda"}, "CPU"),
    ],
)
def test_what_cannot_be_is_refused(origin, arguments, match):
    with pytest.raises(ConfigError, match=match):
        load_file(str(origin), **arguments)


def test_what_is_not_there_is_not_found(system, tmp_path):
    for name in ("cachefs://nothing", "cachefs://model/nothing"):
        with pytest.raises(NotKnownError):
            load_file(name, framework="numpy", state=system.folder)
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "nothing.safetensors", framework="numpy")
    with safe_open("cachefs://model", "numpy", state=system.folder) as model:
        for look in (model.get_tensor, model.get_slice):
            with pytest.raises(NotKnownError, match="nothing"):
                look("nothing")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises((ConfigError, NotKnownError)):
        load_file(tmp_path / "pipe.safetensors", framework="numpy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotKnownError):
        load_file(tmp_path / "empty", framework="numpy")


def test_several_files_are_one_checkpoint_unless_they_share_a_tensor(origin):
    shards = sorted(str(path) for path in origin.glob("*-of-*"))
    assert len(load_file(shards, framework="numpy")) == 9
    with pytest.raises(SafetensorsError, match="too"):
        load_file([shards[0], shards[0]], framework="numpy")


def test_a_complete_set_of_shards_needs_no_index(origin, tmp_path):
    for path in origin.glob("*-of-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(load_file(tmp_path, framework="numpy")) == 9
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ConfigError, match="2 safetensors files"):
        load_file(tmp_path, framework="numpy")
