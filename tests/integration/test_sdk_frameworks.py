"""Tensors of PyTorch and JAX: the official reader's, bit for bit. Skipped where they are not installed."""

import importlib.util
import io
import random

import pytest

from cachefs.errors import ConfigError
from cachefs.sdk.safetensors import iter_tensors, load_file, rank_slices, safe_open
from cachefs.sdk.safetensors.header import DTYPE_BITS
from tests.integration.sdk_systems import running
from tests.unit.sdk.safetensors.files import safetensors_file

pytestmark = [pytest.mark.slow, pytest.mark.frameworks]


def is_installed(*packages):
    return all(importlib.util.find_spec(each) for each in packages)


def has_gpu():
    return is_installed("torch") and importlib.import_module("torch").cuda.is_available()


needs_torch = pytest.mark.skipif(
    not is_installed("torch", "safetensors"), reason="PyTorch is not installed"
)
needs_jax = pytest.mark.skipif(not is_installed("jax"), reason="JAX is not installed")
needs_gpu = pytest.mark.skipif(not has_gpu(), reason="there is no GPU")

DRAW = random.Random(9)
DTYPES = [each for each in DTYPE_BITS if not each.startswith("F6_")]
SHAPES = ((8,), (4, 6), (2, 3, 4), (0, 2))


def content(dtype, shape):
    count = 1
    for size in shape:
        count *= size
    if dtype == "BOOL":
        return bytes(DRAW.randrange(2) for _ in range(count))
    return DRAW.randbytes(count * DTYPE_BITS[dtype] // 8)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin")
    tensors = {
        f"{dtype}.{'x'.join(map(str, shape))}": (dtype, shape, content(dtype, shape))
        for dtype in reversed(DTYPES)
        for shape in SHAPES
    }
    tensors["three bytes"] = ("U8", (3,), b"abc")
    tensors["unaligned"] = ("F64", (5,), DRAW.randbytes(40))
    (folder / "model.safetensors").write_bytes(safetensors_file(tensors))
    return folder


@pytest.fixture(scope="module")
def system(origin, tmp_path_factory):
    with running(tmp_path_factory.mktemp("run"), {"model": origin}, ("model",)) as system:
        yield system


def bits(tensor):
    import torch  # noqa: PLC0415

    if not tensor.numel():
        return b""
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


@needs_torch
@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_every_dtype_of_torch_is_the_official_reader_s(system, origin, backend):
    from safetensors.torch import load_file as official_load_file  # noqa: PLC0415

    theirs = official_load_file(origin / "model.safetensors")
    ours = load_file("cachefs://model", state=system.folder, backend=backend)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].shape == tensor.shape
        assert bits(ours[name]) == bits(tensor), name
    for name, tensor in iter_tensors("cachefs://model", state=system.folder, backend=backend):
        assert bits(tensor) == bits(theirs[name])


@needs_torch
def test_parts_of_torch_s_tensors_are_the_official_reader_s(system, origin):
    import safetensors  # noqa: PLC0415

    indexes = [
        0, slice(1, 3), (slice(None), 1), (..., 0), (slice(None), slice(1, 4)), slice(None, None, 2),
    ]  # fmt: skip
    with (
        safe_open("cachefs://model", "pt", state=system.folder, backend="pread") as ours,
        safetensors.safe_open(origin / "model.safetensors", "pt") as theirs,
    ):
        for name in ("BF16.4x6", "F32.2x3x4", "F8_E4M3.4x6"):
            for index in indexes:
                assert bits(ours.get_slice(name)[index]) == bits(theirs.get_slice(name)[index])


@needs_torch
def test_a_rank_s_columns_are_a_tensor_of_their_own(system):
    whole = load_file("cachefs://model", state=system.folder)["F32.4x6"]
    plan = {"F32.4x6": rank_slices((4, 6), rank=1, ranks=2, dimension=1)}
    ((_, part),) = iter_tensors("cachefs://model", state=system.folder, plan=plan, backend="pread")
    assert part.is_contiguous()
    assert bits(part) == bits(whole[:, 3:])


@needs_torch
def test_a_device_that_is_not_there_is_refused(origin):
    for device in ("nonsense", "meta", *(() if has_gpu() else ("cuda", 0, "cuda:3"))):
        with pytest.raises(ConfigError, match=r"device|CUDA"):
            load_file(str(origin), device)


@needs_gpu
def test_tensors_on_a_gpu_are_those_on_the_cpu(system):
    on_cpu = load_file("cachefs://model", state=system.folder)
    on_gpu = load_file("cachefs://model", "cuda", state=system.folder)
    for name, tensor in on_cpu.items():
        assert on_gpu[name].device.type == "cuda"
        assert bits(on_gpu[name].cpu()) == bits(tensor)


class Evil:
    """What a restricted unpickler must not make."""


@needs_torch
def test_a_pickle_is_loaded_only_when_asked_and_with_weights_only(tmp_path, caplog):
    import torch  # noqa: PLC0415

    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.arange(5)}, path)
    with pytest.raises(ConfigError, match="a pickle can run any code"):
        load_file(path)
    assert load_file(path, allow_pickle=True)["a"].tolist() == [0, 1, 2, 3, 4]
    assert "trusting the pickle" in caplog.text
    with path.open("wb") as file:
        torch.save({"a": Evil()}, file)
    with pytest.raises(Exception, match=r"(?i)weights.?only"):
        load_file(path, allow_pickle=True)


@needs_torch
def test_an_old_torch_is_not_trusted_with_pickles(tmp_path, monkeypatch):
    import torch  # noqa: PLC0415

    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    path = tmp_path / "model.pt"
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"2\.10 or newer"):
        load_file(path, allow_pickle=True)


@needs_torch
def test_torch_load_reads_a_dataset_s_file(tmp_path):
    import torch  # noqa: PLC0415

    buffer = io.BytesIO()
    torch.save({"a": torch.arange(1000)}, buffer)
    folder = tmp_path / "origin"
    folder.mkdir()
    (folder / "model.pt").write_bytes(buffer.getvalue())
    with running(tmp_path, {"old": folder}) as system:
        found = load_file("cachefs://old/model.pt", allow_pickle=True, state=system.folder)
    assert found["a"].sum() == 499_500


@needs_jax
def test_jax_s_arrays_are_the_file_s(system):
    import jax  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    known = [each for each in DTYPES if each not in {"F4", "F64", "I64", "U64", "C64"}]
    names = [f"{each}.4x6" for each in known]
    where = {"filename": "cachefs://model", "state": system.folder}
    plain = dict(iter_tensors(**where, framework="numpy", names=names))
    found = dict(iter_tensors(**where, framework="jax", names=names))
    for name, array in found.items():
        assert isinstance(array, jax.Array)
        assert np.asarray(array).tobytes() == plain[name].tobytes()
        assert array.dtype == plain[name].dtype
    with pytest.raises(ConfigError, match="32 bits"):
        dict(iter_tensors(**where, framework="jax", names=["F64.4x6"]))
