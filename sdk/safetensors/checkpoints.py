"""Checkpoints: the files that a reference means, opened, and which tensor is in which of them.

A reference is ``cachefs://name[@version][/path]`` or a plain path, and means a file, an index, or a
folder: then its index, or its only safetensors file, or its complete set of shards. Headers and
index are checked before anybody may ask for a tensor.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from cachefs.core.names import printable
from cachefs.errors import ConfigError, NotKnownError
from cachefs.ports import Closing, Runtime
from cachefs.sdk.dataset import Dataset
from cachefs.sdk.parallel import run_all
from cachefs.sdk.safetensors.header import Header, SafetensorsError, TensorEntry, read_header
from cachefs.sdk.safetensors.index import (
    DEFAULT_INDEX,
    INDEX_BYTES_MAX,
    INDEX_SUFFIX,
    SUFFIX,
    check_shards,
    complete_sets,
    parse_index,
)
from cachefs.sdk.safetensors.sources import DatasetSource, PathSource, Source, read_bytes

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Tree(Protocol):
    """Files by path."""

    name: str

    @property
    def paths(self) -> Collection[str]:
        """All of them, relative to the tree."""
        ...

    def open(self, path: str) -> Source:
        """Open one."""
        ...


class DatasetTree:
    """The files of a dataset."""

    def __init__(self, dataset: Dataset) -> None:
        """Leave the dataset to the caller to close."""
        self.name = f"cachefs://{dataset.name}"
        self._dataset = dataset

    @property
    def paths(self) -> Collection[str]:
        """As the manifest has them."""
        return {entry.path for entry in self._dataset.files}

    def open(self, path: str) -> Source:
        """Open one."""
        return DatasetSource(f"{self.name}/{path}", self._dataset.keep_open(path))


class FolderTree:
    """The files of a folder on this machine."""

    def __init__(self, folder: Path) -> None:
        """Look at nothing yet."""
        self.name = str(folder)
        self._folder = folder

    @property
    def paths(self) -> Collection[str]:
        """Regular files, and links to such, in the folder and below."""
        return {
            str(Path(at, name).relative_to(self._folder))
            for at, _, names in os.walk(self._folder)
            for name in names
            if Path(at, name).is_file()
        }

    def open(self, path: str) -> Source:
        """Open one."""
        return PathSource(self._folder / path)


@dataclass(frozen=True, slots=True)
class Shard:
    """An open file of a checkpoint."""

    source: Source
    header: Header


class Checkpoint(Closing):
    """Open files and their tensors."""

    def __init__(
        self, shards: Sequence[Shard], owner: Mapping[str, Shard], owned: ExitStack
    ) -> None:
        """Come from :func:`open_checkpoint`."""
        self.shards = tuple(shards)
        self._owner = owner
        self._owned = owned

    @property
    def names(self) -> Collection[str]:
        """Of all tensors."""
        return self._owner.keys()

    def find(self, name: str) -> tuple[Shard, TensorEntry]:
        """Return where a tensor is.

        Raises:
            NotKnownError: There is no such tensor.
        """
        shard = self._owner.get(name)
        if shard is None:
            raise NotKnownError("no such tensor", subject=printable(name))
        return shard, shard.header.find(name)

    def entries(self) -> Iterator[tuple[Shard, dict[str, TensorEntry]]]:
        """Yield each file with its tensors that count, in the order of their bytes."""
        for shard in self.shards:
            yield (
                shard,
                {
                    each.name: each
                    for each in shard.header.tensors
                    if self._owner.get(each.name) is shard
                },
            )

    def own(self, more: ExitStack) -> None:
        """Close something else after the files."""
        files, self._owned = self._owned, more
        self._owned.push(files)

    def close(self) -> None:
        """Close the files; tensors stay."""
        self._owned.close()


def open_checkpoint(runtime: Runtime, tree: Tree, path: str) -> Checkpoint:
    """Open what a path in a tree means, and check it.

    Args:
        runtime: Reads headers with a few threads.
        tree: A dataset or a folder.
        path: Of a file, an index or a folder in it; empty for all of it.

    Raises:
        SafetensorsError: Something is not as it must be.
        ConfigError: It is a pickle, or nothing that can be loaded.
        NotKnownError: There is no such file or folder.
        CacheFSError: It could not be read.
    """
    paths = tree.paths
    target = path if path in paths else _main_file(tree, path, paths)
    if isinstance(target, str):
        refuse_pickle(target)
        if target.endswith(INDEX_SUFFIX):
            return _open_indexed(runtime, tree, target, paths)
        target = (target,)
    with ExitStack() as owned:
        shards = _open_shards(runtime, tree, target, owned)
        return join(list(shards.values()), owned.pop_all())


def join(shards: Sequence[Shard], owned: ExitStack) -> Checkpoint:
    """Return files as one checkpoint.

    Raises:
        SafetensorsError: A tensor is in two of them.
    """
    owner: dict[str, Shard] = {}
    for shard in shards:
        for entry in shard.header.tensors:
            other = owner.setdefault(entry.name, shard)
            if other is not shard:
                owned.close()
                raise SafetensorsError(
                    f"tensor {printable(entry.name)!r} is in {printable(other.source.name)!r} too",
                    subject=printable(shard.source.name),
                )
    return Checkpoint(shards, owner, owned)


def refuse_pickle(path: str) -> None:
    """Refuse a file that can run code when it is loaded.

    Raises:
        ConfigError: It is one, by its name.
    """
    if path.endswith(PICKLE_SUFFIXES):
        raise ConfigError(
            "a pickle can run any code, and is not loaded",
            subject=printable(path),
            hint="convert it to safetensors, or ask for it with allow_pickle=True",
        )
    if path.endswith(".gguf"):
        raise ConfigError(
            "GGUF is not safetensors",
            subject=printable(path),
            hint="read the file with open_dataset(...).open(path), or give local_path(path) to its loader",
        )


def _main_file(tree: Tree, path: str, paths: Collection[str]) -> str | tuple[str, ...]:
    """Return what stands for a folder: its index, its only file, or its set of shards."""
    prefix = path.rstrip("/") + "/" if path else ""
    inside = sorted(each for each in paths if each.startswith(prefix))
    if not inside:
        raise NotKnownError("no such file or folder", subject=printable(f"{tree.name}/{path}"))
    direct = [each for each in inside if "/" not in each[len(prefix) :]]
    indexes = [each for each in direct if each.endswith(INDEX_SUFFIX)]
    files = [each for each in direct if each.endswith(SUFFIX)]
    for candidates, favourite in ((indexes, DEFAULT_INDEX), (files, "model" + SUFFIX)):
        if prefix + favourite in candidates:
            return prefix + favourite
        if len(candidates) == 1:
            return candidates[0]
    sets = complete_sets(files)
    if len(sets) == 1:
        return sets[0]
    if files or indexes:
        raise ConfigError(
            f"{len(files)} safetensors files, of which no single index says which belong together",
            subject=printable(f"{tree.name}/{path}"),
            hint="name one of them",
        )
    for each in direct:
        refuse_pickle(each)
    raise ConfigError("no safetensors file in it", subject=printable(f"{tree.name}/{path}"))


def _open_indexed(runtime: Runtime, tree: Tree, path: str, paths: Collection[str]) -> Checkpoint:
    with ExitStack() as owned:
        source = tree.open(path)
        try:
            if source.size > INDEX_BYTES_MAX:
                raise SafetensorsError(f"an index of {source.size} bytes", subject=printable(path))
            index = parse_index(read_bytes(source)(0, source.size), path, paths)
        finally:
            source.close()
        shards = _open_shards(runtime, tree, index.shards, owned)
        check_shards(index, {name: shard.header for name, shard in shards.items()})
        owner = {name: shards[shard] for name, shard in index.shard_of.items()}
        return Checkpoint(list(shards.values()), owner, owned.pop_all())


def _open_shards(
    runtime: Runtime, tree: Tree, paths: Sequence[str], owned: ExitStack
) -> dict[str, Shard]:
    """Open files and read their headers, several at once."""
    found: dict[str, Shard] = {}

    def look(path: str, source: Source) -> None:
        found[path] = Shard(
            source, read_header(read_bytes(source), source.size, subject=source.name)
        )

    calls: list[Callable[[], None]] = []
    for path in paths:
        source = tree.open(path)
        owned.callback(source.close)
        if source.whole() is not None:
            look(path, source)  # from the page cache, mostly: no thread is worth it
        else:
            calls.append(partial(look, path, source))
    run_all(runtime, calls)
    return {path: found[path] for path in paths}
