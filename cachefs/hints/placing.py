"""Placing: where the job would go, of the nodes in order, and keeping that place if it was asked for.

One member goes to the best node; the members of a gang go where they are ready together soonest
(:mod:`cachefs.core.hints.gangs`). If a place is kept, a node that is not free yet may be the better one
(:mod:`cachefs.core.hints.waiting`): then the place that is kept is there, and the hint says to wait.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from cachefs.core.hints.answer import Action, GangHint, Wait
from cachefs.core.hints.estimate import Located, together
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.gangs import NoPlace, solve
from cachefs.core.hints.joint import Work, joined
from cachefs.core.hints.learning import Lessons
from cachefs.core.hints.nodes import NEVER, Node
from cachefs.core.hints.reserving import Asker, Refusal, Reservation, Reservations
from cachefs.core.hints.waiting import Offer, better, offer
from cachefs.hints.actions import NODES_MAX, lacking
from cachefs.hints.deciding import Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where the job would go, and what is kept for it."""

    nodes: tuple[str, ...] = ()
    """The node of each member; empty if there is no place."""
    gang: GangHint | None = None
    slowest: str = ""
    """The node of a gang that is ready last."""
    wait: Wait | None = None
    token: str = ""
    """Of the reservation; empty if none was made."""
    lacking: tuple[Action, ...] = ()
    """What would have to be brought to those nodes."""
    notes: tuple[str, ...] = ()
    """Why there is no place, or none is kept."""


class Placer:
    """Places jobs; with the inventory's turn only."""

    def __init__(
        self,
        fleet: Fleet,
        lessons: Lessons,
        *,
        block_bytes: int,
        keeping: Callable[[], Collection[str]],
    ) -> None:
        """Place jobs on the nodes of a fleet.

        Args:
            fleet: The nodes.
            lessons: What outcomes have taught.
            block_bytes: The unit in which bytes are handed from node to node.
            keeping: Returns the nodes that keep data: those with workers.
        """
        self._fleet = fleet
        self._lessons = lessons
        self._block_bytes = block_bytes
        self._keeping = keeping

    def place(self, decided: Decided) -> Placed:
        """Return where the job would go."""
        if decided.asked.question.gang is not None:
            return self._place_gang(decided)
        if not len(decided.rows):
            return Placed()
        return self.on(decided, (self._fleet.names[int(decided.rows[0])],))

    def keep(self, decided: Decided, placed: Placed, reservations: Reservations) -> Placed:
        """Keep that place for the job, or a better one that it has to wait for."""
        asker = asker_of(decided)
        self.follow(reservations, decided.now)
        if len(decided.rows):  # who can start nowhere would only be waited for by others
            reservations.line_up(asker, now=decided.now)
        kept = self._keep_best(decided, placed, reservations, asker)
        if not decided.asked.question.job:
            # Nobody can ask again for a job without a name, and so it cannot stand in line.
            reservations.leave(asker.job)
        return kept

    def _keep_best(
        self, decided: Decided, placed: Placed, reservations: Reservations, asker: Asker
    ) -> Placed:
        if placed.gang is not None or decided.asked.question.gang is not None:
            return self._keep(decided, placed, reservations, asker)
        held = reservations.of(asker.job, now=decided.now)
        if held is not None and not held.claimed and held.wanted == asker.wanted:
            again = self._keep_again(decided, held, reservations, asker)
            if again is not None:
                return again
        offered = offer(
            decided.ready, decided.slot, decided.rows, waits=reservations.waits(asker.job)
        )
        refusal = ""
        if offered is not None:
            kept = self._keep_offer(decided, offered, reservations, asker)
            if kept.token:
                return kept
            refusal = kept.notes[0]
        free = next((row for row in decided.rows.tolist() if decided.slot[row] <= 0), None)
        if free is None:
            note = refusal or "nothing is free, and nobody knows when something will be"
            return replace(placed, notes=(*placed.notes, f"no place is kept: {note}"))
        best = self.on(decided, (self._fleet.names[free],))
        return self._keep(decided, best, reservations, asker)

    def _keep_again(
        self, decided: Decided, held: Reservation, reservations: Reservations, asker: Asker
    ) -> Placed | None:
        """Keep the place that a job has, unless another has become clearly better.

        Who waits asks again. That costs it nothing, and is no other wait.
        """
        row = self._fleet.row(held.places[0].node)
        if len(held.places) > 1 or row is None or row not in decided.rows:
            return None
        waits = reservations.waits(held.job)
        moved = better(decided.ready, decided.slot, decided.rows, row, waits=waits)
        at = row if moved is None else moved
        free, ready = float(decided.slot[at]), float(decided.ready[at])
        if moved is not None:
            kept = self._keep_offer(decided, Offer(at, free, ready, NEVER), reservations, asker)
            return kept if kept.token else None
        placed = self.on(decided, (held.places[0].node,))
        wait = None if free <= 0 else _wait(decided, placed.nodes[0], free, ready, held)
        return replace(placed, token=held.token, wait=wait)

    def follow(
        self, reservations: Reservations, now: float, others: Mapping[str, Node] | None = None
    ) -> None:
        """Move what is kept to when its nodes, as they are now, will have room for it.

        Args:
            reservations: What is kept.
            now: The moment.
            others: Nodes that are not the fleet's, by name.
        """
        names = {place.node for each in reservations.held(now=now) for place in each.places}
        nodes = {name: node for name in names if (node := self._fleet.node(name)) is not None}
        reservations.follow(nodes | dict(others or {}), now=now)

    def _place_gang(self, decided: Decided) -> Placed:
        question = decided.asked.question
        gang = question.gang
        if gang is None or not len(decided.rows):
            return Placed()
        joint = joined(self._fleet, decided.openings, gang, self._work(decided), may=decided.may)
        choice = solve(joint)
        if isinstance(choice, NoPlace):
            return Placed(notes=(f"the gang finds no place: {choice.reason}",))
        hint = GangHint(
            assignment=choice.assignment,
            level=choice.level,
            domain=choice.domain,
            ready=self._lessons.errors.widened(choice.seconds),
            bottleneck=choice.breakdown.bottleneck,
            breakdown=choice.breakdown,
        )
        placed = self.on(decided, choice.assignment)
        return replace(placed, gang=hint, slowest=choice.slowest)

    def _work(self, decided: Decided) -> Work:
        """Return what the members of a gang do, each on its own and all together."""
        question = decided.asked.question
        every: list[Located] = []
        shares: list[Located] = []
        for reading, located in zip(question.readings, decided.located, strict=True):
            if located is not None:
                (shares if reading.by_rank else every).append(located)
        return Work(
            every=together(every, self._fleet) if every else None,
            shares=together(shares, self._fleet) if shares else None,
            links=decided.links,
            loader=question.loader,
            image=decided.estimate.image,
            init=self._lessons.starts.of(decided.asked.subject),
            files=decided.asked.files(),
            block_bytes=self._block_bytes,
        )

    def on(self, decided: Decided, nodes: tuple[str, ...]) -> Placed:
        """Return a placement on some nodes, with what they lack."""
        size, keeping = len(nodes), self._keeping()
        actions: list[Action] = []
        for node, members in list(Counter(nodes).items())[:NODES_MAX]:
            row = self._fleet.row(node)
            if row is not None and node in keeping:
                actions += lacking(decided, row, node, members / size)
        return Placed(nodes=nodes, lacking=tuple(actions))

    def _keep(
        self, decided: Decided, placed: Placed, reservations: Reservations, asker: Asker
    ) -> Placed:
        if not placed.nodes:
            return placed
        made = self._try(decided, placed.nodes, reservations, asker)
        if isinstance(made, Refusal):
            note = f"no place is kept: {made.reason}"
            return replace(placed, notes=(*placed.notes, note))
        free_seconds = made.free_at - decided.now
        wait = None
        if placed.gang is not None and free_seconds > 0:
            ready = placed.gang.ready.p50
            wait = _wait(decided, placed.slowest, free_seconds, ready, made)
        return replace(placed, token=made.token, wait=wait)

    def _keep_offer(
        self, decided: Decided, offered: Offer, reservations: Reservations, asker: Asker
    ) -> Placed:
        placed = self.on(decided, (self._fleet.names[offered.row],))
        made = self._try(decided, placed.nodes, reservations, asker)
        if isinstance(made, Refusal):
            return replace(placed, notes=(made.reason,))
        free, ready = offered.free_seconds, offered.ready_seconds
        wait = None if free <= 0 else _wait(decided, placed.nodes[0], free, ready, made)
        return replace(placed, token=made.token, wait=wait)

    def _try(
        self,
        decided: Decided,
        nodes: tuple[str, ...],
        reservations: Reservations,
        asker: Asker,
    ) -> Reservation | Refusal:
        question = decided.asked.question
        where: list[tuple[Node, int]] = []
        for name, members in Counter(nodes).items():
            node = self._fleet.node(name)
            if node is None:
                return Refusal(f"{name} has just left")
            where.append((node, members))
        return reservations.try_reserve(
            asker,
            where,
            token=f"r-{secrets.token_hex(12)}",
            now=decided.now,
            keep_seconds=question.reserve_seconds or 0.0,
            runs_seconds=question.expected_seconds or self._lessons.runs.of(decided.asked.subject),
        )


def _wait(
    decided: Decided, node: str, free_seconds: float, ready_seconds: float, made: Reservation
) -> Wait:
    return Wait(
        node=node,
        free_seconds=free_seconds,
        ready_seconds=ready_seconds,
        reservation=made.token,
        expires_seconds=made.expires_at - decided.now,
    )


def asker_of(decided: Decided) -> Asker:
    """Return who stands in line for the job."""
    question, fleet = decided.asked.question, decided.fleet
    named = frozenset(question.candidates)
    if len(fleet.rows(named)) == fleet.column("alive").sum():
        named = frozenset()  # all of them; thousands of names need not be stored
    return Asker(
        job=decided.asked.job,
        wanted=decided.wanted,
        tenant=question.tenant,
        candidates=named,
        selector=question.selector,
    )
