"""The HTTP API's bodies of warm-ups and residency maps."""

from typing import Annotated

from pydantic import Field

from cachefs.coordinator.bodies import Body, FilesBody, Text
from cachefs.coordinator.store.maps import MapHead
from cachefs.core.jobs import State, WarmJob


class NewWarmBody(FilesBody):
    """A warm-up to start."""

    key: Text = ""
    """Whoever asks with the same key while the warm-up runs gets that one."""
    zone: Text = ""
    """Only the workers of this zone fill."""
    copies: Annotated[int, Field(ge=0, le=64)] = 0
    """How many workers shall hold each block; 0 for as many as the dataset says."""
    rate: Annotated[int, Field(ge=0)] = 0
    """Bytes a second, over all workers; 0 for no limit."""
    map: Text = ""
    """The id of a residency map, whose blocks alone are wanted; ``latest`` for the newest."""
    workers: Annotated[list[Text], Field(max_length=10_000, default_factory=list)]
    """Only these workers fill; all for none."""


class WarmJobBody(Body):
    """A warm-up."""

    id: str
    dataset: str
    version: str
    paths: list[str]
    key: str
    zone: str
    copies: int
    rate: int
    map: str
    workers: list[str]
    state: State
    bytes_total: int
    bytes_done: int
    blocks_total: int
    blocks_done: int
    failure: str
    """A failure document as text, if it failed; else empty."""
    created_at: float
    started_at: float
    ended_at: float

    @classmethod
    def of(cls, job: WarmJob) -> "WarmJobBody":
        """Show a warm-up."""
        shown = {name: getattr(job, name) for name in cls.model_fields}
        return cls(
            **shown
            | {"dataset": str(job.dataset), "paths": list(job.paths), "workers": list(job.workers)}
        )


class WarmJobsBody(Body):
    """Warm-ups, the newest first."""

    jobs: list[WarmJobBody]


class NewMapBody(Body):
    """A version whose residency shall be saved."""

    dataset: Text
    version: Text = ""
    """Empty for the current one."""


class MapBody(Body):
    """A residency map."""

    id: str
    dataset: str
    version: str
    saved_at: float
    blocks: int
    bytes: int

    @classmethod
    def of(cls, head: MapHead) -> "MapBody":
        """Show a map."""
        return cls(
            id=head.id,
            dataset=str(head.dataset),
            version=head.version,
            saved_at=head.saved_at,
            blocks=head.blocks,
            bytes=head.size,
        )


class MapsBody(Body):
    """Residency maps, the newest first."""

    maps: list[MapBody]
