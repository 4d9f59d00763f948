"""The rules of what holds a pod's template: selectors that fit it, and how it may be replaced."""

from collections.abc import Iterator, Sequence

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import Cause
from cachefs.testing.kubernetes.kindrules import pods
from cachefs.testing.kubernetes.kindrules.causes import forbidden, invalid, one_of, required
from cachefs.testing.kubernetes.selectors import object_selector


def deployment_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a deployment."""
    yield from replica_set_faults(document)
    strategy = document["spec"].get("strategy") or {}
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate" and rolling is not None:
        why = "may not be specified when strategy `type` is 'Recreate'"
        yield forbidden("spec.strategy.rollingUpdate", why)
    elif (
        rolling is not None
        and _is_none(rolling.get("maxUnavailable"))
        and _is_none(rolling.get("maxSurge"))
    ):
        at = "spec.strategy.rollingUpdate.maxUnavailable"
        yield invalid(at, 0, "may not be 0 when `maxSurge` is 0")


def replica_set_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a replica set."""
    yield from _template_faults(document, ("Always",))
    yield from _count_faults(document, "replicas")


def stateful_set_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a stateful set."""
    yield from _template_faults(document, ("Always",))
    yield from _count_faults(document, "replicas")
    spec = document["spec"]
    policies = ("OrderedReady", "Parallel")
    yield from one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), policies)


def daemon_set_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a daemon set."""
    yield from _template_faults(document, ("Always",))
    strategy = document["spec"].get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    if strategy.get("type") != "RollingUpdate" or not rolling:
        return
    gone, more = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    at = "spec.updateStrategy.rollingUpdate"
    if _is_none(gone) and _is_none(more):
        yield required(f"{at}.maxUnavailable", "cannot be 0 when maxSurge is 0")
    elif not _is_none(gone) and not _is_none(more):
        yield invalid(f"{at}.maxSurge", more, "may not be set when maxUnavailable is non-zero")


def job_faults(document: Document) -> Iterator[Cause]:
    """Go through what is wrong with a job."""
    yield from _template_faults(
        document, ("OnFailure", "Never"), generated="selector" not in document["spec"]
    )
    for name in ("parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished"):
        yield from _count_faults(document, name)


def _template_faults(
    document: Document, policies: Sequence[str], *, generated: bool = False
) -> Iterator[Cause]:
    spec = document["spec"]
    template = spec.get("template") or {}
    selector = spec.get("selector")
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not generated:
        if selector is None:
            yield required("spec.selector")
        elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
            yield invalid("spec.selector", selector, "empty selector is invalid")
        elif not object_selector(selector)({"metadata": {"labels": labels}}):
            why = "`selector` does not match template `labels`"
            yield invalid("spec.template.metadata.labels", labels, why)
    inside = _with_claims(template.get("spec") or {}, spec.get("volumeClaimTemplates") or ())
    yield from one_of("spec.template.spec.restartPolicy", inside.get("restartPolicy"), policies)
    yield from pods.faults(inside, "spec.template.spec")


def _with_claims(inside: Document, claims: Sequence[Document]) -> Document:
    """Return a pod's spec with the volumes that a stateful set adds to it."""
    names = [str(claim["metadata"]["name"]) for claim in claims]
    added: list[Document] = [{"name": name, "emptyDir": {}} for name in names]
    own = [each for each in inside.get("volumes") or () if each.get("name") not in names]
    return {**inside, "volumes": [*own, *added]}


def _count_faults(document: Document, name: str) -> Iterator[Cause]:
    value = document["spec"].get(name)
    if isinstance(value, int) and value < 0:
        yield invalid(f"spec.{name}", value, "must be greater than or equal to 0")


def _is_none(value: int | str | None) -> bool:
    return value in (None, 0, "0", "0%")
