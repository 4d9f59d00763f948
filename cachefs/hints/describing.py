"""Describing: what is said of the few nodes that are in an answer, and of those that are refused."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cachefs.core.hints.answer import Fit, NodeHint, Transfer
from cachefs.core.hints.candidates import why_not
from cachefs.core.hints.fitting import fit
from cachefs.core.hints.learning import Errors
from cachefs.hints.deciding import Decided, Prices

_REASONS_MAX = 64
"""Refused nodes of which the reason is found out in detail, unless the question asks to explain."""
_LATER = "no accelerator of those wanted is free, and nobody knows when one will be"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How far what is known is to be trusted."""

    errors: Errors
    fresh_seconds: float
    """Up to this age the knowledge of a node is as good as new."""
    factor: float = 1.0
    """Of the confidence: below 1 if less than usual is known."""


def node_hints(decided: Decided, prices: Prices, trust: Trust) -> tuple[NodeHint, ...]:
    """Return what is said of the best nodes, as many as were asked for."""
    limit = decided.asked.question.limit
    rows = decided.rows[:limit].tolist()
    scores = decided.scores[:limit].tolist()
    ages = (decided.now - decided.fleet.column("heard_at")[decided.rows[:limit]]).tolist()
    return tuple(
        _node_hint(decided, prices, trust, row=row, rank=rank, score=score, age=age)
        for rank, (row, score, age) in enumerate(zip(rows, scores, ages, strict=True), start=1)
    )


def _node_hint(
    decided: Decided,
    prices: Prices,
    trust: Trust,
    *,
    row: int,
    rank: int,
    score: float,
    age: float,
) -> NodeHint:
    node = decided.fleet.at(row)
    parts = decided.estimate.breakdown(row, node.name, (node.zone, node.rack))
    seen = decided.estimate.located.seen(row)
    fits = fit(node, decided.wanted, taken=decided.taken.get(node.name, ()))
    wanted = decided.wanted
    accelerators = 0.0 if wanted is None else wanted.fraction or wanted.count
    return NodeHint(
        node=node.name,
        rank=rank,
        score=score,
        ready=trust.errors.widened(parts.ready),
        breakdown=parts,
        split=seen.split,
        arriving_seconds=seen.arriving_seconds,
        fit=fits,
        rack=node.rack,
        zone=node.zone,
        region=node.region,
        egress_usd=seen.split.origin * prices.egress_usd_per_gb / 1e9,
        idle_usd=(parts.ready - parts.slot) * accelerators * prices.gpu_usd_per_hour / 3600,
        confidence=trust.factor
        * trust.errors.confidence(age_seconds=max(age, 0.0), fresh_seconds=trust.fresh_seconds),
        age_seconds=max(age, 0.0),
        transfers=tuple(_transfers(decided, row, node.name)),
        mig=tuple(profile for gpu in node.gpus for profile in gpu.mig),
    )


def _transfers(decided: Decided, row: int, node: str) -> Iterator[Transfer]:
    """Yield what is on its way to a node, by dataset."""
    for found, located in zip(decided.asked.found, decided.located, strict=True):
        if found is None or located is None:
            continue
        seen = located.seen(row)
        if seen.split.arriving:
            name = f"{found.dataset}@{found.version}>{node}"
            yield Transfer(name, seen.split.arriving, seen.arriving_seconds)


def refused(decided: Decided) -> dict[str, str]:
    """Return the candidates that cannot take the job, and why.

    All nodes are candidates if none are named; of these only those are told that a person wants to
    have explained.
    """
    question, fleet = decided.asked.question, decided.fleet
    can = np.zeros(len(fleet), dtype=np.bool_)
    can[decided.rows] = True
    if question.candidates:
        names = [
            name for name in question.candidates if (row := fleet.row(name)) is None or not can[row]
        ]
    elif question.explain or not len(decided.rows):
        rows = np.flatnonzero(fleet.column("alive") & ~can)
        shown = rows if question.explain else rows[: question.limit]
        names = [fleet.at(row).name for row in shown.tolist()]
    else:
        return {}
    detailed = len(names) if question.explain else _REASONS_MAX
    told = {name: _reason(decided, name) for name in names[:detailed]}
    return told | {name: _reason_in_short(decided, name) for name in names[detailed:]}


def _reason(decided: Decided, name: str) -> str:
    fleet = decided.fleet
    told = why_not(fleet, decided.asked.question, decided.required, name)
    node = fleet.node(name)
    if told or node is None:
        return told
    found: Fit = fit(node, decided.wanted, taken=decided.taken.get(name, ()))
    return found.reason or _LATER


def _reason_in_short(decided: Decided, name: str) -> str:
    fleet = decided.fleet
    row = fleet.row(name)
    if row is None or not fleet.column("alive")[row]:
        return why_not(fleet, decided.asked.question, (), name)
    return _LATER if decided.may[row] else "it is no candidate for this job"
