"""NumPy's door: arrays over bytes. The types that NumPy lacks come from ``ml_dtypes``."""

import importlib.util
from typing import Any

import numpy as np

from cachefs.errors import ConfigError

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_FURTHER_DTYPES = {
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
"""Of ml_dtypes."""

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
    if name in _DTYPES:
        return np.dtype(_DTYPES[name])
    if name not in _FURTHER_DTYPES:
        raise ConfigError(f"numpy has no dtype for {name}")
    if importlib.util.find_spec("ml_dtypes") is None:
        raise ConfigError(f"numpy has no dtype for {name} of its own", hint="pip install ml_dtypes")
    kinds = importlib.import_module("ml_dtypes")
    kind: np.dtype[Any] = np.dtype(getattr(kinds, _FURTHER_DTYPES[name]))  # Any: as named
    return kind


def check_cpu(device: str, framework: str) -> None:
    """Refuse every device but the CPU."""
    if device != "cpu":
        raise ConfigError(f"{framework} tensors are loaded to the CPU, not to {device!r}")


FRAMEWORK = NumpyFramework()
