"""Frameworks: what makes tensors of bytes, and the one place that knows their names.

Each framework has one door, a module that imports it: :mod:`cachefs.sdk.torch`,
:mod:`cachefs.sdk.numpy`, :mod:`cachefs.sdk.jax`. A door is imported when a tensor is first asked for,
so the SDK itself needs none of them.
"""

import importlib
from typing import Any, Protocol

from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.sdk.staging import Copier

Tensor = Any
"""Of whatever framework was asked for, which we neither import nor name."""

_DOORS = {
    "pt": "cachefs.sdk.torch",
    "torch": "cachefs.sdk.torch",
    "pytorch": "cachefs.sdk.torch",
    "np": "cachefs.sdk.numpy",
    "numpy": "cachefs.sdk.numpy",
    "jax": "cachefs.sdk.jax",
    "flax": "cachefs.sdk.jax",
}
"""By the names that safetensors takes, and their long forms."""


class Framework(Protocol):
    """Makes tensors. The tensors keep the memory that they are over alive."""

    def view(self, memory: memoryview, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor over memory, without a copy if it is aligned for the dtype.

        Raises:
            ConfigError: The framework has no such dtype.
        """
        ...

    def cut(self, tensor: Tensor, index: tuple[slice, ...]) -> Tensor:
        """Return a slice of a tensor as one of its own, rows one after the other."""
        ...

    def finish(self, tensor: Tensor) -> Tensor:
        """Return what the user gets."""
        ...

    def copier(self, device: str) -> Copier | None:
        """Return what copies to a device; ``None`` if it is the CPU.

        Raises:
            ConfigError: There is no such device.
        """
        ...


def find_framework(name: str) -> Framework:
    """Return a framework by its name, importing it if need be.

    Raises:
        ConfigError: We know no such framework, or it is not installed.
    """
    door = _DOORS.get(name)
    if door is None:
        known = ", ".join(sorted(_DOORS))
        raise ConfigError(f"no framework {printable(name)!r}", hint=f"one of {known}")
    try:
        framework: Framework = importlib.import_module(door).FRAMEWORK
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"framework {name!r} needs a package that is not installed: {error.name}",
            hint=f"pip install {error.name}",
        ) from error
    return framework


def device_name(device: object) -> str:
    """Return a device as frameworks write it; a number is that of a GPU."""
    return f"cuda:{device}" if isinstance(device, int) else str(device)
