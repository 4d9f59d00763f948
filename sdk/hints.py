"""Hints: on which node a job would be ready soonest, for any scheduler that cares to know.

A hint is advice, and asking for one never fails a job. If nobody answers in time, or the answer makes
no sense, :func:`hint` has *no opinion*: an empty ranking, and the reason. Whoever schedules then does
what it would have done without us. Whoever tells later how long it really took (:func:`tell_outcome`) makes
the next hints better::

    advice = hint("llama@3fb2", gpu=WantedGpu(memory_gib=80))
    best = advice.nodes[0].node if advice.has_opinion else None

Whoever has a queue asks about all of it at once (:func:`hint_queue`), so that a place goes to the job that it is
best for and not to the first in line.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cachefs.config.discovery import Endpoint
from cachefs.core.hints.asking import Gang, WantedGpu, dataset_named
from cachefs.errors import CacheFSError, NotKnownError
from cachefs.sdk.dataset import find_system
from cachefs.transport.api import Api

__all__ = [
    "Gang",
    "Hint",
    "OwnPlace",
    "RankedNode",
    "WaitingJob",
    "WantedDataset",
    "WantedGpu",
    "hint",
    "hint_queue",
    "tell_outcome",
]
_TIMEOUT_SECONDS = 2.0
"""A scheduler that asks decides hundreds of times a minute."""
_QUEUE_TIMEOUT_SECONDS = 5.0
"""A queue of a thousand jobs takes a second or two to be matched with thousands of nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedDataset:
    """What a job reads of one dataset."""

    name: str
    """``[namespace/]name[@version]``, with or without ``cachefs://``."""
    paths: tuple[str, ...] = ()
    """Patterns of files; none for all."""
    by_rank: bool = False
    """Whether each member of the gang reads a share of its own."""
    required: bool = False
    """Whether a node that holds none of it is no candidate."""
    weight: float = 1.0
    """How much its seconds count among those of the job's other datasets."""


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
    cached: float = 0.0
    """The share of the job's bytes that the node holds, 0 to 1."""
    bottleneck: str = ""
    """What the longest part waits for: ``nvme:n1``, ``origin:s3://bucket``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """The answer."""

    id: str = ""
    """To which an outcome can be told."""
    dataset: str = ""
    """The first that the job reads."""
    nodes: tuple[RankedNode, ...] = ()
    """The best first; empty for no opinion."""
    gang: tuple[str, ...] = ()
    """The node of each member, by rank; empty without a gang, or if it finds no place."""
    wait_for: str = ""
    """The node that is worth waiting for, which is kept; empty if none is."""
    reservation: str = ""
    """The token of the place that is kept, if one was asked for and could be."""
    start: str = ""
    """The node, or the asker's own place, on which a job of a queue starts; empty while others come first."""
    starts_now: bool = False
    """Whether it starts there at once; else it waits for the place, which is kept."""
    reason: str = ""
    """Why there is no opinion, or it is worth less than usual, for a log."""
    document: Mapping[str, Any] = field(default_factory=dict)
    """All that was answered, as it came."""

    @property
    def has_opinion(self) -> bool:
        """Whether any node is better known than another."""
        return bool(self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A job in a queue."""

    job: str
    """An id of its own."""
    datasets: tuple[str | WantedDataset, ...] = ()
    gang: Gang | None = None
    gpu: WantedGpu | None = None
    candidates: tuple[str, ...] = ()
    """The nodes to choose from; all for none."""
    selector: Mapping[str, str] = field(default_factory=dict)
    expected_seconds: float | None = None
    """How long it runs; learned from others of its datasets for ``None``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPlace:
    """A place that the asker gives out itself: accelerators with a program that serves a dataset."""

    name: str
    node: str
    holds: str | None = None
    """The dataset that the program has in its accelerator."""
    busy_seconds: float | None = None
    """For how long its job has been ready; ``None`` if it is idle."""
    idle_seconds: float = 0.0


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
    prefetch: bool = False,
    limit: int = 32,
    explain: bool = False,
    renderings: Sequence[str] = (),
    coordinator: str | None = None,
    token_file: str | Path | None = None,
    state: str | Path | None = None,
) -> Hint:
    """Ask where a job that reads datasets would be ready soonest; waits two seconds at most.

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
        reserve_seconds: Keep a place for so long. Only then may the answer be to wait.
        prefetch: Begin to bring what the best node lacks.
        limit: Of nodes in the answer.
        explain: Whether the answer says of all who are refused why.
        renderings: Forms that schedulers take, to be in the answer's document: ``slurm``, ``ray`` …
        coordinator: As in :func:`cachefs.sdk.open_dataset`.
        token_file: Likewise.
        state: Likewise.

    Raises:
        ConfigError: A dataset's name is malformed; nothing else is ever raised on purpose.
    """
    question = {
        "job_id": job,
        "tenant": tenant,
        "datasets": [_dataset(each) for each in datasets],
        "gang": None if gang is None else _gang(gang),
        "gpu": None if gpu is None else _gpu(gpu),
        "candidates": list(candidates),
        "selector": dict(selector or {}),
        "loader": {"mode": loader, "required_fraction": required_fraction},
        "deadline_s": deadline_seconds,
        "expected_duration_s": expected_seconds,
        "max_staleness_s": staleness_seconds_max,
        "reserve": None if reserve_seconds is None else {"ttl_s": reserve_seconds},
        "prefetch": prefetch,
        "limit": limit,
        "explain": explain,
        "renderings": list(renderings),
    }
    return _ask(question, partial(find_system, coordinator, token_file, state))


def hint_queue(
    jobs: Sequence[WaitingJob],
    *,
    waiting: int = 0,
    places: Sequence[OwnPlace] = (),
    reserve_seconds: float | None = None,
    coordinator: str | None = None,
    token_file: str | Path | None = None,
    state: str | Path | None = None,
) -> tuple[Hint, ...]:
    """Ask where the jobs of a queue start, all at once; waits five seconds at most.

    Args:
        jobs: In the order of the line.
        waiting: How many wait in all, if these are not all of them.
        places: Where they could start, if the asker gives that out itself; else wherever accelerators are
            free, or will be.
        reserve_seconds: Keep places for so long. Only then may a job be told to wait for one.
        coordinator: As in :func:`cachefs.sdk.open_dataset`.
        token_file: Likewise.
        state: Likewise.

    Raises:
        ConfigError: A dataset's name is malformed; nothing else is ever raised on purpose.
    """
    if not jobs:
        return ()
    asked = [_job(each, reserve_seconds) for each in jobs]
    question = {
        "jobs": asked,
        "waiting": waiting,
        "places": [
            {
                "name": each.name,
                "node": each.node,
                "holds": each.holds,
                "busy_s": each.busy_seconds,
                "idle_s": each.idle_seconds,
            }
            for each in places
        ],
    }
    try:
        endpoint = find_system(coordinator, token_file, state)
        api = Api(endpoint.coordinator, endpoint.token)
        answer = api.post("/v1/hints/batch", question, timeout_seconds=_QUEUE_TIMEOUT_SECONDS)
        told = zip(answer["hints"], asked, strict=True)
        hints = tuple(_hint(answer, job) for answer, job in told)
    except CacheFSError as error:
        return (Hint(reason=str(error)),) * len(jobs)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return (Hint(reason=f"the answer makes no sense: {error!r}"),) * len(jobs)
    return hints


def tell_outcome(
    given: Hint,
    *,
    node: str,
    ready_seconds: float,
    phases: Mapping[str, float] | None = None,
    coordinator: str | None = None,
    token_file: str | Path | None = None,
    state: str | Path | None = None,
) -> bool:
    """Tell how long it really took, and return whether anybody has heard of it. Fails no job either.

    Args:
        given: The hint.
        node: Where the job, or its first member, was started.
        ready_seconds: From the hint until it was ready.
        phases: Seconds of its parts, as far as they are known: ``image``, ``data``, ``load``, ``init``; and
            ``run``, once it has ended.
        coordinator: As in :func:`cachefs.sdk.open_dataset`.
        token_file: Likewise.
        state: Likewise.
    """
    if not given.id:
        return False
    body = {"node": node, "ready_s": ready_seconds, "phases": dict(phases or {})}
    path = f"/v1/hints/{given.id}/outcome"
    try:
        endpoint = find_system(coordinator, token_file, state)
        api = Api(endpoint.coordinator, endpoint.token)
        try:
            api.post(path, body, timeout_seconds=_TIMEOUT_SECONDS)
        except NotKnownError:
            recalled = _recalled(given, node)
            if recalled is None:
                return False
            api.post(path, {**body, "recalled": recalled}, timeout_seconds=_TIMEOUT_SECONDS)
    except CacheFSError:
        return False
    return True


def _ask(question: Mapping[str, Any], find: Callable[[], Endpoint]) -> Hint:
    try:
        endpoint = find()
        api = Api(endpoint.coordinator, endpoint.token)
        answer = api.post("/v1/hints", question, timeout_seconds=_TIMEOUT_SECONDS)
        return _hint(answer, question)
    except CacheFSError as error:
        return Hint(reason=str(error))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return Hint(reason=f"the answer makes no sense: {error!r}")


def _recalled(given: Hint, node: str) -> dict[str, Any] | None:
    """Return what a hint said of a node, for a coordinator that does not remember it."""
    known = [given.document.get("start") or {}, *given.document.get("nodes", ())]
    said = next((each for each in known if each.get("node") == node), None)
    if not given.dataset or said is None or "breakdown" not in said:
        return None
    return {
        "dataset": given.dataset,
        "breakdown": said["breakdown"],
        "reservation_token": given.reservation,
    }


def _hint(answer: Mapping[str, Any], question: Mapping[str, Any]) -> Hint:
    nodes = tuple(_ranked(each) for each in answer["nodes"])
    gang, wait, kept, start = (
        answer.get(name) or {} for name in ("gang", "wait", "reservation", "start")
    )
    assignment = gang.get("assignment") or {}
    return Hint(
        id=str(answer.get("hint_id", "")),
        dataset=question["datasets"][0]["name"] if question["datasets"] else "",
        nodes=nodes,
        gang=tuple(assignment[str(rank)] for rank in range(len(assignment))),
        wait_for=wait.get("node") or "",
        reservation=kept.get("token") or "",
        start=start.get("place") or start.get("node") or "",
        starts_now=bool(start.get("now")),
        reason=answer.get("degraded") or ("" if nodes else "no node is known"),
        document=answer,
    )


def _dataset(wanted: str | WantedDataset) -> dict[str, Any]:
    if isinstance(wanted, str):
        wanted = WantedDataset(name=wanted)
    dataset, version = dataset_named(wanted.name)
    return {
        "name": str(dataset),
        "revision": version,
        "paths": list(wanted.paths),
        "shard": "rank" if wanted.by_rank else None,
        "affinity": "required" if wanted.required else "preferred",
        "weight": wanted.weight,
    }


def _job(waiting: WaitingJob, reserve_seconds: float | None) -> dict[str, Any]:
    return {
        "job_id": waiting.job,
        "datasets": [_dataset(each) for each in waiting.datasets],
        "gang": None if waiting.gang is None else _gang(waiting.gang),
        "gpu": None if waiting.gpu is None else _gpu(waiting.gpu),
        "candidates": list(waiting.candidates),
        "selector": dict(waiting.selector),
        "expected_duration_s": waiting.expected_seconds,
        "reserve": None if reserve_seconds is None else {"ttl_s": reserve_seconds},
    }


def _gpu(gpu: WantedGpu) -> dict[str, Any]:
    return {name: getattr(gpu, name) for name in gpu.__slots__}


def _gang(gang: Gang) -> dict[str, Any]:
    return {
        "size": gang.size,
        "min_available": gang.size if gang.least is None else gang.least,
        "topology": {"required": gang.required_topology, "preferred": gang.preferred_topology},
    }


def _ranked(each: Mapping[str, Any]) -> RankedNode:
    sizes = each.get("bytes") or {}
    held = sum(sizes.get(kind, 0) for kind in ("gpu", "dram", "nvme"))
    return RankedNode(
        node=str(each["node"]),
        score=float(each["score"]),
        ready_seconds=float(each["ready_s"]["p50"]),
        ready_seconds_p90=float(each["ready_s"]["p90"]),
        cached=held / sizes["total"] if sizes.get("total") else 0.0,
        bottleneck=str((each.get("breakdown") or {}).get("bottleneck", "")),
    )
