"""The ``eviction`` of pods: a delete that asks the disruption budgets first."""

from dataclasses import replace

from cachefs.testing.kubernetes.deletions import Deletions
from cachefs.testing.kubernetes.documents import Document, Key
from cachefs.testing.kubernetes.failures import Refusal, not_found
from cachefs.testing.kubernetes.requests import Reply, Request
from cachefs.testing.kubernetes.selectors import object_selector
from cachefs.testing.kubernetes.store import Store

_RETRY_SECONDS = 10


def evict(request: Request, store: Store, deletions: Deletions) -> Reply:
    """Evict a pod.

    What a budget allows is read from its status, as the API server does; who keeps that status is a controller.
    When none has (``observedGeneration`` is missing), it is worked out from the pods that are ready.

    Raises:
        Refusal: 429 when a budget allows no disruption now, 500 when two budgets hold the pod.
    """
    pod = store.get(request.key)
    if pod is None:
        raise not_found("", "pods", request.name)
    _, objects = store.objects()
    budgets = [
        (key, budget)
        for key, budget in objects.items()
        if key[:3] == ("policy", "poddisruptionbudgets", request.namespace)
        and object_selector(budget["spec"].get("selector"))(pod)
    ]
    if len(budgets) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise Refusal(500, "InternalError", message)
    if not _is_over(pod):
        for key, budget in budgets:
            _take(key, budget, list(objects.items()), store, dry_run=request.dry_run)
    options = (request.body or {}).get("deleteOptions") or {}
    deletions.delete(replace(request, verb="delete", subresource="", body=options))
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return Reply(201, {**head, "code": 201})


def _is_over(pod: Document) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed") or bool(pod["metadata"].get("deletionTimestamp"))


def _take(
    key: Key,
    budget: Document,
    objects: list[tuple[Key, Document]],
    store: Store,
    *,
    dry_run: bool,
) -> None:
    """Take one disruption from a budget."""
    status = budget.get("status") or {}
    if "observedGeneration" in status:
        allowed = status.get("disruptionsAllowed", 0)
    else:
        allowed = _allowed(budget, key[2], objects)
    name = key[3]
    if allowed <= 0:
        cause = {
            "reason": "DisruptionBudget",
            "message": f"The disruption budget {name} does not allow evicting pods currently",
        }
        raise Refusal(
            429,
            "TooManyRequests",
            "Cannot evict pod as it would violate the pod's disruption budget.",
            details={"causes": [cause]},
            retry_after_seconds=_RETRY_SECONDS,
        )
    if "observedGeneration" in status and not dry_run:
        left = {**status, "disruptionsAllowed": allowed - 1}
        store.write(key, budget, {**budget, "status": left})


def _allowed(budget: Document, namespace: str, objects: list[tuple[Key, Document]]) -> int:
    fits = object_selector(budget["spec"].get("selector"))
    pods = [
        document
        for key, document in objects
        if key[:3] == ("", "pods", namespace) and fits(document)
    ]
    ready = sum(_is_ready(pod) for pod in pods)
    spec = budget["spec"]
    if "maxUnavailable" in spec:
        return ready - (len(pods) - _number(spec["maxUnavailable"], len(pods)))
    return ready - _number(spec.get("minAvailable", 1), len(pods))


def _is_ready(pod: Document) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def _number(value: int | str, whole: int) -> int:
    """Return what a number or a percentage means; percentages are rounded up, as Kubernetes does."""
    if isinstance(value, str) and value.endswith("%"):
        return -(-whole * int(value[:-1]) // 100)
    return int(value)
