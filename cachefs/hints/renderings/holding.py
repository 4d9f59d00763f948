"""Holding back: whether a job had better wait for its data, for schedulers that can let it wait.

Waiting costs the job nothing as long as the bytes come anyway, and saves the accelerators that would
wait with it. So a job is held for bytes that are on their way to where it would run, and for nothing
else: not for data that nobody brings, not on stale knowledge, and never longer than its patience.
"""

from cachefs.core.hints.answer import Hint, NodeHint

CLOSE_SECONDS = 10.0
"""Data that is read in so short a time is close enough: a pod takes as long to start."""
AGE_SECONDS_MAX = 30.0
"""Nobody waits on older knowledge: what was on its way then may have stopped."""
PATIENCE_SECONDS = 600.0
"""How long a job is held, unless it says otherwise: an origin that gives 1 GB/s brings 600 GB."""


def seconds_away(hint: Hint) -> float:
    """Return in how many seconds the data would be read, if it came; 0 if it is close, or nobody knows."""
    chosen = _chosen(hint)
    if any(each.age_seconds > AGE_SECONDS_MAX for each in chosen):
        return 0.0
    longest = max((each.breakdown.data for each in chosen), default=0.0)
    return longest if longest > CLOSE_SECONDS else 0.0


def seconds_missing(hint: Hint) -> float:
    """Return in how many seconds the data is close; 0 if there is no use in waiting."""
    chosen = _chosen(hint)
    comes = any(each.split.arriving > 0 for each in chosen)
    names = {each.node for each in chosen}
    begun = any(each.job and each.node in names for each in hint.actions)
    return seconds_away(hint) if comes or begun else 0.0


def _chosen(hint: Hint) -> list[NodeHint]:
    """Return where the job would run."""
    if not hint.nodes:
        return []
    by_name = {each.node: each for each in hint.nodes}
    names = hint.gang.assignment if hint.gang is not None else (hint.nodes[0].node,)
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name]


def should_wait(hint: Hint, *, held_seconds: float, patience_seconds: float) -> float:
    """Return for how many seconds a job that was held for some had better wait; 0 to let it go."""
    return 0.0 if held_seconds >= patience_seconds else seconds_missing(hint)
