"""Other loaders: each reads a whole checkpoint into CPU tensors, the way its documentation says."""

import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cachefs.benchmarks.floors import in_threads, split
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.plain import read_with_obstore
from cachefs.sdk.memory import allocate

Load = Callable[[], int]
"""Loads everything, forgets it, and returns how many bytes of tensors there were."""
_READ_BYTES = 8 * 1024 * 1024
_BUCKET_THREADS = 4
VIEWS = "safetensors load_file"
CLONES = "safetensors get + clone"
RUNAI = "Run:ai streamer"
FAST = "fastsafetensors"
FLOOR = "preadv x 2 into huge pages"


def framework() -> str:
    """Return the framework to measure with."""
    return "pt" if importlib.util.find_spec("torch") else "numpy"


def size_of(tensors: dict[str, Any]) -> int:  # Any: tensors of some framework
    """Return the bytes of tensors together."""
    return sum(tensor.nbytes for tensor in tensors.values())


def rivals(paths: Sequence[Path]) -> dict[str, Load]:
    """Return the loaders that are installed here, by name."""
    found: dict[str, Load] = {FLOOR: lambda: read_into_huge_pages(paths)}
    if importlib.util.find_spec("safetensors"):
        if framework() == "numpy":
            importlib.import_module("ml_dtypes")  # which teaches NumPy what bfloat16 is
        found[VIEWS] = lambda: _views(paths)
        found[CLONES] = lambda: _clones(paths)
    if framework() == "pt" and importlib.util.find_spec("runai_model_streamer"):
        found[RUNAI] = lambda: _run_ai([str(path) for path in paths])
    if framework() == "pt" and importlib.util.find_spec("fastsafetensors"):
        found[FAST] = lambda: _fast([str(path) for path in paths])
    return found


def read_into_huge_pages(paths: Sequence[Path]) -> int:
    """Read files with two threads, each file into fresh huge pages: no tensors, no checks."""
    kept, total = [], 0
    for path in paths:
        size = path.stat().st_size
        view, _ = allocate(size)
        descriptor = os.open(path, os.O_RDONLY)
        parts = split([size], 2)

        def read(
            part: int,
            view: memoryview = view,
            descriptor: int = descriptor,
            parts: list[list[tuple[int, int, int, int]]] = parts,
        ) -> None:
            for _, offset, length, _ in parts[part]:
                at, end = offset, offset + length
                while at < end:
                    into = view[at : min(at + _READ_BYTES, end)]
                    at += os.preadv(descriptor, [into], at)

        try:
            in_threads(2, read)
        finally:
            os.close(descriptor)
        kept.append(view)
        total += size
    return total


def _views(paths: Sequence[Path]) -> int:
    name = "torch" if framework() == "pt" else "numpy"
    load_file = importlib.import_module(f"safetensors.{name}").load_file
    tensors: dict[str, Any] = {}  # Any: tensors of some framework
    for path in paths:
        tensors |= load_file(str(path))
    return size_of(tensors)


def _clones(paths: Sequence[Path]) -> int:
    safe_open = importlib.import_module("safetensors").safe_open
    tensors: dict[str, Any] = {}  # Any: tensors of some framework
    for path in paths:
        with safe_open(str(path), framework=framework()[:2].replace("nu", "np")) as file:
            for name in file.keys():  # noqa: SIM118 - it cannot be iterated
                tensor = file.get_tensor(name)
                tensors[name] = tensor.clone() if framework() == "pt" else tensor.copy()
    return size_of(tensors)


def _run_ai(paths: Sequence[str]) -> int:
    streamer_of = importlib.import_module("runai_model_streamer").SafetensorsStreamer
    with streamer_of() as streamer:
        streamer.stream_files(paths, device="cpu")
        return size_of({name: tensor.clone() for name, tensor in streamer.get_tensors()})


def read_bucket(endpoint: str, files: Sequence[tuple[str, int]]) -> int:
    """Read objects of the bucket with obstore into fresh huge pages: no tensors, no checks.

    Args:
        endpoint: The S3 server's URL; it asks for no signatures.
        files: Names and sizes.
    """
    view, _ = allocate(sum(size for _, size in files))
    return read_with_obstore(endpoint, files, view, _BUCKET_THREADS)


def run_ai_bucket(endpoint: str, names: Sequence[str]) -> Load | None:
    """Return what loads objects of the bucket with Run:ai's streamer; ``None`` if it is not installed."""
    packages = ("torch", "runai_model_streamer", "runai_model_streamer_s3")
    if not all(importlib.util.find_spec(package) for package in packages):
        return None
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "RUNAI_STREAMER_S3_ENDPOINT": endpoint,
        "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
        "AWS_ACCESS_KEY_ID": "dummy",
        "AWS_SECRET_ACCESS_KEY": "dummy",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return lambda: _run_ai([f"s3://{BUCKET}/{name}" for name in names])


def _fast(paths: Sequence[str]) -> int:
    package = importlib.import_module("fastsafetensors")
    loader = package.SafeTensorsFileLoader(package.SingleGroup(), "cpu", nogds=True)
    loader.add_filenames({0: list(paths)})
    try:
        buffer = loader.copy_files_to_device()
        try:
            return size_of({name: buffer.get_tensor(name) for name in buffer.key_to_rank_lidx})
        finally:
            buffer.close()
    finally:
        loader.close()
