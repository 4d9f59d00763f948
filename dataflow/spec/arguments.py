"""What each kind of step takes as its ``with``, and how it may be undone: the types.

The fields are documented here, and by example in ``docs/DATAFLOW.md``. A step gets these ready: durations
in seconds, sizes in bytes, rates in bytes a second. Whatever is a secret is a reference to one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cachefs.core.globs import compile_glob
from cachefs.dataflow.spec import references, shapes
from cachefs.dataflow.spec.expressions import Expression
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.problems import At, quoted
from cachefs.dataflow.spec.shapes import DatasetRef, Record, option, options
from cachefs.dataflow.spec.waiting import condition
from cachefs.errors import ConfigError

Verification = Literal["sha256", "xxh128", "size", "none"]
Priority = Literal["low", "normal", "high"]
Tier = Literal["", "memory", "disk", "nvme"]


def _glob(value: Value, at: At) -> str:
    pattern = shapes.text(value, at)
    try:
        compile_glob(pattern)
    except ConfigError as error:
        raise at.fault(error.message, error.hint) from error
    return pattern


def _drain(value: Value, at: At) -> bool:
    if not shapes.flag(value, at):
        raise at.fault("workers that leave always hand over first", "leave it out")
    return True


_GLOBS = shapes.list_of(_glob, most=1000)
_WORKERS = shapes.whole(0, 100_000)
_ZONE = shapes.text
_TIER = shapes.one_of("memory", "disk", "nvme")
_PARALLEL = shapes.whole(1, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """``scale``: give a pool so many workers. Done when they are live, or have drained and left."""

    dataset: DatasetRef | None = option(shapes.dataset, None)
    """Whose pool; this or ``pool``."""
    pool: str = option(shapes.name("pool"), "")
    workers: int = option(_WORKERS)
    """In all. With 0 the datasets stay known, and none of their bytes stay cached."""
    per_zone: int | None = option(_WORKERS, None)
    """So many in each zone; ``None``: as they come."""
    zones: tuple[str, ...] = option(shapes.list_of(shapes.text), ())
    """Which zones; none for those that the pool knows."""
    drain: bool = option(_drain, True)
    """Those that leave hand over first what only they hold; it is always so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleBack:
    """``compensate`` of ``scale``."""

    restore: bool = option(shapes.flag, False)
    """Back to as many as were wanted when the step began."""
    workers: int | None = option(_WORKERS, None)


@dataclass(frozen=True, slots=True)
class Location:
    """Where files are: in an origin, or in a dataset (``dataset:NAME@VERSION``)."""

    url: str = ""
    dataset: DatasetRef | None = None


def _location(value: Value, at: At) -> Location:
    if isinstance(value, str) and value.startswith("dataset:"):
        return Location(dataset=shapes.dataset(value.removeprefix("dataset:"), at))
    return Location(url=references.url(value, at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate:
    """``migrate``: copy files between any two origins. Done when each is there and compares equal."""

    from_: Location = option(_location)
    to: Location = option(_location)
    include: tuple[str, ...] = option(_GLOBS, ())
    exclude: tuple[str, ...] = option(_GLOBS, ())
    verify: Verification = option(shapes.one_of("sha256", "xxh128", "size", "none"), "xxh128")
    """What copies are compared by."""
    zone: str = option(_ZONE, "")
    """Where the copying is done, and what is copied to."""
    rate: int = option(shapes.rate, 0)
    """Bytes a second, of all its streams; 0 for no limit."""
    parallel: int = option(_PARALLEL, 8)
    """Files, or ranges of files, at once."""
    credentials: Mapping[str, str] = options(references.credentials)
    """``from`` and ``to``: ``profile:NAME``, ``env:PREFIX`` or ``file:PATH``; else the platform's chain."""
    options: Mapping[str, Mapping[str, str]] = options(shapes.mapping_of(shapes.text))
    """``from`` and ``to``: options of the stores, such as ``endpoint_url``."""
    current: bool = option(shapes.flag, False)
    """Of a dataset: whether new opens see the version once it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """``backup``: copy a dataset's files out of the cache to an origin."""

    dataset: DatasetRef = option(shapes.dataset)
    to: str = option(references.url)
    paths: tuple[str, ...] = option(_GLOBS, ())
    verify: Verification = option(shapes.one_of("sha256", "xxh128", "size", "none"), "xxh128")
    rate: int = option(shapes.rate, 0)
    parallel: int = option(_PARALLEL, 8)
    credentials: str = option(references.credentials, "")
    """Of ``to``."""
    options: Mapping[str, str] = options(shapes.text)
    """Of ``to``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCopies:
    """``compensate`` of ``migrate`` and ``backup``."""

    delete: bool = option(shapes.flag)
    """Delete from ``to`` the files that this step wrote, and no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetch:
    """``prefetch``: fill files ahead of use. Done when they are resident and verified."""

    dataset: DatasetRef = option(shapes.dataset)
    paths: tuple[str, ...] = option(_GLOBS, ())
    """Globs; none for all files."""
    tier: Tier = option(_TIER, "")
    copies: int = option(shapes.whole(0, 1000), 0)
    """Workers that hold each block; 0 for the dataset's own number."""
    zone: str = option(_ZONE, "")
    rate: int = option(shapes.rate, 0)
    """Bytes a second, over all workers; 0 for no limit."""
    priority: Priority = option(shapes.one_of("low", "normal", "high"), "normal")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictAgain:
    """``compensate`` of ``prefetch``."""

    evict: bool = option(shapes.flag)
    """Drop the files from the workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Files to look at."""

    dataset: DatasetRef = option(shapes.dataset)
    paths: tuple[str, ...] = option(_GLOBS, ())
    zone: str = option(_ZONE, "")
    copies: int = option(shapes.whole(0, 1000), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """``wait``: until a condition of the cache holds, or a while.

    Without ``dataset`` and ``of`` it looks at the files of all ``prefetch`` steps that it needs.
    """

    condition: Expression | None = option(condition, None)
    """Over the names of :data:`.WAIT_NAMES`."""
    duration: float = option(shapes.duration, 0.0)
    """Seconds; this or ``condition``."""
    dataset: DatasetRef | None = option(shapes.dataset, None)
    paths: tuple[str, ...] = option(_GLOBS, ())
    zone: str = option(_ZONE, "")
    of: tuple[Target, ...] = option(shapes.list_of(Record(Target), least=1), ())
    per: Literal["all", "zone"] = option(shapes.one_of("all", "zone"), "all")
    """Whether it must hold of all zones together, or of each."""
    every: float = option(shapes.duration, 1.0)
    """Seconds between two looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """``verify``: read what is resident again, and compare it with what it must be."""

    dataset: DatasetRef | None = option(shapes.dataset, None)
    """Without it, the files of all ``prefetch`` steps that it needs."""
    paths: tuple[str, ...] = option(_GLOBS, ())
    zone: str = option(_ZONE, "")
    of: tuple[Target, ...] = option(shapes.list_of(Record(Target), least=1), ())
    fraction: float = option(shapes.number(0.0, 1.0), 1.0)
    """Of the blocks: how many are read, evenly spread."""
    rate: int = option(shapes.rate, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOf:
    """A dataset that a process sees as a folder."""

    dataset: DatasetRef = option(shapes.dataset)
    path: str = option(shapes.text)
    """Absolute; or, where processes run on the coordinator's machine, below the folder that it runs in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a process asks of a cluster."""

    cpu: float = option(shapes.number(0.0, 4096.0), 0.0)
    memory: int = option(shapes.size, 0)
    gpu: float = option(shapes.number(0.0, 1024.0), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """``process``: run a program. Done when it ended with a good code."""

    command: tuple[str, ...] = option(shapes.command)
    """The program, then each argument. There is no shell."""
    image: str = option(shapes.text, "")
    """On a cluster, where it is needed; where processes run on the machine itself, it is not looked at."""
    env: Mapping[str, str] = options(references.variable)
    secrets: Mapping[str, str] = options(references.secret_variable)
    """Variables whose values come from ``env:NAME`` or ``file:/PATH`` where the process runs; on a cluster,
    from ``secret:NAME/KEY``."""
    workdir: str = option(shapes.text, "")
    mounts: tuple[MountOf, ...] = option(shapes.list_of(Record(MountOf)), ())
    resources: Resources = option(Record(Resources), Resources())
    queue: str = option(shapes.name("queue"), "")
    """Of Kueue, on a cluster: the process waits in it for its turn."""
    success_codes: tuple[int, ...] = option(shapes.list_of(shapes.whole(0, 255), least=1), (0,))
    retry_codes: tuple[int, ...] = option(shapes.list_of(shapes.whole(1, 255)), (75,))
    """Codes that say: try again (75 is ``EX_TEMPFAIL`` of ``sysexits.h``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInstead:
    """``compensate`` of ``process``: another program."""

    command: tuple[str, ...] = option(shapes.command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """When a batch is good enough for the next one to begin."""

    ready_p95: float | None = option(shapes.duration, None)
    """Seconds within which 95 % of a batch must be ready."""
    error_rate: float | None = option(shapes.number(0.0, 1.0), None)
    """Failed starts, of all replicas of the batch; ``None``: none may fail. Failed ones start again."""
    command: tuple[str, ...] = option(shapes.command, ())
    """A program that ends with 0 if all is well, asked after each batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """When a replica of a ``local`` target is ready."""

    line: str = option(shapes.text, "")
    """A line of its output begins so: ``ready``, ``INFO: Application startup complete``."""
    after: float = option(shapes.duration, 0.5)
    """Seconds that it has lived; without ``line``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutHint:
    """What must be so before a batch begins, as far as anybody can tell."""

    deadline: float | None = option(shapes.duration, None)
    """Seconds within which a replica would be ready on the node that is nearest to the model."""
    dataset: DatasetRef | None = option(shapes.dataset, None)
    """What replicas read; without it nothing is asked."""


_TARGETS = ("deployment", "statefulset", "local")
_TARGET_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII
)
"""What Kubernetes calls a DNS subdomain."""


def _target(value: Value, at: At) -> str:
    kind, slash, name = shapes.text(value, at).partition("/")
    if not slash or not name:
        raise at.fault(f"not a target: {quoted(str(value))}", "write deployment/NAME or local/NAME")
    if kind not in _TARGETS:
        raise at.unknown("target", kind, _TARGETS)
    if kind != "local" and not _TARGET_NAME.fullmatch(name):
        raise at.fault(
            f"not the name of a {kind}: {quoted(name)}",
            "it has a-z, 0-9, - and . only, and no namespace",
        )
    return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """``rollout``: start replicas in batches, each only if the one before is healthy."""

    target: str = option(_target)
    """``deployment/NAME``, ``statefulset/NAME``, or ``local/NAME``: processes of this machine."""
    replicas: int = option(shapes.whole(0, 100_000))
    command: tuple[str, ...] = option(shapes.command, ())
    """Of ``local``: what each replica is; ``{replica}`` and ``{revision}`` are replaced."""
    revision: str = option(shapes.text, "")
    """What tells old replicas from new ones; of ``local``, empty for a digest of the command."""
    image: str = option(shapes.text, "")
    """Of a cluster's targets."""
    surge: int = option(shapes.whole(1, 100_000), 1)
    """Replicas beyond ``replicas`` that may be there while old ones are replaced."""
    batch: tuple[int, ...] = option(shapes.list_of(shapes.whole(1, 100_000), least=1), ())
    """Replicas that are there after the first batch, the second, …; none: all at once."""
    interval: float = option(shapes.duration, 0.0)
    """Seconds between a healthy batch and the next one."""
    ready: Readiness = option(Record(Readiness), Readiness())
    """Of ``local``; a cluster's targets have probes."""
    hint: RolloutHint = option(Record(RolloutHint), RolloutHint())
    health: Health = option(Record(Health), Health())


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """``compensate`` of ``rollout``: exactly one of them."""

    to_revision: str = option(shapes.text, "")
    replicas: int | None = option(shapes.whole(0, 100_000), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evict:
    """``evict``: drop a dataset's files from the workers; the origin is not touched."""

    dataset: DatasetRef = option(shapes.dataset)
    paths: tuple[str, ...] = option(_GLOBS, ())
    after: float = option(shapes.duration, 0.0)
    """Seconds that it waits first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """``publish``: new opens see a version from now on. Done when it is the current one."""

    dataset: DatasetRef = option(shapes.dataset)
    """With its version: ``llama@v2``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBack:
    """``compensate`` of ``publish``: exactly one of them. A version that came later stays."""

    restore: bool = option(shapes.flag, False)
    """Back to what was current when the step began."""
    version: str = option(shapes.text, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """``approve``: somebody must say yes."""

    message: str = option(shapes.text, "")
    approvers: tuple[str, ...] = option(shapes.list_of(shapes.text), ())
    """Who may; none for whoever may use the coordinator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """``notify``: send a message to a URL. Done when it is answered with 2xx."""

    url: str = option(references.http_url)
    """Or ``env:NAME``, ``file:/PATH``: of many hooks, the URL is the secret."""
    method: Literal["POST", "PUT"] = option(shapes.one_of("POST", "PUT"), "POST")
    headers: Mapping[str, str] = options(references.header)
    secret_headers: Mapping[str, str] = options(references.secret_header)
    """``Authorization: env:NAME``."""
    body: Value = option(shapes.anything, None)
    """Sent as JSON; ``None`` for the run, its state and its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubFlow:
    """``flow``: run another flow as a step; exactly one of ``name`` and ``document``."""

    name: str = option(shapes.text, "")
    """``[namespace/]name``: the document that was last submitted under it."""
    document: Mapping[str, Value] | None = option(shapes.mapping, None)
    """A whole flow. Its templates are its own: only ``params`` passes values to it."""
    params: Mapping[str, Value] = options(shapes.anything)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelFlow:
    """``compensate`` of ``flow``: have the other flow compensate."""

    cancel: bool = option(shapes.flag)
