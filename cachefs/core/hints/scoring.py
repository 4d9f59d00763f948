"""Scores: from seconds to the scales that schedulers take, and the order of the nodes.

Seconds are what is known; every scale throws some of them away. Two rules make that harmless. Nodes
whose seconds differ by no more than a second are *alike*: they get one score, so that the scheduler's
other concerns (spread, packing) decide between them. And on a coarse scale steps are of equal ratios,
not of equal seconds: one second and three are worlds apart, 300 and 310 are the same.
"""

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.fleet import Column, Fleet, Rows

ALIKE_SECONDS = 1.0
"""An estimate is not known more closely than this."""
STEPS = 10
"""Of the coarse scale: the extender's range is 0 to 10."""
_STEP_RATIO = 1.5
"""Of the seconds of two neighbouring steps: ten of them span a factor of 57."""


def alike(ready: Column) -> NDArray[np.intp]:
    """Return a number for each time, equal for those that are alike, growing with the seconds.

    A group begins with its quickest, and holds whatever is at most a second slower than that.
    """
    unique, where = np.unique(ready, return_inverse=True)
    times = unique.tolist()
    numbers = np.empty(len(times), dtype=np.intp)
    begin = number = 0
    while begin < len(times):
        end = bisect_right(times, times[begin] + ALIKE_SECONDS, begin)
        numbers[begin:end] = number
        begin, number = end, number + 1
    groups: NDArray[np.intp] = numbers[where]
    return groups


def hundredths(ready: Column) -> Column:
    """Return scores of 0 to 100, 100 for the best.

    ``100 · exp(-(t - best) / tau)`` with ``tau = max(10 s, best / 10)``: what is ten seconds slower
    scores a third, and so on; for jobs that take minutes in any case, what is a tenth slower.
    """
    if not len(ready):
        return np.empty(0)
    best = float(ready.min())
    if not np.isfinite(best):
        return np.zeros(len(ready))
    begin = _begin(ready)
    scores: Column = 100 * np.exp(-(begin - best) / max(10.0, best / 10))
    return scores


def tenths(ready: Column) -> NDArray[np.intp]:
    """Return scores of 0 to 10: a step less for every half more of the seconds (and one) of the best."""
    if not len(ready):
        return np.empty(0, dtype=np.intp)
    best = float(ready.min())
    if not np.isfinite(best):
        return np.zeros(len(ready), dtype=np.intp)
    with np.errstate(over="ignore"):
        steps = np.log((_begin(ready) + 1) / (best + 1)) / np.log(_STEP_RATIO)
    scores: NDArray[np.intp] = (STEPS - np.minimum(np.round(steps), STEPS)).astype(np.intp)
    return scores


def ordered(
    fleet: Fleet,
    rows: Rows,
    ready: Column,
    *,
    fragments: Column | None = None,
    cost: Column | None = None,
) -> NDArray[Any]:
    """Return the given rows, the best first.

    Args:
        fleet: The nodes.
        rows: Those to order.
        ready: Seconds, a row a node of the fleet.
        fragments: How much a member there would break up what is free, a row a node.
        cost: In dollars, a row a node.

    Of nodes that are alike comes first whichever breaks up less of what is free, then whoever loads
    less at the moment, then the cheaper, the quicker, and the one whose name sorts first.
    """
    nothing = np.zeros(len(rows))
    keys = (
        fleet.by_name[rows],
        ready[rows],
        nothing if cost is None else cost[rows],
        fleet.column("streams_in")[rows],
        nothing if fragments is None else fragments[rows],
        alike(ready[rows]),
    )
    return rows[np.lexsort(keys)]


def _begin(ready: Column) -> Column:
    """Return for each time the quickest that it is alike with."""
    groups = alike(ready)
    firsts = np.full(int(groups.max()) + 1, np.inf)
    np.minimum.at(firsts, groups, ready)
    begin: Column = firsts[groups]
    return begin
