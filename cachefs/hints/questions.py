"""What hints are asked and told: questions and outcomes, as OpenAPI shows them.

The fields of a question are those of :class:`~cachefs.core.hints.asking.Question`, in the spelling of the
API: durations in seconds end in ``_s``. Unknown fields are refused, so that a misspelt one is not silently
without effect. What the values mean is checked where the rules are.
"""

from typing import Annotated, Literal

from pydantic import Field

from cachefs.coordinator.bodies import Body, Text, Texts
from cachefs.core.hints.answer import Breakdown
from cachefs.core.hints.asking import (
    Affinity,
    Gang,
    Line,
    Loader,
    LoaderMode,
    OwnPlace,
    Question,
    Reading,
    WantedGpu,
    dataset_named,
)
from cachefs.errors import ConfigError
from cachefs.hints.outcomes import Recalled

DATASETS_MAX = 64
JOBS_MAX = 1024
"""Of a line that is asked about at once; 64 are matched with one another at a time."""
PLACES_MAX = 10_000
_LINE_NODES = 4
"""Nodes in the answer for each job of a line, which is told where to start."""
LIMIT_MAX = 10_000
_LABELS_MAX = 256
_PHASES_MAX = 32
_YEAR = 365 * 86400.0

Positive = Annotated[float, Field(gt=0, le=_YEAR)]
Seconds = Annotated[float, Field(ge=0, le=_YEAR)]
Labels = Annotated[dict[Text, Text], Field(max_length=_LABELS_MAX)]


class ReadingBody(Body):
    """What a job reads of one dataset."""

    name: Text
    """``[namespace/]name[@version]``, with or without ``cachefs://``."""
    revision: Text | None = None
    """A version's id, a part of it, or its label; absent for the current one."""
    paths: Texts = Field(default_factory=list)
    """Patterns of files; none for all."""
    shard: Literal["rank"] | None = None
    """``rank`` if each member of a gang reads a share of its own."""
    affinity: Affinity = Affinity.PREFERRED
    """``required``: a node that holds none of its bytes is no candidate."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """How much its seconds count among those of the job's other datasets."""

    def value(self) -> Reading:
        """Return what is read."""
        dataset, version = dataset_named(self.name)
        if version and self.revision and version != self.revision:
            raise ConfigError("the name says one version, revision another", subject=self.name)
        return Reading(
            dataset=dataset,
            version=self.revision or version,
            paths=tuple(self.paths),
            by_rank=self.shard == "rank",
            affinity=self.affinity,
            weight=self.weight,
        )


class TopologyBody(Body):
    """How close the members of a gang are to be: ``island``, ``node``, ``rack``, ``zone``, ``region``."""

    required: Text | None = None
    preferred: Text | None = None


class GangBody(Body):
    """Members that start together or not at all."""

    size: int
    min_available: int | None = None
    """How many are enough; absent for all of them."""
    topology: TopologyBody = Field(default_factory=TopologyBody)

    def value(self) -> Gang:
        """Return the gang."""
        return Gang(
            size=self.size,
            least=self.min_available,
            required_topology=self.topology.required,
            preferred_topology=self.topology.preferred,
        )


class GpuBody(Body):
    """What each member needs of a node's accelerators."""

    count: int = 1
    model: Text | None = None
    """Part of the accelerator's name, in any case."""
    memory_gib: float | None = None
    """Of each, at least."""
    mig_profile: Text | None = None
    fraction: float | None = None

    def value(self) -> WantedGpu:
        """Return what is wanted."""
        return WantedGpu(
            count=self.count,
            model=self.model,
            memory_gib=self.memory_gib,
            mig_profile=self.mig_profile,
            fraction=self.fraction,
        )


class LoaderBody(Body):
    """How the job reads its bytes."""

    mode: LoaderMode = LoaderMode.PIPELINED
    required_fraction: float = 1.0
    """Of the bytes, without which the job cannot begin; for a lazy loader."""


class ImageBody(Body):
    """The container image that a node must have, or pull."""

    name: Text
    bytes: Annotated[int, Field(ge=0)] = 0


class ReserveBody(Body):
    """Keep the best place."""

    ttl_s: Annotated[float, Field(gt=0, le=86400)]
    """For so long, or until the job is told to be ready there."""


class QuestionBody(Body):
    """Where would this job be ready soonest?"""

    job_id: Text = ""
    """The asker's, shown with reservations and warm-ups."""
    tenant: Text = ""
    datasets: Annotated[list[ReadingBody], Field(max_length=DATASETS_MAX)] = Field(
        default_factory=list
    )
    gang: GangBody | None = None
    """Absent for one member alone."""
    gpu: GpuBody | None = None
    """Absent if no accelerator is needed."""
    image: ImageBody | None = None
    candidates: Texts = Field(default_factory=list)
    """The nodes to choose from; all for none."""
    selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""
    loader: LoaderBody = Field(default_factory=LoaderBody)
    deadline_s: Positive | None = None
    """From now, by when the job must be ready."""
    expected_duration_s: Positive | None = None
    """How long it runs; learned from others of its datasets if absent."""
    max_staleness_s: Annotated[float, Field(ge=0, le=_YEAR)] | None = None
    """If the knowledge of a node is older, the answer says so in ``degraded``."""
    reserve: ReserveBody | None = None
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = 32
    """Of nodes in the answer."""
    explain: bool = False
    """Say of candidates that cannot take the job why not, however many they are."""
    prefetch: bool = False
    """Start to bring what the best node lacks into its cache."""
    dry_run: bool = False
    """Answer only: nothing is kept, reserved or begun for it."""
    renderings: Texts | None = None
    """Which forms the answer shall have, too; all if absent."""

    def value(self) -> Question:
        """Return what is asked.

        Raises:
            ConfigError: Something in it makes no sense.
        """
        return Question(
            job=self.job_id,
            tenant=self.tenant,
            readings=tuple(each.value() for each in self.datasets),
            gpu=None if self.gpu is None else self.gpu.value(),
            gang=None if self.gang is None else self.gang.value(),
            image=None if self.image is None else self.image.name,
            image_bytes=0 if self.image is None else self.image.bytes,
            candidates=tuple(self.candidates),
            selector=dict(self.selector),
            loader=Loader(mode=self.loader.mode, required_fraction=self.loader.required_fraction),
            deadline_seconds=self.deadline_s,
            expected_seconds=self.expected_duration_s,
            staleness_seconds_max=self.max_staleness_s,
            reserve_seconds=None if self.reserve is None else self.reserve.ttl_s,
            limit=self.limit,
            every=self.renderings is None or bool(self.renderings),  # some score all candidates
            explain=self.explain,
            prefetch=self.prefetch,
            dry_run=self.dry_run,
        )


class OwnPlaceBody(Body):
    """A place that the asker gives out itself: accelerators with a program that serves a dataset."""

    name: Text
    node: Text
    holds: Text | None = None
    """``[namespace/]name[@version]``: what its program has in the accelerator, and need not load again."""
    busy_s: Annotated[float, Field(ge=0, le=_YEAR)] | None = None
    """For how long its job has been ready there; absent if it is idle."""
    idle_s: Annotated[float, Field(ge=0, le=_YEAR)] = 0.0
    """For how long it has been idle: of several that hold the same, the last used is taken first."""

    def value(self) -> OwnPlace:
        """Return the place."""
        dataset, version = dataset_named(self.holds) if self.holds else (None, None)
        return OwnPlace(
            name=self.name,
            node=self.node,
            dataset=dataset,
            version=version,
            busy_seconds=self.busy_s,
            idle_seconds=self.idle_s,
        )


class LineBody(Body):
    """Jobs that wait in a queue: who of them starts where, so that all are best off?"""

    jobs: Annotated[list[QuestionBody], Field(min_length=1, max_length=JOBS_MAX)]
    """In the order of the line; each needs an id. Those with ``reserve`` may be told to wait."""
    waiting: Annotated[int, Field(ge=0)] = 0
    """How many wait in all, if these are not all of them."""
    places: Annotated[list[OwnPlaceBody], Field(max_length=PLACES_MAX)] = Field(
        default_factory=list
    )
    """Where they could start; wherever accelerators are free, or will be, if absent."""

    def value(self) -> Line:
        """Return what is asked.

        Raises:
            ConfigError: Something in it makes no sense.
        """
        for job in self.jobs:
            # Of a whole line nobody wants all forms and many nodes of each, unless they are asked for.
            job.renderings = job.renderings or []
            if "limit" not in job.model_fields_set:
                job.limit = _LINE_NODES
        return Line(
            questions=tuple(job.value() for job in self.jobs),
            waiting=self.waiting,
            places=tuple(place.value() for place in self.places),
        )


class PartsBody(Body):
    """The ``breakdown`` of a node in a hint."""

    slot_s: Seconds = 0.0
    image_s: Seconds = 0.0
    data_s: Seconds = 0.0
    load_s: Seconds = 0.0
    init_s: Seconds = 0.0
    bottleneck: Text = "init"


class RecalledBody(Body):
    """What a hint said, for a coordinator that has been restarted since, or has not given it."""

    dataset: Text
    """The first that the job reads."""
    breakdown: PartsBody
    """Of the node where the job was started."""
    reservation_token: Text = ""

    def value(self) -> Recalled:
        """Return what is recalled."""
        parts = self.breakdown
        return Recalled(
            dataset=str(dataset_named(self.dataset)[0]),
            breakdown=Breakdown(
                parts.slot_s,
                parts.image_s,
                parts.data_s,
                parts.load_s,
                parts.init_s,
                parts.bottleneck,
            ),
            token=self.reservation_token,
        )


class OutcomeBody(Body):
    """How long it really took."""

    node: Text
    """Where the job, or its first member, was started."""
    ready_s: Annotated[float, Field(ge=0, le=_YEAR)]
    """From the hint until the job was ready."""
    phases: Annotated[
        dict[Text, Annotated[float, Field(ge=0, le=_YEAR)]], Field(max_length=_PHASES_MAX)
    ] = Field(default_factory=dict)
    """Seconds of its parts, as far as they are known: ``image``, ``data``, ``load``, ``init``."""
    recalled: RecalledBody | None = None
    """What the hint said, in case that it is not remembered."""
