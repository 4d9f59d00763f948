"""A node, as the inventory knows it: where it is, how fast, and what its accelerators are doing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

NEVER = float("inf")
"""A moment that does not come; a rate that limits nothing."""

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a node's parts move when nobody else uses them, in bytes per second.

    The defaults are a common server's: 25 Gbit/s of network, one NVMe disk, PCIe 4.0 x16.
    """

    nic: float = 25e9 / 8
    disk: float = 3e9
    memory: float = 20e9
    """From the memory tier, on the accelerator's own NUMA node."""
    numa: float = 10e9
    """From memory that belongs to another NUMA node."""
    load: float = 12e9
    """From the host's memory into the accelerator's, deserialised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One accelerator."""

    index: int
    model: str = ""
    memory_bytes: int = 80 * GIB
    numa: int = 0
    """The NUMA node that it hangs on."""
    island: int = 0
    """Accelerators of a node with the same number are joined by NVLink."""
    mig: tuple[str, ...] = ()
    """Profiles of the slices that are free; an accelerator with any slices has ``partitioned`` set."""
    mig_used: tuple[str, ...] = ()
    """Profiles of the slices that are in use; at ``free_at`` they are free again."""
    partitioned: bool = False
    """Cut into slices: it is never given out whole."""
    used: float = 0.0
    """The share that is in use, 0 to 1."""
    memory_free_bytes: int | None = None
    """What of its memory is free; all that ``used`` leaves for ``None``."""
    free_at: float | None = None
    """The moment at which what runs there is expected to end; ``None`` if nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine that jobs run on."""

    name: str
    rack: str = ""
    """Empty: a rack that is not told from others of its zone."""
    zone: str = ""
    region: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] = ()
    images: frozenset[str] | None = None
    """Container images that are there; ``None`` if nobody has said."""
    rates: Rates = field(default_factory=Rates)
    schedulable: bool = True
    """Whether new work may go there at all."""
