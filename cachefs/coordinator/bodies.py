"""The HTTP API's bodies: what OpenAPI shows, and what a request must look like.

Unknown fields are refused, so that a misspelt one is not silently without effect. What the values
mean is checked where the rules are.
"""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from cachefs.coordinator.answers import EvictedFiles, Explanation, MemberStatus
from cachefs.coordinator.calls import Drained
from cachefs.coordinator.declaring import DatasetChange
from cachefs.coordinator.store.events import Event
from cachefs.core.datasets import DEFAULT_POOL, Consistency, Dataset, OriginSpec, Version
from cachefs.core.names import DatasetName
from cachefs.core.residency import Summary

Text = Annotated[str, Field(max_length=4096)]
Texts = Annotated[list[Text], Field(max_length=10_000)]


class Body(BaseModel):
    """A JSON object with known fields."""

    model_config = ConfigDict(extra="forbid")


class FailureBody(Body):
    """Why a request failed."""

    error: str
    message: str
    subject: str = ""
    hint: str = ""
    retry_after_seconds: float | None = None


class OriginBody(Body):
    """Where the files of a dataset are, and how to open it. Never holds a secret."""

    url: Text
    options: dict[Text, Text] = {}


class NewDatasetBody(Body):
    """A dataset to declare."""

    name: Text
    origin: OriginBody
    include: Texts = []
    exclude: Texts = []
    consistency: Text = "pinned"
    pool: Text = DEFAULT_POOL
    replicas: int = 1
    pins: Texts = []
    ttl_seconds: float | None = None
    versions_kept: int = 3
    checksums: dict[Text, Text] = {}

    def value(self) -> Dataset:
        """Return what is declared."""
        return Dataset(
            name=DatasetName.parse(self.name),
            origin=OriginSpec(self.origin.url, dict(self.origin.options)),
            include=tuple(self.include),
            exclude=tuple(self.exclude),
            consistency=Consistency.parse(self.consistency),
            pool=self.pool,
            replicas=self.replicas,
            pins=tuple(self.pins),
            ttl_seconds=self.ttl_seconds,
            versions_kept=self.versions_kept,
        )


class DatasetBody(Body):
    """A dataset."""

    name: str
    origin: OriginBody
    include: list[str]
    exclude: list[str]
    consistency: str
    pool: str
    replicas: int
    pins: list[str]
    ttl_seconds: float | None
    versions_kept: int
    current: str | None

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetBody":
        """Show a dataset."""
        return cls(
            name=str(dataset.name),
            origin=_origin(dataset.origin),
            include=list(dataset.include),
            exclude=list(dataset.exclude),
            consistency=str(dataset.consistency),
            pool=dataset.pool,
            replicas=dataset.replicas,
            pins=list(dataset.pins),
            ttl_seconds=dataset.ttl_seconds,
            versions_kept=dataset.versions_kept,
            current=dataset.current,
        )


class DatasetsBody(Body):
    """Datasets, sorted by full name."""

    datasets: list[DatasetBody]
    next: str | None
    """What to pass as ``after`` for the rest; absent at the end."""


class DatasetChangeBody(Body):
    """What of a dataset shall be different; what is absent stays."""

    replicas: int | None = None
    consistency: Text | None = None
    pool: Text | None = None
    pin: Texts = []
    unpin: Texts = []
    ttl_seconds: float | None = None
    current: Text | None = None

    def value(self) -> DatasetChange:
        """Return the change."""
        return DatasetChange(
            replicas=self.replicas,
            consistency=None if self.consistency is None else Consistency.parse(self.consistency),
            pool=self.pool,
            pin=tuple(self.pin),
            unpin=tuple(self.unpin),
            ttl_seconds=self.ttl_seconds,
            current=self.current,
        )


class VersionBody(Body):
    """One version of a dataset, without its file list."""

    id: str
    dataset: str
    origin: OriginBody
    client: str
    client_reason: str
    file_count: int
    size: int
    listed_at: float
    labels: list[str] = []

    @classmethod
    def of(cls, version: Version, labels: Iterable[str] = ()) -> "VersionBody":
        """Show a version."""
        return cls(
            labels=list(labels),
            id=version.id,
            dataset=str(version.dataset),
            origin=_origin(version.origin),
            client=version.client,
            client_reason=version.client_reason,
            file_count=version.file_count,
            size=version.size,
            listed_at=version.listed_at,
        )


class NewVersionBody(Body):
    """A version to publish."""

    origin: OriginBody
    label: Text = ""


class VersionsBody(Body):
    """The versions that are kept, the newest first."""

    versions: list[VersionBody]


class ResolvedBody(Body):
    """A version, and how to read it."""

    dataset: str
    version: str
    origin: OriginBody
    client: str
    pool: str
    replicas: int
    listed_at: float


class MemberBody(Body):
    """A member as the view has it."""

    worker: str
    incarnation: str
    node: str
    zone: str
    pool: str
    weight: float
    data_address: str
    control_address: str
    socket_path: str
    draining: bool


class ViewBody(Body):
    """The members at one epoch."""

    epoch: int
    members: list[MemberBody]


class MemberStatusBody(MemberBody):
    """A member with what is known of it."""

    statistics: dict[str, Any]
    suspicions: int
    suspicion: str

    @classmethod
    def of(cls, status: MemberStatus) -> "MemberStatusBody":
        """Show a member."""
        member = {name: getattr(status.member, name) for name in MemberBody.model_fields}
        return cls(
            **member,
            statistics=status.statistics,
            suspicions=status.suspicions,
            suspicion=status.suspicion,
        )


class MembersBody(Body):
    """The members with what is known of them."""

    members: list[MemberStatusBody]


class DrainBody(Body):
    """How to drain a worker."""

    dry_run: bool = False


class DrainedBody(Body):
    """What a worker hands over, or would."""

    blocks: int
    bytes: int
    seconds: float
    done: bool

    @classmethod
    def of(cls, drained: Drained) -> "DrainedBody":
        """Show what a worker answered."""
        return cls(
            blocks=drained.blocks,
            bytes=drained.size,
            seconds=drained.seconds,
            done=drained.done,
        )


class FilesBody(Body):
    """Files of a version of a dataset."""

    dataset: Text
    version: Text = ""
    """Empty for the current one."""
    paths: Texts = []
    """Files and folders; empty for all."""


class EvictedBody(Body):
    """What evicting brought."""

    bytes: int
    refused: list[str]
    """Paths that stayed on some worker, because lent out or pinned."""
    unreachable: list[str]
    """Workers that did not answer."""

    @classmethod
    def of(cls, evicted: EvictedFiles) -> "EvictedBody":
        """Show what evicting brought."""
        return cls(
            bytes=evicted.size,
            refused=list(evicted.refused),
            unreachable=list(evicted.unreachable),
        )


class ShareBody(Body):
    """How much of a version one tier of one worker holds."""

    worker: str
    tier: str
    blocks: int
    bytes: int


class ResidencyBody(Body):
    """How much of a version is resident, and where."""

    dataset: str
    version: str
    blocks_total: int
    bytes_total: int
    blocks_resident: int
    bytes_resident: int
    ratio: float
    shares: list[ShareBody]

    @classmethod
    def of(cls, version: Version, summary: Summary) -> "ResidencyBody":
        """Show a summary."""
        return cls(
            dataset=str(version.dataset),
            version=version.id,
            blocks_total=summary.blocks_total,
            bytes_total=summary.bytes_total,
            blocks_resident=summary.blocks_resident,
            bytes_resident=summary.bytes_resident,
            ratio=summary.ratio,
            shares=[
                ShareBody(worker=one.worker, tier=one.tier, blocks=one.blocks, bytes=one.size)
                for one in summary.shares
            ],
        )


class HolderBody(Body):
    """Who holds a block, where."""

    worker: str
    tier: str


class BlockBody(Body):
    """Where one block is, and should be."""

    index: int
    bytes: int
    owners: list[str]
    holders: list[HolderBody]
    digest_known: bool


class ExplanationBody(Body):
    """All that is known of a file."""

    dataset: str
    version: str
    path: str
    size: int
    token: str
    digest: str
    file_version: str
    origin: OriginBody
    client: str
    client_reason: str
    blocks_total: int
    blocks: list[BlockBody]
    next: int | None
    """What to pass as ``first`` for the rest; absent at the end."""
    served_bytes: dict[str, int]
    """Bytes of the file that workers have served, by where they had them."""
    filled_bytes: dict[str, int]
    unreachable: list[str]
    """Workers that did not answer, so that their bytes are not counted."""

    @classmethod
    def of(cls, found: Explanation, *, first: int, blocks_total: int) -> "ExplanationBody":
        """Show what is known of a file."""
        following = first + len(found.blocks)
        return cls(
            dataset=str(found.version.dataset),
            version=found.version.id,
            path=found.entry.path,
            size=found.entry.size,
            token=found.entry.token,
            digest=found.entry.digest,
            file_version=found.entry.file_version,
            origin=_origin(found.version.origin),
            client=found.version.client,
            client_reason=found.version.client_reason,
            blocks_total=blocks_total,
            blocks=[
                BlockBody(
                    index=block.index,
                    bytes=block.size,
                    owners=list(block.owners),
                    holders=[HolderBody(worker=one, tier=tier) for one, tier in block.holders],
                    digest_known=block.digest_known,
                )
                for block in found.blocks
            ],
            next=following if following < blocks_total else None,
            served_bytes=found.served_bytes,
            filled_bytes=found.filled_bytes,
            unreachable=list(found.unreachable),
        )


class EventBody(Body):
    """Something that happened."""

    id: int
    at: float
    kind: str
    subject: str
    message: str


class EventsBody(Body):
    """Events, the oldest first."""

    events: list[EventBody]

    @classmethod
    def of(cls, events: tuple[Event, ...]) -> "EventsBody":
        """Show events."""
        return cls(events=[EventBody(**event._asdict()) for event in events])


class ClusterBody(Body):
    """What all processes agree on, and what time it is here."""

    block_size: int
    digest: str
    lease_seconds: float
    wire_version: int
    fingerprint: str
    version: str
    """Of the coordinator's package."""
    now: float
    """Seconds since 1970, by the coordinator's clock."""


def _origin(origin: OriginSpec) -> OriginBody:
    return OriginBody(url=origin.url, options=dict(origin.options))
