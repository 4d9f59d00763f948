"""PyTorch's door: tensors over bytes, copies to a GPU, and pickles for who asks for them."""

import ctypes
import logging
from typing import BinaryIO

import torch

from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.sdk.dtypes import NAMES
from cachefs.sdk.files import File
from cachefs.sdk.staging import Copier
from cachefs.transport.runtime import ThreadRuntime

_PICKLE_VERSION = (2, 10)
"""``weights_only`` was broken twice before it: CVE-2025-32434 and CVE-2026-24747."""
_POLL_SECONDS = 0.0002

_NAMES = {**NAMES, "F4": "float4_e2m1fn_x2"}

_log = logging.getLogger("cachefs.sdk")


def dtype_of(name: str) -> torch.dtype:
    """Return the type of an element.

    Raises:
        ConfigError: This version of PyTorch has none.
    """
    kind = getattr(torch, _NAMES.get(name, ""), None)
    if not isinstance(kind, torch.dtype):
        raise ConfigError(f"torch {torch.__version__} has no dtype for {name}")
    return kind


def shape_of(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape as PyTorch counts it, which takes two numbers of four bits for one element.

    Raises:
        ConfigError: The last dimension is odd.
    """
    if dtype != "F4":
        return shape
    if not shape or shape[-1] % 2:
        raise ConfigError(f"torch has no tensors of four bits with the shape {list(shape)}")
    return (*shape[:-1], shape[-1] // 2)


class TorchFramework:
    """Implements :class:`cachefs.sdk.frameworks.Framework`."""

    def view(self, memory: memoryview, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor over memory; what is not aligned is copied."""
        kind, shape = dtype_of(dtype), shape_of(dtype, shape)
        if not memory:
            return torch.empty(shape, dtype=kind)
        flat = torch.frombuffer(memory, dtype=torch.uint8)
        if flat.data_ptr() % kind.itemsize:
            flat = flat.clone()
        return flat.view(kind).view(shape)

    def cut(self, tensor: torch.Tensor, index: tuple[slice, ...]) -> torch.Tensor:
        """Return a copy of a slice."""
        return tensor[index].clone(memory_format=torch.contiguous_format)

    def finish(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor."""
        return tensor

    def copier(self, device: str) -> Copier | None:
        """Return what copies to a GPU."""
        try:
            where = torch.device(device)
        except RuntimeError as error:
            raise ConfigError(f"no device {printable(device)!r}") from error
        if where.type == "cpu":
            return None
        if where.type != "cuda":
            raise ConfigError(f"tensors are loaded to the CPU or to CUDA, not to {device!r}")
        if not torch.cuda.is_available():
            raise ConfigError(f"no device {device!r}: torch finds no CUDA here")
        return CudaCopier(where)


class CudaCopier:
    """Implements :class:`cachefs.sdk.staging.Copier` for an NVIDIA or ROCm GPU.

    Copies run on a stream of their own. The tensors are handed out when their copies have ended, so
    whatever stream uses them need not wait.
    """

    def __init__(self, device: torch.device) -> None:
        """Make the stream."""
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._runtime = ThreadRuntime()

    def pin(self, size: int) -> tuple[memoryview, torch.Tensor]:
        """Return page-locked memory."""
        pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        array = (ctypes.c_ubyte * size).from_address(pinned.data_ptr())
        return memoryview(array).cast("B"), pinned

    def allocate(self, size: int) -> torch.Tensor:
        """Return memory of the GPU, for use on our stream and any other."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            return torch.empty(size, dtype=torch.uint8, device=self._device)

    def start(
        self, pinned: torch.Tensor, length: int, memory: torch.Tensor, position: int
    ) -> torch.cuda.Event:
        """Start a copy on our stream."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            memory[position : position + length].copy_(pinned[:length], non_blocking=True)
            ended = torch.cuda.Event()
            ended.record(self._stream)
        return ended

    def is_over(self, ticket: torch.cuda.Event, timeout_seconds: float) -> bool:
        """Look until the copy has ended, which releases the interpreter's lock in between."""
        until = self._runtime.monotonic() + timeout_seconds
        while not ticket.query():
            if self._runtime.monotonic() > until:
                return False
            self._runtime.sleep(_POLL_SECONDS)
        return True

    def view(
        self, memory: torch.Tensor, position: int, dtype: str, shape: tuple[int, ...]
    ) -> torch.Tensor:
        """Return a tensor over the GPU's memory."""
        kind, shape = dtype_of(dtype), shape_of(dtype, shape)
        count = 1
        for size in shape:
            count *= size
        if not count:
            return torch.empty(shape, dtype=kind, device=self._device)
        memory.record_stream(torch.cuda.current_stream(self._device))
        part = memory[position : position + count * kind.itemsize]
        return part.view(kind).view(shape)


def load_pickle(file: BinaryIO | File, name: str, device: str) -> dict[str, torch.Tensor]:
    """Unpickle a checkpoint's tensors, having said whom one trusts.

    Raises:
        ConfigError: This version of PyTorch does not restrict what a pickle may do.
    """
    check_pickles(name)
    loaded: dict[str, torch.Tensor] = torch.load(file, map_location=device, weights_only=True)
    return loaded


def check_pickles(name: str) -> None:
    """Say whom one trusts who loads a pickle with ``weights_only=True``.

    Raises:
        ConfigError: This version of PyTorch does not restrict what a pickle may do.
    """
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _PICKLE_VERSION:
        raise ConfigError(
            f"torch {torch.__version__} does not keep pickles from running code",
            subject=printable(name),
            hint="use torch 2.10 or newer, or safetensors",
        )
    _log.warning("trusting the pickle %s with weights_only=True", printable(name))


def without_memory() -> torch.device:
    """Return a context in which tensors have shapes and no memory."""
    return torch.device("meta")


FRAMEWORK = TorchFramework()
