"""What the coordinator is told and what it answers, as values: neither messages nor bodies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cachefs.coordinator.residency import Reported
from cachefs.coordinator.warming import FailedFill
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Version
from cachefs.core.eviction import Retention
from cachefs.core.manifest import FileEntry
from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What a worker says when it renews its lease."""

    worker: WorkerId
    incarnation: str
    epoch: int
    """Of the worker's view."""
    residency: Sequence[Reported] = ()
    residency_is_whole: bool = False
    failures: Sequence[FailedFill] = ()
    statistics: str = ""
    suspects: Sequence[WorkerId] = ()
    pins_revision: int = 0
    """Of the pins that the worker obeys; 0 for none yet."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a worker is told when it has renewed its lease."""

    view: View | None
    """``None`` if the worker has the newest."""
    want_residency: bool
    pins: Retention | None
    """``None`` if the worker has the newest."""
    dropped: tuple[FileVersionId, ...]


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A member with what is known of it beyond the view."""

    member: Member
    statistics: dict[str, Any]
    """What the worker last said of itself."""
    suspicions: int
    """How often it was reported to serve bad bytes."""
    suspicion: str
    """The last such report."""


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where one block is, and should be."""

    index: int
    size: int
    owners: tuple[WorkerId, ...]
    holders: tuple[tuple[WorkerId, str], ...]
    """Worker and tier."""
    digest_known: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of a file."""

    version: Version
    entry: FileEntry
    blocks: tuple[BlockPlace, ...]
    served_bytes: dict[str, int] = field(default_factory=dict)
    """Bytes that the members have served of it, by where they had them."""
    filled_bytes: dict[str, int] = field(default_factory=dict)
    unreachable: tuple[WorkerId, ...] = ()
    """Members that did not answer, so that their bytes are not counted."""


@dataclass(frozen=True, slots=True)
class EvictedFiles:
    """What evicting brought, over all members."""

    size: int
    refused: tuple[str, ...]
    """Paths that stayed on some worker, because lent out or pinned."""
    unreachable: tuple[WorkerId, ...]
