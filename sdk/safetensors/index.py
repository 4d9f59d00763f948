"""The index of a checkpoint that is split into shards: ``model.safetensors.index.json``.

It says which tensor is in which shard. The names of shards in it are somebody else's text, so each
must be a legal path below the index's folder and a file that is there. A shard that belongs to the
same set by its name, but that the index does not name, is left over from something else, and is
refused like one that is missing: whoever reads all files of the folder would load another model.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cachefs.core.names import parse_path, printable
from cachefs.errors import ConfigError
from cachefs.sdk.safetensors.header import Header, SafetensorsError, parse_json

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
DEFAULT_INDEX = "model.safetensors.index.json"
INDEX_BYTES_MAX = 100_000_000
"""As a header's."""
_SHARD = re.compile(r"(.*\D)?(\d+)-of-(\d+)(\D.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """A valid index."""

    path: str
    """Of the index file."""
    shards: tuple[str, ...]
    """The paths of the shards, sorted."""
    shard_of: Mapping[str, str]
    """By tensor."""


def parse_index(encoded: bytes, path: str, present: Collection[str]) -> ShardIndex:
    """Check an index.

    Args:
        encoded: Its JSON.
        path: Where it is, in the same tree as ``present``; shards are named relative to its folder.
        present: The paths of all files.

    Raises:
        SafetensorsError: It is malformed, or does not fit the files that are there.
    """
    document = parse_json(encoded, subject=path)
    weights = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise SafetensorsError("it has no weight_map", subject=path)
    folder, slash, _ = path.rpartition("/")
    shard_of = {}
    for name, shard in weights.items():
        shard_of[name] = folder + slash + _shard_name(shard, path)
    shards = tuple(sorted(set(shard_of.values())))
    for shard in shards:
        if shard not in present:
            raise SafetensorsError(f"shard {printable(shard)!r} is missing", subject=path)
    for other in _siblings(shards, present):
        raise SafetensorsError(
            f"shard {printable(other)!r} is there, but not in the index", subject=path
        )
    return ShardIndex(path, shards, shard_of)


def check_shards(index: ShardIndex, headers: Mapping[str, Header]) -> None:
    """Compare an index with the headers of all its shards.

    Tensors that the index does not name are no fault: the index decides what belongs to the model.

    Raises:
        SafetensorsError: A tensor is not where the index says, or is in two shards.
    """
    for name, shard in index.shard_of.items():
        if name not in headers[shard].by_name:
            raise SafetensorsError(
                f"tensor {printable(name)!r} is not in shard {printable(shard)!r}",
                subject=index.path,
            )
    seen: dict[str, str] = {}
    for shard, header in headers.items():
        for entry in header.tensors:
            other = seen.setdefault(entry.name, shard)
            if other != shard:
                raise SafetensorsError(
                    f"tensor {printable(entry.name)!r} is in {printable(other)!r}"
                    f" and in {printable(shard)!r}",
                    subject=index.path,
                )


def _shard_name(found: object, path: str) -> str:
    if not isinstance(found, str):
        raise SafetensorsError("its weight_map has a shard that is not a name", subject=path)
    try:
        name = parse_path(found)
    except ConfigError as error:
        raise SafetensorsError(f"its weight_map has {error.message}", subject=path) from error
    if not name.endswith(SUFFIX):
        raise SafetensorsError(f"shard {printable(name)!r} is not a {SUFFIX} file", subject=path)
    return name


def _siblings(shards: Collection[str], present: Collection[str]) -> list[str]:
    """Return the files that belong to the same numbered set and are not among the shards."""
    known = {_set_of(shard) for shard in shards} - {None}
    return sorted(each for each in present if each not in shards and _set_of(each) in known)


def _set_of(path: str) -> tuple[str, str, str] | None:
    parts = _SHARD.fullmatch(path)
    return (parts[1] or "", parts[3], parts[4] or "") if parts else None


def complete_sets(paths: Collection[str]) -> list[tuple[str, ...]]:
    """Return the sets ``…1-of-N`` to ``…N-of-N`` among files, each in order."""
    groups: dict[tuple[str, str, str], dict[int, str]] = {}
    for path in paths:
        parts = _SHARD.fullmatch(path)
        if parts:
            key = (parts[1] or "", parts[3], parts[4] or "")
            groups.setdefault(key, {})[int(parts[2])] = path
    return [
        tuple(group[number] for number in range(1, int(count) + 1))
        for (_, count, _), group in groups.items()
        if len(group) == int(count) and group.keys() == set(range(1, len(group) + 1))
    ]
