"""The interfaces between cachefs and the world.

Everything that can wait, fail or differ between machines is behind one of these: time and threads
(:mod:`.runtimes`), the store of record (:mod:`.origins`), other processes (:mod:`.sources`), folders
(:mod:`.disks`) and a worker's tiers (:mod:`.stores`). Production has one implementation of each, the
simulation another, and one contract suite in ``tests/contract`` holds all of them to the sentences
that are written there. Whoever uses one imports it from here.

cachefs uses plain threads and blocking calls. A range read over a blocking socket straight into the
caller's buffer is the fastest thing Python can do, and reads as what it does (ADR 0003). Because
code only waits through :class:`Runtime`, the simulation can run the same code as coroutines on a
clock of its own, one at a time, in an order that a seed decides.
"""

from cachefs.ports.closing import Closing
from cachefs.ports.disks import Disk, DiskFile
from cachefs.ports.origins import Origin, OriginFile
from cachefs.ports.providers import Provider
from cachefs.ports.runtimes import CancelToken, Condition, Runtime, Task
from cachefs.ports.sources import (
    BlockRequest,
    BlockSource,
    FetchedBlock,
    FileRef,
    Metadata,
    ProofSource,
    Referral,
    ResolvedVersion,
    WorkerMetadata,
)
from cachefs.ports.stores import BlockStore, FileLease, HeldBlock, Reservation

__all__ = [
    "BlockRequest",
    "BlockSource",
    "BlockStore",
    "CancelToken",
    "Closing",
    "Condition",
    "Disk",
    "DiskFile",
    "FetchedBlock",
    "FileLease",
    "FileRef",
    "HeldBlock",
    "Metadata",
    "Origin",
    "OriginFile",
    "ProofSource",
    "Provider",
    "Referral",
    "Reservation",
    "ResolvedVersion",
    "Runtime",
    "Task",
    "WorkerMetadata",
]
