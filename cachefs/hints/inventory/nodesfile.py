"""A file of nodes, for clusters that nobody else describes.

::

    defaults:                       # of all nodes in this file
      zone: a
      nic: 25Gbit                   # also disk, memory, numa, load: see core/hints/nodes.py
    nodes:
      gpu-[001-128]:                # a range, as Slurm writes it
        rack: r1
        gpus: {count: 8, model: H100, memory: 80GiB, per_numa: 4, per_island: 8}
        labels: {pool: training}
      login1:
        schedulable: false
    uplinks:
      racks: {a/r1: 400Gbit}
      zones: {a: 1000Gbit}
      origins: {"s3://models": 20Gbit}
    fluid_datasets:
      6f9a2c54-7c1e-4f0a-9a7e-1f2d3c4b5a69: team/llama

It is read again when it changes. One that cannot be understood says where and why, and changes nothing: the
last good one holds until it is mended.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cachefs.config.units import parse_rate, parse_size
from cachefs.core.hints.nodes import GIB, Gpu, Rates
from cachefs.core.names import DatasetName, printable
from cachefs.core.nearest import did_you_mean
from cachefs.errors import ConfigError
from cachefs.hints.inventory.facts import Facts
from cachefs.hints.inventory.sources import Listing

T = TypeVar("T")

_FILE_BYTES_MAX = 16 * 1024 * 1024
_NODES_MAX = 100_000
_GPUS_MAX = 1024
_RANGE = re.compile(r"\[(\d+)-(\d+)\]", re.ASCII)
_TEXT_KEYS = ("rack", "zone", "region")
_RATE_KEYS = tuple(Rates.__dataclass_fields__)
_NODE_KEYS = (*_TEXT_KEYS, *_RATE_KEYS, "labels", "gpus", "images", "schedulable")
_GPU_KEYS = ("count", "model", "memory", "per_numa", "per_island", "mig")


class NodesFile:
    """Implements :class:`.sources.NodeSource` on a file."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._listing = Listing(problem="the file of nodes was not read yet")
        self._good = Listing()

    def look(self) -> Listing:
        """Return what the file says, or what it said when it could last be read."""
        try:
            status = self._path.stat()
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if seen != self._seen:
                text = self._read(status.st_size)
                self._seen = seen  # what is wrong with it now is wrong until it changes
                self._good = self._listing = parse(text, str(self._path))
        except OSError as error:
            self._seen = None
            reason = (error.strerror or "it cannot be read").lower()
            self._keep(f"the file of nodes {self._path}: {reason}")
        except ConfigError as error:
            self._keep(f"the file of nodes: {error}")
        return self._listing

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _read(self, size: int) -> str:
        if size > _FILE_BYTES_MAX:
            raise ConfigError("too large for a file of nodes", subject=str(self._path))
        try:
            return self._path.read_text()
        except UnicodeDecodeError as error:
            raise ConfigError("not text in UTF-8", subject=str(self._path)) from error

    def _keep(self, problem: str) -> None:
        """Go on with what was read last."""
        if problem != self._listing.problem:
            self._listing = replace(self._good, problem=problem)


def parse(text: str, name: str) -> Listing:
    """Parse a file of nodes.

    Args:
        text: What is in it.
        name: What it is called in errors.

    Raises:
        ConfigError: It cannot be understood; the error's subject is the file and the line.
    """
    try:
        # An alias can stand for itself a billion times.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ConfigError("aliases are not allowed", subject=name)
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or "it cannot be read"
        subject = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"not YAML: {reason}", subject=subject) from error
    if root is None:
        return Listing()
    return _Reader(name).listing(root)


class _Reader:
    """Reads the nodes of a YAML document, and says at which line one is wrong."""

    def __init__(self, name: str) -> None:
        self._name = name

    def listing(self, root: yaml.Node) -> Listing:
        """Read all of it."""
        parts = self._mapping(root, ("defaults", "nodes", "uplinks", "fluid_datasets"))
        defaults = Facts(name="")
        if "defaults" in parts:
            defaults = self._facts("", parts["defaults"], defaults)
        nodes: dict[str, Facts] = {}
        for key, pattern, value in self._entries(parts.get("nodes")):
            for name in self._names(pattern, key):
                if name in nodes:
                    raise self._wrong(key, f"the node {name!r} is there twice")
                if len(nodes) >= _NODES_MAX:
                    raise self._wrong(key, f"more than {_NODES_MAX} nodes")
                nodes[name] = self._facts(name, value, defaults)
        uplinks: dict[str, yaml.Node] = {}
        if "uplinks" in parts:
            uplinks = self._mapping(parts["uplinks"], ("racks", "zones", "origins"))
        return Listing(
            nodes=nodes,
            racks={
                (zone, rack): rate
                for place, rate in self._rates(uplinks.get("racks")).items()
                for zone, _, rack in (place.rpartition("/"),)
            },
            zones=self._rates(uplinks.get("zones")),
            origins=self._rates(uplinks.get("origins")),
            fluid_datasets={
                uid: self._value(value, DatasetName.parse)
                for _, uid, value in self._entries(parts.get("fluid_datasets"))
            },
        )

    def _facts(self, name: str, node: yaml.Node, defaults: Facts) -> Facts:
        if self._is_empty(node):
            return replace(defaults, name=name)
        said = self._mapping(node, _NODE_KEYS)
        texts = {key: self._value(said[key], str) for key in _TEXT_KEYS if key in said}
        rates = {key: self._value(said[key], parse_rate) for key in _RATE_KEYS if key in said}
        if not all(rates.values()):
            raise self._wrong(node, "a rate of nothing")
        values: dict[str, Any] = dict(texts)  # Any: each as the field's type says
        if "labels" in said:
            labels = {
                key: self._value(value, str) for _, key, value in self._entries(said["labels"])
            }
            values["labels"] = {**defaults.labels, **labels}
        if "gpus" in said:
            values["gpus"] = self._gpus(said["gpus"])
        if "images" in said:
            values["images"] = frozenset(self._texts(said["images"]))
        if "schedulable" in said:
            values["schedulable"] = self._value(said["schedulable"], _truth)
        return replace(defaults, name=name, rates={**defaults.rates, **rates}, **values)

    def _gpus(self, node: yaml.Node) -> tuple[Gpu, ...]:
        groups = node.value if isinstance(node, yaml.SequenceNode) else [node]
        gpus: list[Gpu] = []
        for group in groups:
            said = self._mapping(group, _GPU_KEYS)
            count = self._number(said, "count", 1)
            if len(gpus) + count > _GPUS_MAX:
                raise self._wrong(group, f"more than {_GPUS_MAX} accelerators")
            memory = self._value(said["memory"], parse_size) if "memory" in said else 80 * GIB
            mig = tuple(self._texts(said["mig"])) if "mig" in said else ()
            per_numa, per_island = (self._number(said, f"per_{of}", 0) for of in ("numa", "island"))
            for _ in range(count):
                index = len(gpus)
                gpus.append(
                    Gpu(
                        index=index,
                        model=self._value(said["model"], str) if "model" in said else "",
                        memory_bytes=memory,
                        numa=index // per_numa if per_numa else 0,
                        # Which are joined is not said: none are.
                        island=index // per_island if per_island else index,
                        mig=mig,
                        partitioned="mig" in said,
                    )
                )
        return tuple(gpus)

    def _rates(self, node: yaml.Node | None) -> Mapping[str, float]:
        rates = {key: self._value(value, parse_rate) for _, key, value in self._entries(node)}
        if node is not None and not all(rates.values()):
            raise self._wrong(node, "a rate of nothing")
        return rates

    def _names(self, pattern: str, node: yaml.Node) -> Iterator[str]:
        """Yield the names that a range stands for."""
        found = _RANGE.search(pattern)
        if found is None:
            yield pattern
            return
        first, last = found[1], found[2]
        if not int(first) <= int(last) < int(first) + _NODES_MAX:
            raise self._wrong(node, f"not a range: {printable(found[0])}")
        for number in range(int(first), int(last) + 1):
            digits = f"{number:0{len(first)}d}"
            yield from self._names(pattern[: found.start()] + digits + pattern[found.end() :], node)

    # ---- YAML -------------------------------------------------------------------------------------

    def _entries(self, node: yaml.Node | None) -> Iterator[tuple[yaml.Node, str, yaml.Node]]:
        """Yield each key as a node and as text, with its value."""
        if node is None or self._is_empty(node):
            return
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, "this must be a mapping")
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                raise self._wrong(key, "this must be a name")
            yield key, key.value, value

    def _mapping(self, node: yaml.Node, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        found: dict[str, yaml.Node] = {}
        for key, name, value in self._entries(node):
            if name not in known:
                hint = did_you_mean(name, known) or ", ".join(known)
                raise self._wrong(key, f"unknown key {printable(name)!r}", hint=hint)
            if name in found:
                raise self._wrong(key, f"{name!r} is there twice")
            found[name] = value
        return found

    def _texts(self, node: yaml.Node) -> list[str]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, "this must be a list")
        return [self._value(each, str) for each in node.value]

    def _number(self, said: Mapping[str, yaml.Node], key: str, default: int) -> int:
        return self._value(said[key], _count) if key in said else default

    def _value(self, node: yaml.Node, read: Callable[[str], T]) -> T:
        if not isinstance(node, yaml.ScalarNode):
            raise self._wrong(node, "this must be a single value")
        try:
            return read(node.value)
        except ConfigError as error:
            raise self._wrong(node, error.message, hint=error.hint) from error

    @staticmethod
    def _is_empty(node: yaml.Node) -> bool:
        return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"

    def _wrong(self, node: yaml.Node, message: str, hint: str = "") -> ConfigError:
        line = node.start_mark.line + 1
        return ConfigError(message, subject=f"{self._name}:{line}", hint=hint)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"not a whole number: {printable(text)!r}")
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"must be true or false, not {printable(text)!r}")
    return text.lower() == "true"
