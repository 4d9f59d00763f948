"""NumPy's door: arrays over bytes. The types that NumPy lacks come from ``ml_dtypes``."""

import importlib.util
from contextlib import suppress
from typing import Any

import numpy as np

from cachefs.errors import ConfigError
from cachefs.sdk.dtypes import NAMES

Array = np.ndarray[Any, Any]  # Any: shape and dtype are the file's


class NumpyFramework:
    """Implements :class:`cachefs.sdk.frameworks.Framework`."""

    def view(self, memory: memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
        """Return an array; NumPy reads unaligned memory as well."""
        kind = dtype_of(dtype)
        if not memory:
            return np.empty(shape, kind)
        return np.frombuffer(memory, kind).reshape(shape)

    def cut(self, tensor: Array, index: tuple[slice, ...]) -> Array:
        """Return a copy of a slice."""
        return np.ascontiguousarray(tensor[index])

    def finish(self, tensor: Array) -> Array:
        """Return the array."""
        return tensor

    def copier(self, device: str) -> None:
        """Know the CPU only."""
        check_cpu(device, "numpy")


def dtype_of(name: str) -> np.dtype[Any]:  # Any: as named
    """Return the type of an element.

    Raises:
        ConfigError: NumPy has none, or it is one of ml_dtypes', which is not installed.
    """
    if name not in NAMES:
        raise ConfigError(f"numpy has no dtype for {name}")
    with suppress(TypeError):
        return np.dtype(NAMES[name])
    if importlib.util.find_spec("ml_dtypes") is None:
        raise ConfigError(f"numpy has no dtype for {name} of its own", hint="pip install ml_dtypes")
    kinds = importlib.import_module("ml_dtypes")
    kind: np.dtype[Any] = np.dtype(getattr(kinds, NAMES[name]))  # Any: as named
    return kind


def check_cpu(device: str, framework: str) -> None:
    """Refuse every device but the CPU."""
    if device != "cpu":
        raise ConfigError(f"{framework} tensors are loaded to the CPU, not to {device!r}")


FRAMEWORK = NumpyFramework()
