"""Pools: what ``kind: CachePool`` says, made of stateful sets or a daemon set. Pure.

**How many.** A pool is a wish in the coordinator (ADR 25), which flows, policies and ``cachefs scale`` change. A
change of ``spec.workers`` becomes the wish once (``status.appliedWorkers`` remembers); from then on the wish
counts, whoever changes it. The sets follow it. Where a pool has zones, the wish is completed to a number for each of
them before any set is changed: a worker that is told to end looks there whether it is one too many
(:mod:`cachefs.k8s.leaving`), and hands over what it holds if it is.

**Shrinking** is done one zone after the other. Within a set Kubernetes ends the last workers first, and we leave
that to it: whoever was named to leave and is not the last one stays, and the coordinator is told so.

**What cannot be changed.** A stateful set keeps its volume claims as they were made. A pool whose tiers have
another size goes on with the old one; a condition says what one can do.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from cachefs.config.units import format_size
from cachefs.core.pools import workers as count_of
from cachefs.errors import CacheFSError, CoordinatorUnavailableError
from cachefs.k8s.crds.pools import CachePoolSpec
from cachefs.k8s.crds.quantities import parse_quantity
from cachefs.k8s.installation import Installation
from cachefs.k8s.kinds import AUTOSCALERS, CONFIG_MAPS, DAEMON_SETS, STATEFUL_SETS, of
from cachefs.k8s.manifests.workers import (
    ZONE,
    Tier,
    Workers,
    pool_documents,
    pool_name,
    pool_selector,
    set_documents,
)
from cachefs.k8s.names import API_VERSION, GROUP, MANAGED_BY, POOL
from cachefs.k8s.operator.actions import Action, Apply, Ask, Delete, Document, Patch
from cachefs.k8s.operator.quantities import says
from cachefs.k8s.operator.standing import (
    Condition,
    conditions,
    found_condition,
    reason_of,
    show,
    words_of,
)

APPLIED = f"{GROUP}/applied"
"""On what is made for a pool, an annotation: a digest of what we said of it."""
BY = "kubernetes"
"""Who has changed a pool, as the coordinator is told."""
_BY_POLICY = "ByPolicy"
_ORDINAL = re.compile(r"(.+)-(\d+)")
_INSTEAD = "To have it otherwise make another pool, move its datasets there, and delete this one"
_POLICY_DEFAULTS = {"cooldown": "1m", "calm": "5m"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there of a pool."""

    at: float
    """Seconds since 1970."""
    pool: Document
    """As the coordinator has it, like its members and its policy."""
    members: Sequence[Document] = ()
    policy: Document | None = None
    objects: Mapping[tuple[str, str], Document] = field(default_factory=dict)
    """What has the pool's label, or a name that we want, in the pool's namespace, by kind and name."""
    is_second: bool = False
    """Whether a pool of its name is in another namespace, and was there first."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to become of one set."""

    workers: Workers
    documents: Sequence[Document] = ()
    """The set and its configuration; none if they are to stay as they are."""
    actions: tuple[Action, ...] = ()
    problem: str = ""
    """What of it cannot be as it is wanted; empty for nothing."""


def spread(wanted: int, zones: Sequence[str], asked: Mapping[str, int]) -> dict[str, int]:
    """Return how many workers each zone has: as many as asked for, and the rest evenly."""
    counts = {zone: asked.get(zone, 0) for zone in zones}
    for _ in range(wanted - sum(counts.values())):
        fewest = min(zones, key=lambda zone: counts[zone])
        counts[fewest] += 1
    return counts


def reconcile(
    document: Document, spec: CachePoolSpec, installation: Installation, seen: Seen
) -> tuple[Action, ...]:
    """Return what is to be done for a pool; nothing if all is as it shall be."""
    refusal = _refusal(spec, installation, seen)
    if refusal is not None:
        status: Document = {
            "observedGeneration": document["metadata"].get("generation", 0),
            "phase": "Failed",
            "conditions": conditions(document, [refusal], at=seen.at),
        }
        return show(document, status)
    wish = _wish(document, spec, seen)
    if wish is not None:
        body = {**wish, "by": BY, "reason": f"{spec.namespace}/{spec.name}"}
        return (
            Ask(method="PUT", path=_path(spec.name), body=body),
            *_remembered(document, spec, wish),
        )
    plans = [_planned(one, installation, seen) for one in _sets(spec, seen)]
    wanted = pool_documents(spec.name, spec.namespace)
    wanted += [document for plan in plans for document in plan.documents]
    if spec.horizontal is not None:
        wanted.append(_autoscaler(spec))
    changes = (
        *_applied(document, wanted, seen),
        *(action for plan in plans for action in plan.actions),
        *_removed(wanted, plans, seen),
    )
    problem = next((plan.problem for plan in plans if plan.problem), "")
    return (
        *_policy(document, spec, seen),
        *changes,
        *_report(plans, seen),
        *_shown(document, spec, seen, problem=problem, busy=bool(changes)),
    )


def failed(document: Document, error: CacheFSError, *, at: float) -> tuple[Action, ...]:
    """Return what shows that a pool could not be looked at, or made so; its workers go on."""
    status = dict(document.get("status") or {})
    status.setdefault("phase", "Pending")
    unreachable = isinstance(error, CoordinatorUnavailableError)
    standing = [
        Condition("Ready", "Unknown" if unreachable else "False", reason_of(error), words_of(error))
    ]
    scaling = found_condition(document, "Scaling")
    if scaling:
        kept = Condition("Scaling", scaling["status"], scaling["reason"], scaling["message"])
        standing.append(kept)
    status["conditions"] = conditions(document, standing, at=at)
    return show(document, status)


def gone(name: str, pool: Document) -> tuple[Action, ...]:
    """Return what is to be done when a pool's object is gone: its sets go with it, and nobody comes for them."""
    if not pool["wanted"]:
        return ()
    body = {"wanted": 0, "least": 0, "by": BY, "reason": "its object was deleted"}
    return (Ask(method="PUT", path=_path(name), body=body),)


def _path(name: str) -> str:
    return f"/v1/pools/{quote(name, safe='')}"


def _refusal(spec: CachePoolSpec, installation: Installation, seen: Seen) -> Condition | None:
    """Return why a pool is not served at all."""
    ours = (installation.namespace, installation.node_namespace)
    if spec.namespace not in ours:
        message = f"pools are served in the namespaces {' and '.join(ours)} only"
        return Condition("Ready", "False", "ForeignNamespace", message)
    if seen.is_second:
        message = "a pool of this name is in the other namespace, and was there first"
        return Condition("Ready", "False", "NameTaken", message)
    for (_, name), found in sorted(seen.objects.items()):
        theirs = (found["metadata"].get("labels") or {}).get(POOL)
        if theirs != spec.name:
            message = f"{found['kind']} {name} belongs to {theirs or 'somebody else'}"
            return Condition("Ready", "False", "NameTaken", message)
    return None


def _wish(document: Document, spec: CachePoolSpec, seen: Seen) -> Document | None:
    """Return what must be said to the coordinator before anything else."""
    pool = seen.pool
    wish: Document = {}
    if pool["exclusive"] != spec.exclusive_to:
        wish["exclusive"] = spec.exclusive_to
    if spec.mode == "Workers":
        wanted = _new_number(document, spec, seen)
        if wanted is not None:
            wish["wanted"] = wanted
        number = pool["wanted"] if wanted is None else wanted
        asked = {} if wanted is not None else pool["wanted_by_zone"]
        if spec.zones:
            kept = {zone: count for zone, count in asked.items() if zone in spec.zones}
            by_zone = {z: n for z, n in spread(number, spec.zones, kept).items() if n}
            if by_zone != asked:
                wish |= {"wanted": number, "wanted_by_zone": by_zone}
    return wish or None


def _new_number(document: Document, spec: CachePoolSpec, seen: Seen) -> int | None:
    """Return how many workers the object wants, if it has not said so before."""
    applied = (document.get("status") or {}).get("appliedWorkers")
    if spec.workers is not None and spec.workers != applied:
        return spec.workers
    if seen.pool["wanted"] is None:
        return spec.bounds[0] if spec.workers is None else spec.workers
    return None


def _remembered(document: Document, spec: CachePoolSpec, wish: Document) -> tuple[Action, ...]:
    """Note what the pool was told: the wish may be changed by others from now on."""
    if "wanted" not in wish or spec.workers is None:
        return ()
    status = dict(document.get("status") or {})
    if status.get("appliedWorkers") == spec.workers:
        return ()
    return show(document, {**status, "appliedWorkers": spec.workers})


def _policy(document: Document, spec: CachePoolSpec, seen: Seen) -> tuple[Action, ...]:
    """Return what makes the coordinator scale the pool by itself, or stop doing so."""
    path = "/v1/policies"
    if spec.autoscaling is not None:
        policy = {**_POLICY_DEFAULTS, **spec.autoscaling.policy}
        if seen.policy == policy:
            return ()
        return (Ask(method="PATCH", path=path, body={"pools": {spec.name: policy}}),)
    was_ours = str(found_condition(document, "Scaling").get("reason", "")).endswith(_BY_POLICY)
    if seen.policy is not None and was_ours:
        return (Ask(method="PATCH", path=path, body={"pools": {spec.name: None}}),)
    return ()


def _sets(spec: CachePoolSpec, seen: Seen) -> list[Workers]:
    """Return the sets as they shall be now; one zone after the other has fewer workers."""
    tiers = [
        Tier(
            medium=tier.medium,
            size_bytes=tier.size_bytes,
            storage_class=tier.storage_class,
            host_path=tier.host_path,
        )
        for tier in spec.tiers
    ]
    every = Workers(
        pool=spec.name,
        namespace=spec.namespace,
        count=None,
        tiers=tiers,
        node_selector=spec.node_selector,
        tolerations=spec.tolerations,
        affinity=spec.affinity or None,
        resources=spec.resources,
        priority_class=spec.priority_class,
        drain_seconds=spec.drain_seconds,
    )
    zones = spec.zones or ("",)
    if spec.mode == "PerNode":
        # A set for each zone: so a worker knows its zone, and nobody needs to read nodes.
        return [replace(every, zone=zone) for zone in zones]
    counts = dict(seen.pool["wanted_by_zone"]) if spec.zones else {"": seen.pool["wanted"] or 0}
    old = [zone for zone in _zones_there(seen) if zone not in zones]
    # A zone that is none of the pool's any more goes when its last worker has.
    sets = [replace(every, zone=zone, count=counts.get(zone, 0)) for zone in (*zones, *old)]
    sets = [one for one in sets if one.zone in zones or not _is_empty(one, seen)]
    shrinking = [one for one in sets if _is_shrinking(one, seen)]
    return [
        replace(one, count=_replicas(one, seen)) if one in shrinking[1:] else one for one in sets
    ]


def _zones_there(seen: Seen) -> list[str]:
    """Return the zones of the sets that there are."""
    return sorted(
        (found["metadata"].get("labels") or {}).get(ZONE, "")
        for (kind, _), found in seen.objects.items()
        if kind == STATEFUL_SETS.kind
    )


def _found(one: Workers, seen: Seen) -> Document | None:
    return seen.objects.get((STATEFUL_SETS.kind, one.name))


def _replicas(one: Workers, seen: Seen) -> int:
    found = _found(one, seen)
    return 0 if found is None else int(found["spec"].get("replicas", 1))


def _is_empty(one: Workers, seen: Seen) -> bool:
    found = _found(one, seen)
    there = 0 if found is None else int((found.get("status") or {}).get("replicas", 0))
    return there == 0 and _replicas(one, seen) == 0


def _is_shrinking(one: Workers, seen: Seen) -> bool:
    """Say whether a set is to have fewer workers than it has, or than are on their way out."""
    found = _found(one, seen)
    if found is None or one.count is None:
        return False
    there = int((found.get("status") or {}).get("replicas", 0))
    return max(_replicas(one, seen), there) > one.count


def _planned(one: Workers, installation: Installation, seen: Seen) -> _Plan:
    """Return a set as it can be applied, and what of it cannot be."""
    documents = set_documents(one, installation)
    found = _found(one, seen)
    if found is None or one.count is None:
        return _Plan(one, documents)
    wanted = documents[-1]["spec"].get("volumeClaimTemplates", [])
    there = found["spec"].get("volumeClaimTemplates") or []
    if [each["metadata"]["name"] for each in there] != [
        each["metadata"]["name"] for each in wanted
    ]:
        problem = (
            f"{one.name} keeps its tiers: those on disk cannot become more or fewer. {_INSTEAD}"
        )
        return _Plan(one, (), _scaled(one, found), problem)
    if says(there, wanted):
        return _Plan(one, documents)
    sizes = ", ".join(str(each["spec"]["resources"]["requests"]["storage"]) for each in there)
    kept = replace(one, tiers=_tiers_kept(one, there))
    problem = f"{one.name} keeps its volume claims ({sizes}): they cannot be changed. {_INSTEAD}"
    return _Plan(kept, set_documents(kept, installation), (), problem)


def _scaled(one: Workers, found: Document) -> tuple[Action, ...]:
    if found["spec"].get("replicas", 1) == one.count:
        return ()
    patch: Document = {"spec": {"replicas": one.count}}
    return (Patch(kind=STATEFUL_SETS, name=one.name, namespace=one.namespace, patch=patch),)


def _tiers_kept(one: Workers, there: Sequence[Document]) -> list[Tier]:
    """Return the tiers with the sizes that the claims have."""
    left = list(there)
    tiers = []
    for tier in one.tiers:
        if tier.medium == "disk" and tier.host_path is None:
            claim = left.pop(0)["spec"]
            kept = parse_quantity(str(claim["resources"]["requests"]["storage"]), "claim")
            storage_class = claim.get("storageClassName")
            tiers.append(replace(tier, size_bytes=kept, storage_class=storage_class))
        else:
            tiers.append(tier)
    return tiers


def _autoscaler(spec: CachePoolSpec) -> Document:
    """Return what changes ``spec.workers`` by metrics of the cluster."""
    chosen = spec.horizontal
    assert chosen is not None  # noqa: S101 - asked by who has looked
    scaling: Document = {
        "scaleTargetRef": {"apiVersion": API_VERSION, "kind": "CachePool", "name": spec.name},
        "minReplicas": chosen.least,
        "maxReplicas": chosen.most,
    }
    if chosen.metrics:
        scaling["metrics"] = [dict(each) for each in chosen.metrics]
    return {
        "apiVersion": AUTOSCALERS.api_version,
        "kind": AUTOSCALERS.kind,
        "metadata": {
            "name": pool_name(spec.name),
            "namespace": spec.namespace,
            "labels": {**pool_selector(spec.name), MANAGED_BY: "cachefs"},
        },
        "spec": scaling,
    }


def _applied(document: Document, wanted: Sequence[Document], seen: Seen) -> tuple[Action, ...]:
    """Return what makes objects that are not there, or not as we said, or that we now say otherwise."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "CachePool",
        "name": document["metadata"]["name"],
        "uid": document["metadata"]["uid"],
        "controller": True,
    }
    actions = []
    for one in wanted:
        head = {**one["metadata"], "ownerReferences": [owner]}
        text = json.dumps({**one, "metadata": head}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        head["annotations"] = {**head.get("annotations", {}), APPLIED: digest}
        found = seen.objects.get((one["kind"], head["name"]))
        ours = {**one, "metadata": head}
        if found is None or not says(found, ours):
            actions.append(Apply(ours))
    return tuple(actions)


def _removed(wanted: Sequence[Document], plans: Sequence[_Plan], seen: Seen) -> tuple[Action, ...]:
    """Return what removes objects that we made and do not want any more."""
    names = {(one["kind"], one["metadata"]["name"]) for one in wanted}
    for plan in plans:
        names |= {(kind.kind, plan.workers.name) for kind in (STATEFUL_SETS, CONFIG_MAPS)}
    return tuple(
        Delete(
            kind=of(found),
            name=name,
            namespace=found["metadata"]["namespace"],
            uid=found["metadata"].get("uid", ""),
        )
        for (kind, name), found in sorted(seen.objects.items())
        if (kind, name) not in names
        and APPLIED in (found["metadata"].get("annotations") or {})
        and not found["metadata"].get("deletionTimestamp")
    )


def _report(plans: Sequence[_Plan], seen: Seen) -> tuple[Action, ...]:
    """Say who was named to leave and has, and who cannot: the last of a set leave first."""
    counts = {plan.workers.name: plan.workers.count for plan in plans}
    here = {member["worker"] for member in seen.members}
    left, staying = [], []
    for worker in seen.pool["leaving"]:
        match = _ORDINAL.fullmatch(worker)
        count = counts.get(match[1]) if match else None
        if worker not in here:
            left.append(worker)
        elif match is None or count is None or int(match[2]) < count:
            staying.append(worker)
    problem = ""
    if staying:
        problem = (
            f"{', '.join(staying)} cannot be chosen to leave: the last ones of a set leave first"
        )
    if not left and not staying and problem == seen.pool["problem"]:
        return ()
    path = f"{_path(seen.pool['name'])}/report"
    body = {"left": [*left, *staying], "problem": problem}
    return (Ask(method="POST", path=path, body=body),)


def _shown(
    document: Document, spec: CachePoolSpec, seen: Seen, *, problem: str, busy: bool
) -> tuple[Action, ...]:
    """Return what makes the status say how things are."""
    tiers = [tier for one in seen.members for tier in one.get("statistics", {}).get("tiers", ())]
    capacity = sum(int(tier.get("capacity_bytes", 0)) for tier in tiers)
    used = sum(int(tier.get("used_bytes", 0)) for tier in tiers)
    live = int(seen.pool["live"])
    wanted = _wanted(spec, seen)
    is_scaling = busy or live != wanted or bool(seen.pool["draining"])
    how = "Scaling" if is_scaling else "Steady"
    by = _BY_POLICY if spec.autoscaling is not None else ""
    text = f"{live} of {count_of(wanted)} live"
    standing = [
        Condition("Ready", "True", "ClaimsKept" if problem else "Served", problem or text)
        if live >= wanted
        else Condition("Ready", "False", "Starting", text),
        Condition("Scaling", "True" if is_scaling else "False", f"{how}{by}", text),
    ]
    status: Document = {
        "observedGeneration": document["metadata"].get("generation", 0),
        "phase": "Ready" if live == wanted else "Scaling",
        "workers": live,
        "wanted": wanted,
        "selector": ",".join(f"{k}={v}" for k, v in sorted(pool_selector(spec.name).items())),
        "capacityBytes": capacity,
        "usedBytes": used,
        "capacityText": format_size(capacity),
        "usedText": format_size(used),
        "conditions": conditions(document, standing, at=seen.at),
    }
    applied = (document.get("status") or {}).get("appliedWorkers")
    if applied is not None:
        status["appliedWorkers"] = applied
    return show(document, status)


def _wanted(spec: CachePoolSpec, seen: Seen) -> int:
    """Return how many workers there shall be; of a daemon set, as many as there are nodes for it."""
    if spec.mode == "Workers":
        return int(seen.pool["wanted"] or 0)
    return sum(
        int((found.get("status") or {}).get("desiredNumberScheduled", 0))
        for (kind, _), found in seen.objects.items()
        if kind == DAEMON_SETS.kind
    )
