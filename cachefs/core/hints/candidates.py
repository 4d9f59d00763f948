"""Candidates: which nodes may be chosen at all, and why another may not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.asking import Question
from cachefs.core.hints.estimate import KINDS, Located
from cachefs.core.hints.fleet import Fleet

Truths = NDArray[np.bool_]

_HERE = KINDS.index("arriving") + 1
"""Kinds before this one are of copies that a node holds or awaits."""


def candidates(fleet: Fleet, question: Question, required: Sequence[Located]) -> Truths:
    """Return whether each node may be chosen, accelerators aside.

    Args:
        fleet: The nodes.
        question: What is asked for.
        required: Each dataset whose affinity is required. A node must hold, or await, some of every
            one of them: two required datasets mean *and*.
    """
    may: Truths = fleet.column("alive") & fleet.column("schedulable")
    if question.candidates:
        named = np.zeros(len(fleet), dtype=np.bool_)
        named[fleet.rows(question.candidates)] = True
        may &= named
    for located in required:
        may &= _held(located)
    if question.selector:
        wanted = question.selector.items()
        for row in np.flatnonzero(may).tolist():
            may[row] = wanted <= fleet.at(row).labels.items()
    return may


def why_not(fleet: Fleet, question: Question, required: Sequence[Located], name: str) -> str:
    """Say to a person why a node may not be chosen; empty if it may."""
    row = fleet.row(name)
    if row is None or not fleet.column("alive")[row]:
        return "the node is not known"
    node = fleet.at(row)
    if not node.schedulable:
        return "the node takes no new work"
    missing = dict(question.selector.items() - node.labels.items())
    if missing:
        return "it lacks the label " + ", ".join(f"{k}={v}" for k, v in sorted(missing.items()))
    for located in required:
        if not _held(located)[row]:
            return "it holds nothing of a dataset that is required"
    return ""


def _held(located: Located) -> Truths:
    """Say which nodes hold or await some; where there is nothing to hold, all do."""
    nothing = located.kinds.sum(axis=0) == 0
    held: Truths = (located.kinds[:_HERE].sum(axis=0) > 0) | nothing
    return held
