"""Datasets: what ``kind: Dataset`` says, made so in the coordinator. Pure.

One look does one thing to the coordinator at most, and the next look sees what came of it: declare, then choose
the version, then warm, then make the volume. What is declared is compared field by field, so that a person who
changes the dataset by ``cachefs dataset update`` finds it changed back; whoever wants to keep it writes it into
the object.

What it is *of* the object says once: when ``url``, ``options``, ``include`` or ``exclude`` change, the origin is
listed, and what it holds is current. After that a flow may publish versions from elsewhere and make one of them
current; they stay until the object says something new, or holds the dataset at a version.

Whose a dataset is says the operator's ledger (:mod:`.ledger`), not the coordinator, which knows nothing of
Kubernetes. A dataset that was declared by somebody else, with another URL, is left alone.
"""

import hashlib
import json
from dataclasses import dataclass
from urllib.parse import quote

from cachefs.config.units import format_size
from cachefs.core.jobs import ACTIVE
from cachefs.errors import (
    CacheFSError,
    ConfigError,
    CoordinatorUnavailableError,
    NotAllowedError,
    OriginError,
)
from cachefs.k8s.crds.datasets import DatasetSpec
from cachefs.k8s.operator.actions import Action, Ask, Document, Note
from cachefs.k8s.operator.datasets import volumes
from cachefs.k8s.operator.standing import (
    Condition,
    conditions,
    found_condition,
    reason_of,
    show,
    words_of,
)

LISTING_SECONDS = 600.0
"""Longest that an origin may take to be listed: a bucket of a million files takes minutes."""
AGAIN_SECONDS = 600.0
"""What was warmed, or failed to be, is warmed again after so long, if something lacks."""
POOL_NOT_KNOWN = "PoolNotKnown"
"""The reason of ``Ready`` where nobody caches a dataset, because there is no such pool."""
_FINAL = (OriginError, ConfigError, NotAllowedError)
"""What has failed until somebody changes something; it is tried again all the same."""
_POOLS_SHOWN = 10
_VERSION_CHARACTERS = 12
"""Of a version's id, in columns; as ``cachefs dataset list`` shows it."""
_PINNED = "VersionPinned"
_DECLARED = "Declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there of a dataset."""

    at: float
    """Seconds since 1970."""
    ledger: str | None
    """What the ledger says of it: :func:`ledger_line`, or the first word of that; ``None`` if it is not ours."""
    declared: Document | None = None
    """As the coordinator has it, like what else comes from there."""
    versions: tuple[Document, ...] = ()
    residency: Document | None = None
    warm_up: Document | None = None
    """The newest that we asked for."""
    pools: frozenset[str] | None = None
    """Which there are; ``None`` if that is not known."""
    claim: Document | None = None
    volume: Document | None = None


def warm_key(document: Document) -> str:
    """Return by which key the warm-ups are known that are asked for an object."""
    return f"kubernetes-{document['metadata']['uid']}"


def reconcile(document: Document, spec: DatasetSpec, seen: Seen) -> tuple[Action, ...]:
    """Return what is to be done for a dataset; nothing if all is as it shall be."""
    declared = seen.declared
    if declared is None or not _is_declared(spec, declared, seen):
        return _declaring(document, spec, seen)
    if seen.ledger != ledger_line(spec):
        return (Note(spec.name.namespace, spec.name.name, ledger_line(spec)),)
    trouble = None
    if spec.version is not None:
        chosen = _chosen(spec.version, seen.versions)
        if chosen is None:
            message = f"no version {spec.version} is kept, or several begin so"
            trouble = _Trouble("VersionNotKnown", message)
        elif chosen != declared["current"]:
            return (Ask(method="PATCH", path=_path(spec), body={"current": spec.version}),)
    elif found_condition(document, "Synced").get("reason") == _PINNED:
        # It was held at a version, and is not any more: what the origin holds now counts.
        if not _same_origin(spec, declared):
            return (_declare(spec, None),)
        update = Ask(method="POST", path=f"{_path(spec)}/update", seconds=LISTING_SECONDS)
        return (update, *_shown(document, spec, seen, None))
    warm = _warm(document, spec, seen)
    size = 0 if seen.residency is None else int(seen.residency["bytes_total"])
    plan = volumes.reconcile(document, spec, size, claim=seen.claim, volume=seen.volume)
    if trouble is None and plan.problem:
        trouble = _Trouble("VolumeOutdated", plan.problem)
    return (*warm, *plan.actions, *_shown(document, spec, seen, trouble, plan=plan))


def _declaring(document: Document, spec: DatasetSpec, seen: Seen) -> tuple[Action, ...]:
    """Return what declares a dataset, unless it is somebody else's."""
    declared = seen.declared
    if declared is not None and seen.ledger is None and not _same_origin(spec, declared):
        message = f"the coordinator has a dataset {_full(spec)} of {declared['origin']['url']}"
        return _shown(document, spec, seen, _Trouble("DeclaredElsewhere", message))
    if seen.ledger is None:
        return (Note(spec.name.namespace, spec.name.name, spec.reclaim),)
    if declared is None:
        return (*_listing(document, seen), _declare(spec, None))
    return (_declare(spec, declared["origin"] if _is_meant(spec, seen) else None),)


def failed(document: Document, error: CacheFSError, *, at: float) -> tuple[Action, ...]:
    """Return what shows that a dataset could not be looked at, or made so."""
    status = dict(document.get("status") or {})
    status["observedGeneration"] = document["metadata"].get("generation", 0)
    cached = found_condition(document, "Cached")
    unreachable = isinstance(error, CoordinatorUnavailableError)
    was_ready = bool(status.get("version"))
    if not was_ready:
        status["phase"] = "Failed" if isinstance(error, _FINAL) else "Pending"
    reason, words = reason_of(error), words_of(error)
    standing = [
        # What was cached goes on being served, as far as anybody knows.
        Condition("Ready", "Unknown" if unreachable or was_ready else "False", reason, words),
        Condition("Synced", "False", reason, words),
    ]
    if cached:
        kept = Condition("Cached", cached["status"], cached["reason"], cached["message"])
        standing.append(kept)
    status["conditions"] = conditions(document, standing, at=at)
    return show(document, status)


def gone(namespace: str, name: str, seen: Seen) -> tuple[Action, ...]:
    """Return what is to be done when a dataset's object is gone; nothing if nothing is left of it.

    As long as pods use its claim, Kubernetes keeps that, and we keep the dataset.
    """
    if seen.claim is not None:
        return ()
    actions: list[Action] = list(volumes.forgotten(seen.volume))
    if seen.ledger is not None:
        if seen.ledger.partition(" ")[0] == "Delete":
            actions.append(Ask(method="DELETE", path=_path_of(namespace, name)))
        actions.append(Note(namespace, name, None))
    return tuple(actions)


@dataclass(frozen=True, slots=True)
class _Trouble:
    reason: str
    message: str


def _full(spec: DatasetSpec) -> str:
    return f"{spec.name.namespace}/{spec.name.name}"


def _path(spec: DatasetSpec) -> str:
    return _path_of(spec.name.namespace, spec.name.name)


def _path_of(namespace: str, name: str) -> str:
    return f"/v1/datasets/{quote(namespace, safe='')}/{quote(name, safe='')}"


def body_of(spec: DatasetSpec) -> Document:
    """Return the declaration as the coordinator takes it."""
    dataset = spec.dataset()
    return {
        "name": _full(spec),
        "origin": {"url": dataset.origin.url, "options": dict(dataset.origin.options)},
        "include": list(dataset.include),
        "exclude": list(dataset.exclude),
        "consistency": str(dataset.consistency),
        "pool": dataset.pool,
        "replicas": dataset.replicas,
        "pins": list(dataset.pins),
        "ttl_seconds": dataset.ttl_seconds,
        "versions_kept": dataset.versions_kept,
    }


def ledger_line(spec: DatasetSpec) -> str:
    """Return what the ledger says of a dataset that is declared: what becomes of it, and which files it means."""
    return f"{spec.reclaim} {_means(spec)}"


def _means(spec: DatasetSpec) -> str:
    means = [spec.url.rstrip("/"), dict(spec.options), spec.include, spec.exclude]
    return hashlib.sha256(json.dumps(means, sort_keys=True).encode()).hexdigest()[:16]


def _declare(spec: DatasetSpec, origin: Document | None) -> Ask:
    body = body_of(spec) if origin is None else {**body_of(spec), "origin": origin}
    return Ask(method="PUT", path=_path(spec), body=body, seconds=LISTING_SECONDS)


def _same_origin(spec: DatasetSpec, declared: Document) -> bool:
    found = declared["origin"]
    return bool(
        found["url"].rstrip("/") == spec.url.rstrip("/") and found["options"] == dict(spec.options)
    )


def _is_meant(spec: DatasetSpec, seen: Seen) -> bool:
    """Say whether the files that the object means have been declared, whatever others have made current since."""
    return seen.ledger is not None and seen.ledger.partition(" ")[2] == _means(spec)


def _is_declared(spec: DatasetSpec, declared: Document, seen: Seen) -> bool:
    if not _is_meant(spec, seen) and not _same_origin(spec, declared):
        return False
    wanted = body_of(spec)
    return all(
        declared.get(name) == value
        for name, value in wanted.items()
        if name not in ("name", "origin")
    )


def _chosen(text: str, versions: tuple[Document, ...]) -> str | None:
    """Return the id that a label, an id or the beginning of one means."""
    labelled = [one["id"] for one in versions if text in one.get("labels", ())]
    found = labelled or [one["id"] for one in versions if one["id"].startswith(text)]
    return found[0] if len(found) == 1 else None


def _warm(document: Document, spec: DatasetSpec, seen: Seen) -> tuple[Action, ...]:
    if spec.warm is None or seen.declared is None or seen.residency is None:
        return ()
    if _lacks_pool(spec, seen):
        return ()
    last, lacks = seen.warm_up, _lacks(seen.residency)
    if last is not None and last["version"] == seen.declared["current"]:
        if last["paths"] == list(spec.warm.paths):
            ended_ago = seen.at - last["ended_at"]
            lacks = lacks or last["state"] in ("failed", "cancelled")
            if last["state"] in ACTIVE or not lacks or ended_ago < AGAIN_SECONDS:
                return ()
    elif not lacks:
        return ()
    body = {
        "dataset": _full(spec),
        "paths": list(spec.warm.paths),
        "rate": spec.warm.rate,
        "key": warm_key(document),
    }
    return (Ask(method="POST", path="/v1/warm", body=body),)


def _lacks_pool(spec: DatasetSpec, seen: Seen) -> bool:
    return seen.pools is not None and spec.pool not in seen.pools


def _lacks(residency: Document) -> bool:
    return int(residency["bytes_resident"]) < int(residency["bytes_total"])


def _listing(document: Document, seen: Seen) -> tuple[Action, ...]:
    generation = document["metadata"].get("generation", 0)
    before = document.get("status") or {}
    if before.get("phase") == "Failed" and before.get("observedGeneration") == generation:
        return ()  # what failed is shown as long as it fails
    status = {
        "observedGeneration": generation,
        "phase": "Listing",
        "conditions": conditions(
            document,
            [
                Condition("Ready", "False", "Listing", "the origin is being listed"),
                Condition("Synced", "False", "Listing", "the origin is being listed"),
            ],
            at=seen.at,
        ),
    }
    return show(document, status)


def _shown(
    document: Document,
    spec: DatasetSpec,
    seen: Seen,
    trouble: _Trouble | None,
    *,
    plan: volumes.VolumePlan | None = None,
) -> tuple[Action, ...]:
    """Return what makes the status say how things are."""
    status: Document = {"observedGeneration": document["metadata"].get("generation", 0)}
    ours = seen.ledger is not None and seen.declared is not None
    standing = []
    if ours and seen.declared is not None:
        status |= _numbers(seen)
        if spec.volume.enabled and (seen.claim is not None or (plan and plan.actions)):
            status["claim"] = spec.name.name
        standing += [_ready(spec, seen), _cached(seen)]
    else:
        reason = "NotDeclared" if trouble is None else trouble.reason
        message = "" if trouble is None else trouble.message
        standing.append(Condition("Ready", "False", reason, message))
    if trouble is not None:
        standing.append(Condition("Synced", "False", trouble.reason, trouble.message))
    elif spec.version is not None:
        standing.append(Condition("Synced", "True", _PINNED, f"held at {spec.version}"))
    else:
        standing.append(Condition("Synced", "True", _DECLARED, ""))
    status["phase"] = _phase(spec, seen) if ours else "Failed"
    status["conditions"] = conditions(document, standing, at=seen.at)
    return show(document, status)


def _numbers(seen: Seen) -> Document:
    current = "" if seen.declared is None else seen.declared["current"] or ""
    found: Document = {"version": current, "versionText": current[:_VERSION_CHARACTERS]}
    files = [one["file_count"] for one in seen.versions if one["id"] == current]
    if files:
        found["files"] = files[0]
    if seen.residency is not None:
        total = int(seen.residency["bytes_total"])
        held = int(seen.residency["bytes_resident"])
        percent = 100 * held // total if total else 100
        found |= {
            "bytes": total,
            "bytesText": format_size(total),
            "cachedBytes": held,
            "cachedPercent": percent,
            "cachedText": f"{percent} %",
        }
    return found


def _ready(spec: DatasetSpec, seen: Seen) -> Condition:
    if seen.pools is not None and _lacks_pool(spec, seen):
        names = sorted(seen.pools)
        shown = ", ".join(names[:_POOLS_SHOWN]) + (", …" if len(names) > _POOLS_SHOWN else "")
        message = f"there is no pool {spec.pool}: there is {shown or 'none at all'}"
        return Condition("Ready", "False", POOL_NOT_KNOWN, message)
    current = None if seen.declared is None else seen.declared["current"]
    return Condition("Ready", "True", "Served", f"version {current} is served")


def _cached(seen: Seen) -> Condition:
    if seen.residency is None:
        return Condition("Cached", "Unknown", "NotKnown", "")
    if not _lacks(seen.residency):
        return Condition("Cached", "True", "FullyCached", "workers hold all of it")
    return Condition("Cached", "False", "PartlyCached", "workers lack some of it")


def _phase(spec: DatasetSpec, seen: Seen) -> str:
    if _lacks_pool(spec, seen):
        return "Pending"
    if seen.residency is not None and not _lacks(seen.residency):
        return "Cached"
    if seen.warm_up is not None and seen.warm_up["state"] in ACTIVE:
        return "Warming"
    return "Ready"
