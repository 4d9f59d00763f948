"""Hints: on which node a job would be ready soonest, for any scheduler that cares to know.

A hint is advice, and asking for one never fails a job. If nobody answers in time, or the answer makes
no sense, :func:`hint` has *no opinion*: an empty ranking, and the reason. Whoever schedules then does
what it would have done without us. No coordinator answers yet, so that is what everybody gets; the
question is asked all the same, and the names in it are those of the answer's future.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cachefs.config.discovery import Endpoint
from cachefs.core.names import parse_reference, printable
from cachefs.errors import CacheFSError, ConfigError
from cachefs.sdk.dataset import find_system
from cachefs.transport.api import Api

_TIMEOUT_SECONDS = 2.0
"""A scheduler that asks decides hundreds of times a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedDataset:
    """What a job reads of one dataset."""

    name: str
    """``[namespace/]name[@version]``, with or without ``cachefs://``."""
    paths: tuple[str, ...] = ()
    """Patterns of files; none for all."""
    by_rank: bool = False
    """Whether each member of the gang reads a share of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """Members that start together or not at all."""

    size: int
    least: int | None = None
    """How many are enough; all of them for ``None``."""
    required_topology: str | None = None
    """What all must share: ``rack``, ``zone``."""
    preferred_topology: str | None = None
    """What all should share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedGpu:
    """What each member needs of a node's accelerators."""

    count: int = 1
    model: str | None = None
    memory_gib: float | None = None
    mig_profile: str | None = None
    fraction: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedNode:
    """A node, and how soon the job would be ready there."""

    node: str
    score: float
    """0 to 100; 100 for the best."""
    ready_seconds: float
    """From now, by half of all chances."""
    ready_seconds_p90: float
    """From now, by nine chances in ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """The answer."""

    nodes: tuple[RankedNode, ...] = ()
    """The best first; empty for no opinion."""
    reason: str = ""
    """Why there is no opinion, for a log."""
    document: Mapping[str, Any] = field(default_factory=dict)
    """All that was answered, as it came."""

    @property
    def has_opinion(self) -> bool:
        """Whether any node is better known than another."""
        return bool(self.nodes)


def hint(
    *datasets: str | WantedDataset,
    job: str = "",
    tenant: str = "",
    gang: Gang | None = None,
    gpu: WantedGpu | None = None,
    candidates: Sequence[str] = (),
    selector: Mapping[str, str] | None = None,
    loader: str = "pipelined",
    required_fraction: float = 1.0,
    deadline_seconds: float | None = None,
    expected_seconds: float | None = None,
    staleness_seconds_max: float | None = None,
    reserve_seconds: float | None = None,
    limit: int = 32,
    explain: bool = False,
    coordinator: str | None = None,
    token_file: str | Path | None = None,
    state: str | Path | None = None,
) -> Hint:
    """Ask where a job that reads datasets would be ready soonest.

    Waits two seconds at most. Today nobody answers: the ranking is empty, with the reason.

    Args:
        datasets: What the job reads, by name or in detail.
        job: The job's id, to which an outcome can be told later.
        tenant: Whose it is.
        gang: Who starts together; one member alone for ``None``.
        gpu: What each member needs.
        candidates: The nodes to choose from; all for none.
        selector: Labels that a node must have.
        loader: ``pipelined``, ``serial`` or ``lazy``: whether the next tier is read while the last is.
        required_fraction: Of the bytes, without which the job cannot begin.
        deadline_seconds: From now, by when it must be ready.
        expected_seconds: How long it runs.
        staleness_seconds_max: How old the knowledge of what is cached where may be.
        reserve_seconds: Keep a place for so long.
        limit: Of nodes in the answer.
        explain: Whether the answer says how the seconds come about.
        coordinator: As in :func:`cachefs.sdk.open_dataset`.
        token_file: Likewise.
        state: Likewise.

    Raises:
        ConfigError: A dataset's name is malformed; nothing else is ever raised on purpose.

    Example:
        >>> advice = hint("llama@3fb2", gpu=WantedGpu(memory_gib=80))
        >>> best = advice.nodes[0].node if advice.has_opinion else None
    """
    question = {
        "job_id": job,
        "tenant": tenant,
        "datasets": [_dataset(each) for each in datasets],
        "gang": None if gang is None else _gang(gang),
        "gpu": None if gpu is None else {name: getattr(gpu, name) for name in gpu.__slots__},
        "candidates": list(candidates),
        "selector": dict(selector or {}),
        "loader": {"mode": loader, "required_fraction": required_fraction},
        "deadline_s": deadline_seconds,
        "expected_duration_s": expected_seconds,
        "max_staleness_s": staleness_seconds_max,
        "reserve": None if reserve_seconds is None else {"ttl_s": reserve_seconds},
        "limit": limit,
        "explain": explain,
    }
    return _ask(question, partial(find_system, coordinator, token_file, state))


def _ask(question: Mapping[str, Any], find: Callable[[], Endpoint]) -> Hint:
    try:
        endpoint = find()
        api = Api(endpoint.coordinator, endpoint.token)
        answer = api.post("/v1/hints", question, timeout_seconds=_TIMEOUT_SECONDS)
        nodes = tuple(_ranked(each) for each in answer["nodes"])
    except CacheFSError as error:
        return Hint(reason=str(error))
    except (KeyError, TypeError, ValueError) as error:
        return Hint(reason=f"the answer makes no sense: {error!r}")
    return Hint(nodes=nodes, reason="" if nodes else "no node is known", document=answer)


def _dataset(wanted: str | WantedDataset) -> dict[str, Any]:
    if isinstance(wanted, str):
        wanted = WantedDataset(name=wanted)
    readings = [reading for reading in parse_reference(wanted.name) if not reading.path]
    if not readings:
        raise ConfigError(
            f"{printable(wanted.name)!r} names a file",
            hint="name the dataset, and the file in paths",
        )
    return {
        "name": str(readings[0].dataset),
        "revision": readings[0].version,
        "paths": list(wanted.paths),
        "shard": "rank" if wanted.by_rank else None,
    }


def _gang(gang: Gang) -> dict[str, Any]:
    return {
        "size": gang.size,
        "min_available": gang.size if gang.least is None else gang.least,
        "topology": {"required": gang.required_topology, "preferred": gang.preferred_topology},
    }


def _ranked(each: Mapping[str, Any]) -> RankedNode:
    return RankedNode(
        node=str(each["node"]),
        score=float(each["score"]),
        ready_seconds=float(each["ready_s"]["p50"]),
        ready_seconds_p90=float(each["ready_s"]["p90"]),
    )
