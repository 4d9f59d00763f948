"""Kubernetes' node affinity: preferred terms with weights, and for strong affinity a required one.

A preferred term names one node by ``matchFields: metadata.name``, which needs no label on any node; the
API server allows exactly one value there. A required term must admit several nodes, so it lists
values of the label ``kubernetes.io/hostname``, which is usually, but not always, the node's name.

Only ratios of weights matter: the scheduler's plugin scales what it added up to 100 for the best node.
"""

from collections.abc import Callable, Sequence
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.marks import HOSTNAME
from cachefs.hints.renderings.scales import binds, hosts, weighted

PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

Hostname = Callable[[str], str]
"""From a node's name to the value of its label ``kubernetes.io/hostname``."""


def own_name(node: str) -> str:
    """Return the hostname of a node that is called the same."""
    return node


def preferred_terms(hint: Hint) -> list[dict[str, Any]]:
    """Return a term for each of the best nodes, 32 at most; none if no node is better than another."""
    return [
        {
            "weight": weight,
            "preference": {
                "matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]
            },
        }
        for node, weight in weighted(hint)
    ]


def hostname_expression(nodes: Sequence[str], hostname: Hostname = own_name) -> dict[str, Any]:
    """Return the expression that admits some nodes and no other; there must be one at least."""
    values = sorted({hostname(node) for node in nodes})
    return {"key": HOSTNAME, "operator": "In", "values": values}


def node_affinity(hint: Hint, question: Question) -> dict[str, Any]:
    """Return ``nodeAffinity`` for a pod that has none; empty without an opinion."""
    affinity: dict[str, Any] = {}
    terms = preferred_terms(hint)
    if terms:
        affinity[PREFERRED] = terms
    admitted = hosts(hint) if binds(hint, question) else []
    if admitted:
        expressions = [hostname_expression(admitted)]
        affinity[REQUIRED] = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return affinity
