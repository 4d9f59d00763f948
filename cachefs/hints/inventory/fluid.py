"""Labels that Fluid writes on nodes, taken as input: they say which nodes a dataset was assigned to.

``fluid.io/s-NAMESPACE-DATASET=true`` is on the nodes that have a cache worker for the dataset, and
``fluid.io/s-h-RUNTIME-{m,d,t}-NAMESPACE-DATASET=SIZE`` says how much memory, disk, or both, that worker was
given. A key that would have 63 characters or more ends with the dataset's UID instead of its name.

They say nothing of what is cached: the first is set before a single byte is. So an assignment weighs little,
``coordinator.hints.assigned_share`` of the dataset and never more than the worker's capacity, and only as far
as no more is known to be there: :func:`cachefs.core.hints.spreading.credited`. That is enough to put such a
node before one of which nothing is known, and it gives way to any node that is known to hold a larger
share. A dataset of ours has Fluid's labels if it has the namespace and the name.

Names may contain the hyphens that keys are made with. So keys are not taken apart: those that a dataset would
have are looked up.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cachefs.config.units import parse_size
from cachefs.core.hints.nodes import Node
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError

RUNTIMES = ("alluxio", "jindo", "juicefs", "goosefs", "efc", "thin", "vineyard", "cache")
_PREFIX = "fluid.io/s-"
_KEY_LENGTH = 63
"""From this length on a key has the UID."""


class Assigned(NamedTuple):
    """What a node was given for a dataset; it may all be empty."""

    memory_bytes: int = 0
    disk_bytes: int = 0
    is_sized: bool = False
    """Whether any label says how much; else nobody knows."""


def keys_of(dataset: DatasetName, uid: str | None = None) -> Mapping[str, str]:
    """Return the keys of all labels that assign a dataset.

    Each with what it says: ``m``, ``d`` or ``t`` for a size, nothing for that it is assigned at all.
    """
    kinds = {_PREFIX: "", **{f"{_PREFIX}{runtime}-": "" for runtime in RUNTIMES}}
    for runtime in RUNTIMES:
        kinds.update({f"{_PREFIX}h-{runtime}-{kind}-": kind for kind in "mdt"})
    return {_key(prefix, dataset, uid): kind for prefix, kind in kinds.items()}


class Labelled:
    """Which nodes have which of Fluid's labels: so that a dataset's are found without asking each node."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        """Sort the labels of nodes."""
        self.labels: dict[str, dict[str, str]] = {}
        """Fluid's alone, of the nodes that have any."""
        self.places: dict[str, tuple[str, str]] = {}
        """The zone and rack of these."""
        self._nodes: dict[str, list[str]] = {}
        for node in nodes:
            own = {key: value for key, value in node.labels.items() if key.startswith(_PREFIX)}
            for key in own:
                self._nodes.setdefault(key, []).append(node.name)
            if own:
                self.labels[node.name] = own
                self.places[node.name] = node.zone, node.rack

    def assigned(self, dataset: DatasetName, uid: str | None = None) -> dict[str, Assigned]:
        """Return the nodes that a dataset is assigned to."""
        if not self._nodes:
            return {}
        names = {node for key in keys_of(dataset, uid) for node in self._nodes.get(key, ())}
        found = {node: assigned(self.labels[node], dataset, uid) for node in sorted(names)}
        return {node: one for node, one in found.items() if one is not None}


def assigned(
    labels: Mapping[str, str], dataset: DatasetName, uid: str | None = None
) -> Assigned | None:
    """Return what a node's labels say of a dataset; ``None`` if it is not assigned there.

    Args:
        labels: The node's.
        dataset: Its namespace and name are the same with Fluid.
        uid: Of Fluid's ``Dataset`` object, for keys that would be too long.
    """
    sizes = {"m": 0, "d": 0, "t": 0}
    is_assigned = is_sized = False
    for key, kind in keys_of(dataset, uid).items():
        text = labels.get(key)
        if text is None:
            continue
        if kind:
            sizes[kind] += _size(text)
            is_sized = True
        is_assigned = is_assigned or bool(kind) or text == "true"
    if not is_assigned:
        return None
    # A total without its parts may be on either; disk is the slower guess.
    disk = sizes["d"] or max(0, sizes["t"] - sizes["m"])
    return Assigned(sizes["m"], disk, is_sized)


def credit(known: Assigned, total: float, share: float) -> tuple[float, float]:
    """Return the bytes that an assignment counts as, in memory and on disk.

    Args:
        known: The assignment.
        total: Bytes of the dataset.
        share: Of them, what an assignment is worth.
    """
    worth = total * share
    if not known.is_sized:
        return 0.0, worth
    dram = min(known.memory_bytes, worth)
    return dram, min(known.disk_bytes, worth - dram)


def _key(prefix: str, dataset: DatasetName, uid: str | None) -> str:
    key = f"{prefix}{dataset.namespace}-{dataset.name}"
    return key if len(key) < _KEY_LENGTH or not uid else f"{prefix}{uid}"


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ConfigError:
        return 0  # a label that says how much, and we cannot read it
