"""Fragments: how much a member would break up what is free, as a tie-break among equal nodes.

Free accelerators are worth something only to jobs that fit into them: three quarters of one are nothing
to a job that wants a whole one, and seven whole ones nothing to a job that wants eight. The *fragments*
of a node are the accelerators that a job drawn from the common mix could not use there, on average;
a member's *growth* is by how much it raises them. The least growth packs fractions onto accelerators
that are broken already and keeps whole nodes whole. (The measure is that of fragmentation gradient
descent, ATC'23.)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.fitting import ROUNDING

Shares = NDArray[np.float64]


class Kind(NamedTuple):
    """A kind of job in the mix."""

    accelerators: float
    """How many it wants; a fraction of one for less than 1."""
    weight: float
    """Its part of all jobs."""


MIX = (
    Kind(0.25, 0.095),
    Kind(0.5, 0.15),
    Kind(0.75, 0.19),
    Kind(1.0, 0.555),
    Kind(2.0, 0.002),
    Kind(4.0, 0.002),
    Kind(8.0, 0.006),
)
"""What is commonly asked for: of the 7,064 jobs with accelerators in Alibaba's public trace of 2023,
fractions rounded to quarters."""


def fragments(free: Shares, mix: tuple[Kind, ...] = MIX) -> NDArray[np.float64]:
    """Return the accelerators that jobs of the mix could not use, on average.

    Args:
        free: How much of each accelerator is free, 0 to 1; the last axis is a node's accelerators.
        mix: The kinds of jobs.
    """
    whole = (free > 1 - ROUNDING).sum(axis=-1)
    every = free.sum(axis=-1)
    broken = every - whole
    wasted = np.zeros(free.shape[:-1])
    for kind in mix:
        if kind.accelerators < 1:
            too_small = free < kind.accelerators - ROUNDING
            wasted += kind.weight * np.where(too_small, free, 0.0).sum(axis=-1)
        else:
            wasted += kind.weight * np.where(whole >= kind.accelerators, broken, every)
    return wasted


def growth(
    free: Shares, now: NDArray[np.int64], wanted: WantedGpu | None, mix: tuple[Kind, ...] = MIX
) -> NDArray[np.float64]:
    """Return by how much one member raises each node's fragments, where it is placed best.

    Args:
        free: How much of each accelerator is free: a row a node, a column an accelerator.
        now: The places that each offers at once (:class:`~.fitting.Places`).
        wanted: What the member needs. A slice of a MIG accelerator breaks up nothing.
        mix: The kinds of jobs.
    """
    if wanted is None or wanted.mig_profile is not None or not free.size:
        return np.zeros(len(free))
    before = fragments(free, mix)
    if wanted.fraction is None:
        taken = (now > 0) & (np.cumsum(now > 0, axis=1) <= max(wanted.count, 0))
        result: NDArray[np.float64] = fragments(np.where(taken, 0.0, free), mix) - before
        return result
    least = np.full(len(free), np.inf)
    for device in range(free.shape[1]):
        after = free.copy()
        after[:, device] -= wanted.fraction
        after[:, device] = np.maximum(after[:, device], 0.0)
        grown = fragments(after, mix) - before
        np.minimum(least, np.where(now[:, device] > 0, grown, np.inf), out=least)
    return np.where(np.isfinite(least), least, 0.0)
