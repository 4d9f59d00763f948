"""Sources of nodes: whoever knows what machines there are, whether or not a worker runs on them.

A file (:mod:`.nodesfile`) is one; a watch on Kubernetes' nodes is another. What a source says of a node wins
over what the node's worker has found out: somebody wrote it on purpose.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cachefs.core.names import DatasetName
from cachefs.hints.inventory.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a source knows at a moment."""

    nodes: Mapping[str, Facts] = field(default_factory=dict)
    """By name."""
    racks: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Bytes a second of the uplinks of racks, by zone and rack."""
    zones: Mapping[str, float] = field(default_factory=dict)
    origins: Mapping[str, float] = field(default_factory=dict)
    """Bytes a second from an origin to all nodes together, by its name: ``s3://bucket``."""
    fluid_datasets: Mapping[str, DatasetName] = field(default_factory=dict)
    """The dataset of each UID that labels of Fluid use where a name would be too long."""
    problem: str = ""
    """Why this is older than it should be; empty if it is not."""


class NodeSource(Protocol):
    """Knows nodes. One thread asks it, about once a second, until it is closed."""

    def look(self) -> Listing:
        """Return what there is.

        It does not raise and does not wait for a network: what cannot be read now is answered with what was
        read last, and the listing's ``problem`` says why. As long as nothing has changed it is the
        same object.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; idempotent."""
        ...
