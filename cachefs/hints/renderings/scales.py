"""Scales: what renderings share, from a hint's seconds to numbers and groups.

Every form says the same thing as the seconds, as finely as its scheduler can take it. Nodes that are
alike (:mod:`cachefs.core.hints.scoring`) stay alike in all of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cachefs.core.hints.answer import Hint, NodeHint
from cachefs.core.hints.asking import Affinity, Question
from cachefs.core.hints.scoring import ALIKE_SECONDS, hundredths, tenths

TERMS_MAX = 32
"""Nodes that a form names one by one: an object that is stored with every pod must stay small."""
HOSTS_MAX = 1000
"""Nodes that a form names in one list, where a job may go to no other: 250 KB at most."""


def seconds_of(hint: Hint) -> Mapping[str, float]:
    """Return the seconds to ready of all nodes that the hint tells of."""
    return hint.seconds or {each.node: each.ready.p50 for each in hint.nodes}


def tells_apart(hint: Hint) -> bool:
    """Return whether any node is sooner ready than another; else a scheduler need not be told."""
    if not hint.seconds:
        return len({each.score for each in hint.nodes}) > 1
    seconds = hint.seconds.values()
    return max(seconds) - min(seconds) > ALIKE_SECONDS


def in_tenths(seconds: Mapping[str, float]) -> dict[str, int]:
    """Return scores of 0 to 10 by node."""
    scores = tenths(np.fromiter(seconds.values(), dtype=np.float64))
    return dict(zip(seconds, scores.tolist(), strict=True))


def in_hundredths(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return scores of 0 to 100 by node."""
    scores = hundredths(np.fromiter(seconds.values(), dtype=np.float64))
    return dict(zip(seconds, np.round(scores, 2).tolist(), strict=True))


def weighted(hint: Hint) -> list[tuple[str, int]]:
    """Return the best nodes with weights of 1 to 100; none if no node is better than another.

    Nodes whose weight would be 0 are left out: that is what a node has that is not named at all. Of a
    gang, the nodes that it was placed on have 100, and others at most half of that: to be together
    counts for more than to be quick alone.
    """
    best = hint.nodes[:TERMS_MAX]
    if hint.gang is not None:
        placed = dict.fromkeys(hint.gang.assignment, 100)
        weights = {each.node: round(each.score / 2) for each in best} | placed
        named = [*placed, *(node for node in weights if node not in placed)][:TERMS_MAX]
        return [(node, weights[node]) for node in named if weights[node] > 0]
    if not tells_apart(hint):
        return []
    return [(each.node, round(each.score)) for each in best if round(each.score) > 0]


def groups(nodes: Sequence[NodeHint]) -> list[list[str]]:
    """Return the names of nodes in groups that have the same score, the best group first."""
    found: dict[float, list[str]] = {}
    for each in nodes:
        found.setdefault(each.score, []).append(each.node)
    return list(found.values())


def is_required(question: Question) -> bool:
    """Return whether a job asks to go to no node that holds nothing of a dataset of its."""
    return any(each.affinity is Affinity.REQUIRED for each in question.readings)


def holds_some(hint: NodeHint) -> bool:
    """Return whether a node holds or awaits some of what is read."""
    return hint.split.local > 0 or hint.split.arriving > 0


def binds(hint: Hint, question: Question) -> bool:
    """Return whether a required dataset binds: some node has to hold what others lack.

    Where a dataset is not known, or empty, no node holds any, and all of them are in the hint.
    """
    return is_required(question) and any(map(holds_some, hint.nodes))


def hosts(hint: Hint) -> list[str]:
    """Return the nodes that a job may go to, the soonest first, as many as a list may hold."""
    seconds = seconds_of(hint)
    return sorted(seconds, key=lambda node: (seconds[node], node))[:HOSTS_MAX]
