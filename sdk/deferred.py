"""Deferred tensors: tensors of PyTorch that are read when something is done with them.

A layer of a tensor-parallel model is given whole tensors and takes a range of each, along one
dimension. Of a file that is elsewhere, that range is all that should move. A deferred tensor has a
shape and a dtype; narrowed or indexed by a slice it gives another deferred one; anything else that is
done with it reads what is left of it, and goes on with an ordinary tensor. So whoever takes a tensor
can be given a deferred one, and at worst it is read whole.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch.utils._pytree import tree_map

from cachefs.sdk.torch import dtype_of, shape_of

_ATEN = torch.ops.aten
_SAME = {_ATEN.detach.default, _ATEN.alias.default}
"""Operations that give the tensor itself, as far as its elements go."""
_WHOLE: tuple[Any, ...] = (0, None, None, 1)  # Any: numbers and None
"""What a slice's dimension, start, stop and step are if they are not given."""
Bounds = tuple[tuple[int, int], ...]
Read = Callable[[tuple[slice, ...]], torch.Tensor]


class DeferredTensor(torch.Tensor):  # type: ignore[misc]  # PyTorch is not looked at by the checker
    """A range of a tensor that is not there yet. For the thread that uses it."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type[Self], read: Read, dtype: torch.dtype, bounds: Bounds) -> Self:
        """Make a tensor without memory."""
        shape = [stop - start for start, stop in bounds]
        # PyTorch takes the result of a slice for a view, which an inference tensor cannot become.
        with torch.inference_mode(False):
            made: Self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
        return made

    def __init__(self, read: Read, dtype: torch.dtype, bounds: Bounds) -> None:
        """Read nothing yet; ``read`` returns a range of the whole tensor, given a slice for each dimension."""
        del dtype
        self._read = read
        self._bounds = bounds
        self._found: torch.Tensor | None = None

    def __repr__(self) -> str:
        return f"<a deferred tensor, {list(self.shape)} of {self.dtype}>"

    def found(self) -> torch.Tensor:
        """Return an ordinary tensor, read the first time."""
        if self._found is None:
            self._found = self._read(tuple(slice(*bounds) for bounds in self._bounds))
        return self._found

    def narrowed(self, dimension: int, start: int | None, stop: int | None) -> torch.Tensor:
        """Return a range along a dimension, bounds as in Python."""
        start, stop, _ = slice(start, stop).indices(self.shape[dimension])
        if self._found is not None:
            return self._found.narrow(dimension, start, max(0, stop - start))
        bounds = list(self._bounds)
        base = bounds[dimension][0]
        bounds[dimension] = (base + start, base + max(start, stop))
        return DeferredTensor(self._read, self.dtype, tuple(bounds))

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,  # Any: PyTorch's
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # Any: PyTorch's
        """Do what only narrows; read for all else."""
        del types
        kwargs = kwargs or {}
        first = args[0] if args else None
        if isinstance(first, cls) and not kwargs:
            if func in _SAME:
                return DeferredTensor(first._read, first.dtype, first._bounds)
            if func is _ATEN.slice.Tensor:
                dimension, start, stop, step = (args[1:] + _WHOLE[len(args) - 1 :])[:4]
                if step == 1:
                    return first.narrowed(dimension, start, stop)
            if func is _ATEN.narrow.default and args[2] >= 0:
                return first.narrowed(args[1], args[2], args[2] + args[3])
        return func(*tree_map(_found, args), **tree_map(_found, kwargs))


def defer(read: Read, dtype: str, shape: tuple[int, ...]) -> DeferredTensor | None:
    """Return a deferred tensor.

    Args:
        read: Returns a range of the whole tensor, given a slice for each dimension.
        dtype: As safetensors names it.
        shape: Of the whole tensor, as safetensors has it.

    Returns:
        ``None`` if PyTorch counts its elements in another way than the file.

    Raises:
        ConfigError: PyTorch has no such dtype.
    """
    if shape_of(dtype, shape) != shape:
        return None
    return DeferredTensor(read, dtype_of(dtype), tuple((0, size) for size in shape))


def _found(value: Any) -> Any:  # Any: of an argument
    return value.found() if isinstance(value, DeferredTensor) else value
