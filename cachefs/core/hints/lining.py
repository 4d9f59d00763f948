"""Lining up: all jobs of a queue are matched with places, and what they are promised is kept.

:mod:`.matching` says who starts where; here it becomes promises. Whoever is matched with a place that is
not free yet, although it could start elsewhere, gets a reservation or is told nothing. What a job was
promised before is looked at again each time: it keeps its place if it is matched with it once more, and
gives it up as soon as it gets another, or another gets that one.

The service of hints and the simulation both call :func:`line_up`, so that what is measured of it there is
what is answered here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.candidates import Truths
from cachefs.core.hints.estimate import Estimate
from cachefs.core.hints.fleet import Column, Rows
from cachefs.core.hints.matching import Match, match
from cachefs.core.hints.nodes import NEVER, Node
from cachefs.core.hints.reserving import Asker, Refusal, Reservation, Reservations
from cachefs.core.hints.slots import Openings
from cachefs.core.hints.waiting import MOVES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where one member could start, each once: a node with eight free accelerators has eight places."""

    rows: Rows
    """The node of each place, as a row of the fleet."""
    seconds: Column
    """Until each is free; 0 if it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InLine:
    """A job in line."""

    asker: Asker
    ready: Column
    """Seconds until it would be ready at each place; infinite where it cannot be."""
    extra: Column
    """Seconds that it costs others there."""
    runs_seconds: float | None = None
    """How long it is expected to run; ``None`` if nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How places are kept for those in line."""

    reservations: Reservations
    node: Callable[[int], Node]
    """Returns the node of a place, as reservations know it, by the number of the place."""
    token: Callable[[], str]
    """Makes up a new one."""
    wanted: Collection[int]
    """The jobs that ask to have a place kept, by their places in line."""
    seconds: float = 0.0
    """Keep places at least so long."""


class Promise(NamedTuple):
    """Where a job in line is to start."""

    job: int
    """Its place in line, from 0."""
    place: int
    is_free: bool
    """Whether it can start at once; else it waits for the place, which is kept for it."""
    token: str = ""
    """Of the reservation; empty if none was asked for."""


def places_of(openings: Openings, may: Rows, *, most: int) -> Places:
    """Return the places on some nodes, those that will be free later included.

    Args:
        openings: Where members of one kind could start.
        may: The nodes, as rows of the fleet.
        most: No more of one node: as many as there are jobs.
    """
    rows: list[Rows] = []
    seconds: list[Column] = []
    left = may
    for member in range(1, most + 1):
        when = openings.seconds_for(np.full(len(left), member, dtype=np.int64), left)
        there = np.isfinite(when)
        left, when = left[there], when[there]
        if not len(left):
            break
        rows.append(left)
        seconds.append(when)
    if not rows:
        return Places(rows=np.zeros(0, dtype=np.intp), seconds=np.zeros(0))
    return Places(rows=np.concatenate(rows), seconds=np.concatenate(seconds))


def useful(ready: Sequence[Column], places: Places, *, jobs: int) -> NDArray[np.intp]:
    """Return the places that matter when so many jobs choose, by number; others are nobody's best.

    Args:
        ready: Seconds until ready at each place, of each kind of job.
        places: All places.
        jobs: How many choose: each finds its place among as many of the best and as many of the best free.
    """
    most = 2 * jobs
    if len(places.rows) <= most:
        return np.arange(len(places.rows))
    free = places.seconds <= 0
    chosen = np.zeros(len(places.rows), dtype=np.bool_)
    for each in ready:
        for seconds in (each, np.where(free, each, NEVER)):
            chosen[np.argpartition(seconds, jobs)[:jobs]] = True
    return np.flatnonzero(chosen)


def ready_at(estimate: Estimate, places: Places, may: Truths) -> Column:
    """Return the seconds until a job would be ready at each place.

    Args:
        estimate: Of the job, for every node.
        places: The places.
        may: Whether a node may be chosen, for every node.
    """
    rows = places.rows
    before = np.maximum.reduce([places.seconds, estimate.image[rows], estimate.data[rows]])
    seconds: Column = before + estimate.load[rows] + estimate.init[rows]
    return np.where(may[rows], seconds, NEVER)


def line_up(
    jobs: Sequence[InLine],
    seconds: Column,
    *,
    behind: float,
    now: float,
    keeping: Keeping | None = None,
) -> list[Promise]:
    """Match jobs with places, and keep what is promised.

    Args:
        jobs: In the order of their line, :data:`~.matching.WINDOW` at most.
        seconds: Until each place is free.
        behind: What :func:`~.matching.pressure` returns, with all places and all who are in line.
        now: The moment.
        keeping: How places are kept; ``None`` if nobody asks for that, and so nobody is told to wait.
    """
    if not jobs or not (seconds <= 0).any():
        return []
    names = [job.asker.job for job in jobs]
    urgent: list[int] = []
    patient: list[int] = []
    if keeping is not None:
        reservations = keeping.reservations
        # Who can start nowhere would only be waited for by others.
        there = [
            jobs[each] for each in sorted(keeping.wanted) if np.isfinite(jobs[each].ready).any()
        ]
        reservations.line_up(*(job.asker for job in there), now=now)
        urgent = [at for at, name in enumerate(names) if reservations.comes_first(name)]
        patient = [at for at in keeping.wanted if reservations.waits(names[at]) < MOVES_MAX]
    made = match(
        np.stack([job.ready for job in jobs]),
        seconds,
        extra=np.stack([job.extra for job in jobs]),
        behind=behind,
        urgent=urgent,
        patient=patient,
    )
    made = [each for each in made if each.is_free or each.declines]
    if keeping is None:
        return [Promise(each.job, each.row, each.is_free) for each in made]
    return _kept(jobs, made, keeping, now)


def _kept(
    jobs: Sequence[InLine], made: Sequence[Match], keeping: Keeping, now: float
) -> list[Promise]:
    """Return what can be kept of what was matched, and keep it."""
    reservations = keeping.reservations
    matched = {each.job: keeping.node(each.row) for each in made}
    given = {node.name for node in matched.values()}
    for at, job in enumerate(jobs):
        held = reservations.of(job.asker.job, now=now)
        if held is None or held.claimed:
            continue
        names = {place.node for place in held.places}
        is_another = at in matched and matched[at].name not in names
        # What it holds would be too little, or too much.
        is_another |= held.wanted != job.asker.wanted
        if is_another or (at not in matched and names & given):
            reservations.give_up(job.asker.job)
    promises = []
    together = {jobs[each.job].asker.job for each in made}
    for each in made:
        job = jobs[each.job]
        if each.job not in keeping.wanted:
            promises.append(Promise(each.job, each.row, each.is_free))
            continue
        node = matched[each.job]
        kept = _keep(job, node, keeping, now, is_free=each.is_free, together=together)
        if kept is not None:
            promises.append(Promise(each.job, each.row, each.is_free, kept.token))
    return promises


def _keep(
    job: InLine,
    node: Node,
    keeping: Keeping,
    now: float,
    *,
    is_free: bool,
    together: Collection[str],
) -> Reservation | None:
    """Return the place that is kept on a node; nothing if somebody else comes first."""
    held = keeping.reservations.of(job.asker.job, now=now)
    if held is not None:  # nobody is matched who holds something elsewhere
        return held
    made = keeping.reservations.try_reserve(
        job.asker,
        [(node, 1)],
        token=keeping.token(),
        now=now,
        keep_seconds=keeping.seconds,
        runs_seconds=job.runs_seconds,
        together=together,
    )
    if isinstance(made, Refusal):
        return None
    if is_free and made.free_at > now:
        keeping.reservations.give_up(job.asker.job)  # somebody has just got it
        return None
    return made
