"""``safe_open``: the official reader's interface, for datasets as well as for paths."""

import operator
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import Any

from cachefs.config.schema import ReaderConfig
from cachefs.core.names import printable
from cachefs.errors import ConfigError, NotKnownError
from cachefs.ports import Closing
from cachefs.sdk.dataset import Dataset, open_reference
from cachefs.sdk.frameworks import Tensor
from cachefs.sdk.safetensors.checkpoints import (
    Checkpoint,
    DatasetTree,
    FolderTree,
    Tree,
    join,
    open_checkpoint,
)
from cachefs.sdk.safetensors.header import TensorEntry
from cachefs.sdk.safetensors.tensors import Tensors
from cachefs.transport.runtime import ThreadRuntime

Target = str | os.PathLike[str]
"""``cachefs://name[@version][/path]``, or a path of this machine; of a file, an index or a folder."""
SCHEME = "cachefs://"
Position = int | slice | EllipsisType
"""One position of an index."""


def open_target(
    target: Target | list[Target] | tuple[Target, ...],
    *,
    dataset: Dataset | None,
    state: str | Path | None,
    config: ReaderConfig | None,
    ahead: bool,
) -> Checkpoint:
    """Open what somebody named, and all that must be closed with it.

    Args:
        target: One, or files that make a checkpoint together.
        dataset: In which the targets are paths.
        state: The state folder of ``cachefs up``.
        config: How to read.
        ahead: Whether to read ahead of what is asked for, by the reader's guess.

    Raises:
        CacheFSError: As :func:`cachefs.sdk.safetensors.checkpoints.open_checkpoint`.
    """
    if isinstance(target, list | tuple):
        with ExitStack() as owned:
            opened = [
                owned.enter_context(
                    open_target(each, dataset=dataset, state=state, config=config, ahead=ahead)
                )
                for each in target
            ]
            return join([shard for each in opened for shard in each.shards], owned.pop_all())
    runtime = ThreadRuntime()
    with ExitStack() as owned:
        if dataset is not None:
            checkpoint = open_checkpoint(runtime, DatasetTree(dataset), os.fspath(target))
        elif (text := os.fspath(target)).startswith(SCHEME):
            config = config or ReaderConfig()
            if not ahead:
                config = replace(config, readahead_bytes=0)
            opened_dataset, path = open_reference(text, state=state, config=config)
            owned.enter_context(opened_dataset)
            checkpoint = open_checkpoint(runtime, DatasetTree(opened_dataset), path)
        else:
            checkpoint = open_checkpoint(runtime, *_tree_of(Path(text)))
        checkpoint.own(owned.pop_all())
        return checkpoint


def _tree_of(path: Path) -> tuple[Tree, str]:
    """Return the folder that a path is to be looked for in, and what remains of the path."""
    if path.is_dir():
        return FolderTree(path), ""
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return FolderTree(path.parent), path.name


class safe_open(Closing):  # noqa: N801 - the name that everybody knows
    """An open checkpoint, of which tensors are read as they are asked for.

    As ``safetensors.safe_open``, which it can stand in for; a dataset's or a folder's shards are one
    checkpoint. Close it, or use it in a ``with`` statement; tensors live on. Safe from any thread.

    Example:
        >>> with safe_open("cachefs://llama", framework="pt") as model:
        ...     for name in model.keys():
        ...         tensor = model.get_tensor(name)
    """

    def __init__(
        self,
        filename: Target | list[Target] | tuple[Target, ...],
        framework: str = "pt",
        device: str | int = "cpu",
        *,
        backend: str = "auto",
        dataset: Dataset | None = None,
        state: str | Path | None = None,
        config: ReaderConfig | None = None,
    ) -> None:
        """Open it and check headers and index; no tensor is read.

        Args:
            filename: ``cachefs://name[@version][/path]`` or a path: of a file, an index or a folder.
            framework: ``pt``, ``numpy`` or ``jax``.
            device: ``cpu``, or for torch ``cuda``, ``cuda:1``, ``1``.
            backend: ``mmap`` for views of a file that is whole on this node, ``pread`` for memory of
                one's own, ``auto`` for views where they can be had.
            dataset: An open dataset, in which ``filename`` is a path.
            state: The state folder of ``cachefs up``; found by itself otherwise.
            config: How to read.

        Raises:
            SafetensorsError: A file or the index is malformed.
            ConfigError: A pickle, or no such framework, device or backend.
            NotKnownError: There is no such dataset or file.
            CacheFSError: It could not be read.
        """
        with ExitStack() as owned:
            self._checkpoint = owned.enter_context(
                open_target(filename, dataset=dataset, state=state, config=config, ahead=True)
            )
            self._tensors = owned.enter_context(
                Tensors(
                    ThreadRuntime(),
                    self._checkpoint,
                    framework=framework,
                    device=device,
                    backend=backend,
                )
            )
            self._owned = owned.pop_all()

    def keys(self) -> list[str]:
        """Return the names of all tensors, sorted."""
        return sorted(self._checkpoint.names)

    def offset_keys(self) -> list[str]:
        """Return the names of all tensors, shard by shard, in the order of their bytes."""
        return [name for _, tensors in self._checkpoint.entries() for name in tensors]

    def metadata(self) -> Mapping[str, str] | None:
        """Return what the writer added to the header; of all shards together."""
        found: dict[str, str] = {}
        for shard in self._checkpoint.shards:
            found.update(shard.header.metadata or {})
        return found or None

    def get_tensor(self, name: str) -> Tensor:
        """Return a tensor, with the shape and dtype of the file.

        Raises:
            NotKnownError: There is no such tensor.
            ConfigError: The framework has no such dtype.
            CacheFSError: It could not be read.
        """
        return self._tensors.get(name)

    def get_tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, read as fast as can be.

        Raises:
            CacheFSError: As :meth:`get_tensor`.
        """
        return dict(self._tensors.stream())

    def get_slice(self, name: str) -> "TensorSlice":
        """Return a tensor of which parts can be read: ``get_slice(name)[0:10, :]``.

        Raises:
            NotKnownError: There is no such tensor.
        """
        return TensorSlice(self._tensors, self._checkpoint.find(name)[1])

    def close(self) -> None:
        """Close the files; idempotent."""
        self._owned.close()


class TensorSlice:
    """A tensor that is read when it is indexed, and then only what is asked for."""

    def __init__(self, tensors: Tensors, entry: TensorEntry) -> None:
        """Come from :meth:`safe_open.get_slice`."""
        self._tensors = tensors
        self._entry = entry

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor, in elements."""
        return list(self._entry.shape)

    def get_dtype(self) -> str:
        """Return the dtype as the format names it: ``BF16``."""
        return self._entry.dtype

    def __getitem__(self, index: Any) -> Tensor:  # Any: whatever indexes a tensor
        """Return the part of the tensor that an index of numbers, slices and ``...`` means.

        Raises:
            NotKnownError: A number is out of bounds.
            ConfigError: The index is of another kind, or has too many positions.
            CacheFSError: The part could not be read.
        """
        slices, rest = _cover(self._entry, index if isinstance(index, tuple) else (index,))
        return self._tensors.get(self._entry.name, slices)[(*rest, ...)]


def _cover(
    entry: TensorEntry, index: tuple[Position, ...]
) -> tuple[tuple[slice, ...], tuple[int | slice, ...]]:
    """Return slices that contain what an index means, and the index into those."""
    slices: list[slice] = []
    rest: list[int | slice] = []
    for at, position in enumerate(_expand(entry, index)):
        size = entry.shape[at]
        if isinstance(position, slice):
            chosen = range(*position.indices(size))
            if chosen.step < 0:
                raise ConfigError("a slice goes backwards", subject=printable(entry.name))
            slices.append(slice(chosen.start, max(chosen.start, chosen.stop)))
            rest.append(slice(None, None, chosen.step))
            continue
        number = position + size if position < 0 else position
        if not 0 <= number < size:
            raise NotKnownError(
                f"index {position} is out of bounds for dimension {at} of size {size}",
                subject=printable(entry.name),
            )
        slices.append(slice(number, number + 1))
        rest.append(0)
    return tuple(slices), tuple(rest)


def _expand(entry: TensorEntry, index: tuple[Any, ...]) -> list[int | slice]:  # Any: as typed
    """Return one position for each dimension that is named, ``...`` filled in."""
    gaps = sum(position is ... for position in index)
    if gaps > 1 or len(index) - gaps > len(entry.shape):
        raise ConfigError(
            f"{len(index)} positions for {len(entry.shape)} dimensions",
            subject=printable(entry.name),
        )
    expanded: list[int | slice] = []
    for position in index:
        if position is ...:
            expanded += [slice(None)] * (len(entry.shape) - len(index) + 1)
        elif isinstance(position, slice):
            expanded.append(position)
        else:
            try:
                expanded.append(operator.index(position))
            except TypeError as error:
                raise ConfigError(
                    "an index is of numbers, slices and ...", subject=printable(entry.name)
                ) from error
    return expanded
