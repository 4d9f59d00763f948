"""KAI's scheduler: it scores no preferred node affinity, but pods that want to be near other pods.

So a strong affinity is a required node affinity, and a weak one asks to be near the pod of the cache's
worker on the node: one preferred term of pod affinity each. Workers' pods carry the name of their node
as a label for this. Only pods of the cache's own namespace count: whoever may create pods elsewhere
could otherwise attract jobs with such a label.
"""

from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.affinity import PREFERRED, REQUIRED, node_affinity
from cachefs.hints.renderings.marks import COMPONENT, HOSTNAME, WORKER_NODE
from cachefs.hints.renderings.scales import binds, weighted

SCHEDULERS = frozenset({"kai-scheduler", "runai-scheduler"})
"""The names by which pods ask to be placed by KAI."""
NAMESPACE = "cachefs"
"""Where the workers' pods are, unless one says otherwise."""
_LABEL_LENGTH_MAX = 63


def kai(hint: Hint, question: Question, *, namespace: str = NAMESPACE) -> dict[str, Any]:
    """Return ``affinity`` for a pod that has none; empty without an opinion."""
    if binds(hint, question):
        return {"nodeAffinity": {REQUIRED: node_affinity(hint, question)[REQUIRED]}}
    terms = worker_terms(hint, namespace=namespace)
    return {"podAffinity": {PREFERRED: terms}} if terms else {}


def worker_terms(hint: Hint, *, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """Return a preferred term of pod affinity for each of the best nodes, 32 at most.

    Args:
        hint: What is known.
        namespace: Of the workers' pods.
    """
    return [
        {"weight": weight, "podAffinityTerm": _near_worker(node, namespace)}
        for node, weight in weighted(hint)
        if len(node) <= _LABEL_LENGTH_MAX  # longer names cannot be labels
    ]


def _near_worker(node: str, namespace: str) -> dict[str, Any]:
    return {
        "topologyKey": HOSTNAME,
        "namespaces": [namespace],
        "labelSelector": {"matchLabels": {COMPONENT[0]: COMPONENT[1], WORKER_NODE: node}},
    }
