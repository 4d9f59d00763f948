"""What somebody asks for: the data that a job reads, and what its members need of a node."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cachefs.core.names import DatasetName, parse_reference, printable
from cachefs.errors import ConfigError

GANG_LIMIT = 10_000
"""Members of one gang: more are a mistake."""


class LoaderMode(StrEnum):
    """How a loader reads."""

    PIPELINED = "pipelined"
    """All sources at once, and the next tier while the last is read: its slowest part counts."""
    SERIAL = "serial"
    """One source after the other: all parts add up."""
    LAZY = "lazy"
    """Pipelined, and the job begins with a part of the bytes."""


class Affinity(StrEnum):
    """How much a dataset's place binds."""

    PREFERRED = "preferred"
    """A node without its bytes is slower, no more."""
    REQUIRED = "required"
    """A node that holds none of its bytes is no candidate."""


def dataset_named(text: str) -> tuple[DatasetName, str | None]:
    """Return the dataset that somebody named, ``[namespace/]name[@version]``, and the version.

    Raises:
        ConfigError: It is not a dataset's name.
    """
    named = [one for one in parse_reference(text) if not one.path]
    if not named:
        raise ConfigError(
            f"{printable(text)!r} names a file", hint="name the dataset, and the file in paths"
        )
    return named[0].dataset, named[0].version


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a job reads of one dataset."""

    dataset: DatasetName
    version: str | None = None
    """The current one for ``None``."""
    paths: tuple[str, ...] = ()
    """Patterns of files; none for all."""
    by_rank: bool = False
    """Whether each member of the gang reads a share of its own."""
    affinity: Affinity = Affinity.PREFERRED
    weight: float = 1.0
    """How much its seconds count among those of the job's other datasets."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 < self.weight < float("inf"):
            raise ConfigError("a dataset's weight is a number above 0", subject=str(self.dataset))


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedGpu:
    """What each member needs of a node's accelerators."""

    count: int = 1
    model: str | None = None
    """Part of the accelerator's name, in any case: ``H100``."""
    memory_gib: float | None = None
    """Of each, at least."""
    mig_profile: str | None = None
    """A slice of one accelerator: ``1g.10gb``."""
    fraction: float | None = None
    """Of one accelerator, above 0 and at most 1; its memory is what ``memory_gib`` says."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.count <= 1024:
            raise ConfigError("accelerators are counted from 0 to 1024")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ConfigError("a fraction of an accelerator is above 0 and at most 1")
        if self.count > 1 and (self.fraction is not None or self.mig_profile is not None):
            raise ConfigError("a fraction or a MIG profile is of one accelerator, not of several")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """Members that start together or not at all."""

    size: int
    least: int | None = None
    """How many are enough; all of them for ``None``."""
    required_topology: str | None = None
    """What all must share: ``node``, ``island``, ``rack``, ``zone``."""
    preferred_topology: str | None = None
    """What all should share."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 1 <= self.size <= GANG_LIMIT:
            raise ConfigError(f"a gang has 1 to {GANG_LIMIT} members")
        if self.least is not None and not 1 <= self.least <= self.size:
            raise ConfigError("the least of a gang is between 1 and its size")
        for level in (self.required_topology, self.preferred_topology):
            if level is not None and level not in LEVELS:
                raise ConfigError(f"{level!r} is no level of topology", hint=", ".join(LEVELS))


LEVELS = ("island", "node", "rack", "zone", "region")
"""Levels of topology, the closest first. An island is a set of accelerators joined by NVLink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How the job reads its bytes."""

    mode: LoaderMode = LoaderMode.PIPELINED
    required_fraction: float = 1.0
    """Of the bytes, without which the job cannot begin; for a lazy loader."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.required_fraction <= 1:
            raise ConfigError("the fraction that a loader requires is between 0 and 1")

    @property
    def fraction(self) -> float:
        """The part of the bytes that stands between the job and its start."""
        return self.required_fraction if self.mode is LoaderMode.LAZY else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Where would this job be ready soonest?"""

    job: str = ""
    """An id of the asker's, to which an outcome can be told."""
    tenant: str = ""
    readings: tuple[Reading, ...] = ()
    gpu: WantedGpu | None = None
    """What each member needs; nothing for ``None``."""
    gang: Gang | None = None
    """One member alone for ``None``."""
    image: str | None = None
    """The container image that a node must have, or pull."""
    image_bytes: int = 0
    candidates: tuple[str, ...] = ()
    """The nodes to choose from; all for none."""
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that a node must have."""
    loader: Loader = field(default_factory=Loader)
    deadline_seconds: float | None = None
    """From now, by when it must be ready."""
    expected_seconds: float | None = None
    """How long it runs; learned from earlier ones of its datasets for ``None``."""
    staleness_seconds_max: float | None = None
    """How old the knowledge of a node may be."""
    reserve_seconds: float | None = None
    """Keep the best place for so long."""
    limit: int = 32
    """Of nodes in the answer."""
    every: bool = False
    """Whether the answer also gives the bare seconds of every candidate that could take the job."""
    explain: bool = False
    prefetch: bool = False
    """Have what the best node lacks brought there."""
    dry_run: bool = False
    """Whether to answer only: nothing is kept, reserved or begun for it."""

    @property
    def keep_seconds(self) -> float | None:
        """For how long a place is to be kept; ``None`` for none."""
        return None if self.dry_run else self.reserve_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPlace:
    """A place that the asker gives out itself: an accelerator, or several, with a model server."""

    name: str
    """Unlike all others of the line: ``n1/0``."""
    node: str
    dataset: DatasetName | None = None
    """What the program there has in its accelerator, so that a job which reads it need load nothing."""
    version: str | None = None
    """The current one for ``None``."""
    busy_seconds: float | None = None
    """For how long its job has been ready; ``None`` if it is idle."""
    idle_seconds: float = 0.0
    """For how long it has been idle: of several that hold the same, the last used is taken first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Jobs that wait, and who of them starts where?"""

    questions: tuple[Question, ...]
    """In the order of the line; those that ask to have a place kept may be told to wait."""
    waiting: int = 0
    """How many wait in all, those not asked about included."""
    places: tuple[OwnPlace, ...] = ()
    """Where they could start; wherever accelerators are free, or will be, for none."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        jobs = [question.job for question in self.questions]
        if not all(jobs) or len(set(jobs)) != len(jobs):
            raise ConfigError("each job in a line has an id of its own")
        names = [place.name for place in self.places]
        if len(set(names)) != len(names):
            raise ConfigError("each place has a name of its own")
