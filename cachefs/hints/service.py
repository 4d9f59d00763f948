"""The service: the one road from a question to a hint, whoever asks and however.

Theory of operation. :meth:`HintService.answer` first asks the inventory where the bytes are. Then, while
the inventory stands still for some milliseconds, the nodes are put in order (:mod:`.deciding`), a gang is
placed, and the best nodes are described (:mod:`.describing`). Who asks to have a place kept does all that
within a change of the reservations (:mod:`.keeping`), so that no place is promised twice; waiting is only
offered there, because who waits without a promise waits with everybody else. At the end the hint is
remembered for its outcome (:mod:`.outcomes`), and what the job would lack is brought, if that was asked for
(:mod:`.actions`).

Nothing that is not known is an error: a dataset that does not exist tells no nodes apart, a store that
does not answer keeps no place, and the hint says so in ``degraded``.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cachefs.core.hints.answer import Hint, Start
from cachefs.core.hints.asking import Line, Question, Reading
from cachefs.core.hints.learning import Lessons
from cachefs.core.names import printable
from cachefs.errors import CoordinatorUnavailableError, NotKnownError
from cachefs.hints.actions import Prefetches
from cachefs.hints.deciding import Asked, Decided, Decider, Prices
from cachefs.hints.describing import Trust, node_hints, refused
from cachefs.hints.inventory import Found, Inventory
from cachefs.hints.keeping import Keeper, KeptPlace
from cachefs.hints.lining import Ground, Liner, Own, held_readings
from cachefs.hints.outcomes import GivenHints, Learned, Recalled, learn
from cachefs.hints.placing import Placed, Placer
from cachefs.ports import Runtime
from cachefs.telemetry.metrics import Sample

_LOG = logging.getLogger("cachefs.hints")

_UNKNOWN_FACTOR = 0.5
"""Of the confidence, for each dataset that is not known, or known by halves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What hints are answered by, beside what is known."""

    prices: Prices
    fresh_seconds: float
    """Up to this age the knowledge of a node is as good as new."""
    stale_seconds: float
    """Of older knowledge every answer says so; a question may ask for fresher."""
    valid_seconds: float
    """How long an answer may be used."""
    remembered_nodes: int
    """Nodes in all hints that are remembered for their outcomes."""
    block_bytes: int
    """The unit in which bytes are handed from node to node."""


@dataclass(slots=True)
class _Counts:
    answers: int = 0
    without_opinion: int = 0
    degraded: int = 0
    outcomes: int = 0
    seconds: float = 0.0


class HintService:
    """Answers questions. Safe from any thread."""

    def __init__(
        self,
        inventory: Inventory,
        keeper: Keeper,
        lessons: Lessons,
        runtime: Runtime,
        *,
        rules: Rules,
        prefetches: Prefetches,
    ) -> None:
        """Answer from an inventory, which its owner starts and closes."""
        self._inventory = inventory
        self._keeper = keeper
        self._runtime = runtime
        self._rules = rules
        self._prefetches = prefetches
        self._lessons = lessons
        self._lessons_revision = 0
        self._turn = runtime.condition()  # of lessons, of the hints given, and of counts
        self._given = GivenHints(nodes_limit=rules.remembered_nodes)
        self._counts = _Counts()
        with inventory.turn():
            self._decider = Decider(inventory.fleet, lessons, rules.prices)
            self._placer = Placer(
                inventory.fleet,
                lessons,
                block_bytes=rules.block_bytes,
                keeping=prefetches.nodes,
            )
        self._liner = Liner(self._decider, self._placer, lessons)

    # ---- questions ----------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """Grows whenever an answer may differ."""
        return self._inventory.revision + self._lessons_revision + self._keeper.changes

    def answer(self, question: Question) -> Hint:
        """Say where a job would be ready soonest.

        Raises:
            ConfigError: A pattern of files cannot match anything.
        """
        began = self._runtime.monotonic()
        asked = self._asked(question)
        hint = self._begun(asked, self._decided(asked))
        self._remember((hint,), (question,), began)
        return hint

    def answer_line(self, line: Line) -> tuple[Hint, ...]:
        """Say of all jobs of a queue where they start, in their order, so that all are best off.

        Raises:
            ConfigError: A pattern of files cannot match anything.
        """
        began = self._runtime.monotonic()
        asked = [self._asked(question) for question in line.questions]
        own = [
            Own(place=place, found=None if reading is None else self._find((reading,))[0][0])
            for place, reading in zip(line.places, held_readings(line), strict=True)
        ]
        hints = self._decided_line(asked, line, own)
        begun = tuple(self._begun(*each) for each in zip(asked, hints, strict=True))
        self._remember(begun, line.questions, began)
        return begun

    def _asked(self, question: Question) -> Asked:
        found, unknown = self._find(question.readings)
        number = f"{round(self._runtime.wall() * 1000):011x}"
        number += f"{self._runtime.random.getrandbits(32):08x}"
        return Asked(id=f"h-{number}", question=question, found=found, notes=unknown)

    def _begun(self, asked: Asked, hint: Hint) -> Hint:
        """Begin what a hint assumes, if that is wanted."""
        question = asked.question
        if question.dry_run or not (question.prefetch or hint.wait is not None):
            return hint
        return replace(hint, actions=self._prefetches.start(asked, hint))

    def _remember(self, hints: Sequence[Hint], questions: Sequence[Question], began: float) -> None:
        with self._turn:
            for hint, question in zip(hints, questions, strict=True):
                if not question.dry_run:
                    self._given.put(question, hint)
                self._counts.answers += 1
                self._counts.without_opinion += not hint.has_opinion
                self._counts.degraded += bool(hint.degraded)
            self._counts.seconds += self._runtime.monotonic() - began

    def _find(
        self, readings: Iterable[Reading]
    ) -> tuple[tuple[Found | None, ...], tuple[str, ...]]:
        """Return where the bytes are of each reading, and why one is not known."""
        found: list[Found | None] = []
        notes = []
        for reading in readings:
            version = f"@{reading.version}" if reading.version else ""
            try:
                one = self._inventory.find(reading)
            except CoordinatorUnavailableError as error:
                one = None
                notes.append(f"{reading.dataset}{version} cannot be looked up: {error.message}")
            else:
                if one is None:
                    notes.append(f"there is no dataset {reading.dataset}{version}")
                elif not one.exact:
                    notes.append(f"the files of {reading.dataset} are still being looked through")
            found.append(one)
        return tuple(found), tuple(notes)

    def _decided(self, asked: Asked) -> Hint:
        """Decide, and keep a place if that is asked for and can be."""
        if asked.question.keep_seconds is None:
            return self._decide(asked, keeps=False)
        try:
            with self._keeper.changing():
                return self._decide(asked, keeps=True)
        except CoordinatorUnavailableError as error:
            hint = self._decide(asked, keeps=False)
            return _degraded(hint, f"no place is kept: {error}")

    def _decide(self, asked: Asked, *, keeps: bool) -> Hint:
        question, inventory = asked.question, self._inventory
        with inventory.turn(), self._turn:
            now = self._runtime.monotonic()
            links = self._decider.links(inventory.links, self._lessons_revision)
            taken = self._keeper.taken(but_for=question.job)
            decided = self._decider.decide(asked, links, taken=taken, now=now)
            placed = self._placer.place(decided)
            if keeps:
                with self._keeper.reservations() as reservations:
                    placed = self._placer.keep(decided, placed, reservations)
            return self._hint(decided, placed)

    def _decided_line(
        self, asked: Sequence[Asked], line: Line, own: Sequence[Own]
    ) -> tuple[Hint, ...]:
        """Decide about a line, and keep places for those who ask for that, if that can be."""
        if all(each.question.keep_seconds is None for each in asked):
            return self._decide_line(asked, line, own, keeps=False)
        try:
            with self._keeper.changing():
                return self._decide_line(asked, line, own, keeps=True)
        except CoordinatorUnavailableError as error:
            hints = self._decide_line(asked, line, own, keeps=False)
            return tuple(_degraded(hint, f"no place is kept: {error}") for hint in hints)

    def _decide_line(
        self, asked: Sequence[Asked], line: Line, own: Sequence[Own], *, keeps: bool
    ) -> tuple[Hint, ...]:
        inventory = self._inventory
        with inventory.turn(), self._turn, self._keeper.reservations() as reservations:
            ground = Ground(
                line=line,
                own=own,
                links=self._decider.links(inventory.links, self._lessons_revision),
                reservations=reservations,
                keeps=keeps,
                now=self._runtime.monotonic(),
            )
            lined = self._liner.decide(asked, ground)
            return tuple(self._hint(each.decided, each.placed, each.start) for each in lined)

    def _hint(self, decided: Decided, placed: Placed, start: Start | None = None) -> Hint:
        """Return what is said of a decision; with the turns of the inventory and of lessons."""
        asked, rules, wall = decided.asked, self._rules, self._runtime.wall()
        halves = sum(one is None or not one.exact for one in asked.found)
        trust = Trust(
            errors=self._lessons.errors,
            fresh_seconds=rules.fresh_seconds,
            factor=_UNKNOWN_FACTOR**halves,
        )
        nodes = node_hints(decided, rules.prices, trust)
        oldest = max((node.age_seconds for node in nodes), default=0.0)
        notes = (*self._notes(decided, oldest), *placed.notes)
        return Hint(
            id=asked.id,
            generated_at=wall,
            valid_until=wall + rules.valid_seconds,
            epoch=self._inventory.epoch,
            nodes=nodes,
            gang=placed.gang,
            wait=placed.wait,
            reservation="" if placed.wait is not None else placed.token,
            start=start,
            actions=placed.lacking,
            refused=refused(decided),
            seconds=_every(decided) if asked.question.every else {},
            degraded="; ".join(dict.fromkeys(notes)),
        )

    def _notes(self, decided: Decided, oldest_seconds: float) -> Iterator[str]:
        """Yield why an answer is worth less than usual."""
        question, rows = decided.asked.question, decided.rows
        yield from self._inventory.problems
        yield from decided.asked.notes
        yield from decided.notes
        limit = question.staleness_seconds_max
        age = max(oldest_seconds, self._inventory.behind_seconds)
        if age > (self._rules.stale_seconds if limit is None else limit) and len(rows):
            yield f"inventory {age:.0f} s old"
        if not decided.fleet.column("alive").any():
            yield "no node is known"
        elif not len(rows):
            yield "no node can take the job"

    # ---- outcomes -----------------------------------------------------------------------------

    def outcome(
        self,
        hint: str,
        node: str,
        seconds: float,
        phases: Mapping[str, float],
        *,
        recalled: Recalled | None = None,
    ) -> Learned:
        """Take in how long it really took.

        Args:
            hint: Its id.
            node: Where the job, or its first member, was started.
            seconds: From the hint until it was ready.
            phases: Seconds of its parts.
            recalled: What the hint said, should it not be remembered.

        Raises:
            NotKnownError: There is no such hint, or it says nothing of the node.
            ConfigError: There is no such phase.
        """
        with self._turn:
            if recalled is not None and hint not in self._given:
                given = self._given.recall(hint, node, recalled)
            else:
                given = self._given.find(hint)
            learned = learn(self._lessons, given, node, seconds, phases)
            self._lessons_revision += 1
            self._counts.outcomes += 1
            runs = given.runs_seconds or self._lessons.runs.of(given.subject)
        if given.token:
            self._end(given.token)
        if "run" not in phases:
            self._expect(node, given.accelerators, runs)
        return learned

    def _end(self, token: str) -> None:
        """Keep a place no longer, because its job is there; if it is still kept."""
        try:
            with self._keeper.changing(), self._keeper.reservations() as reservations:
                reservations.claim(token, now=self._runtime.monotonic())
        except NotKnownError:
            return
        except CoordinatorUnavailableError as error:
            _LOG.warning("a place is kept until it expires", extra={"failure": str(error)})

    def _expect(self, node: str, count: int, seconds: float) -> None:
        """Say when the accelerators that a job has just taken are expected to be free."""
        with self._inventory.turn():
            known = self._inventory.fleet.node(node)
            busy = () if known is None else known.gpus
            taken = [gpu.index for gpu in busy if gpu.used and gpu.free_at is None][:count]
        at = self._runtime.monotonic() + seconds
        for index in taken:
            self._inventory.expect_release(node, index, at)

    # ---- reservations -------------------------------------------------------------------------

    def reservations(self) -> tuple[KeptPlace, ...]:
        """Return the places that are kept, those that expire first in front."""
        return self._keeper.held()

    def kept(self, hint: Hint) -> KeptPlace | None:
        """Return the place that was kept with a hint."""
        if not hint.token:
            return None
        return next((each for each in self._keeper.held() if each.token == hint.token), None)

    def claim(self, token: str) -> None:
        """Note that the job has been placed where a place was kept for it; again is no error.

        Raises:
            NotKnownError: No such place is kept.
            CoordinatorUnavailableError: The store does not answer.
        """
        with self._keeper.changing(), self._keeper.reservations() as reservations:
            reservations.claim(token, now=self._runtime.monotonic())

    def cancel(self, token: str) -> None:
        """Keep a place no longer.

        Raises:
            NotKnownError: No such place is kept.
            CoordinatorUnavailableError: The store does not answer.
        """
        with self._keeper.changing(), self._keeper.reservations() as reservations:
            found = reservations.cancel(token, now=self._runtime.monotonic())
            if found is not None:
                reservations.leave(found.job)
        if found is None:
            raise NotKnownError(
                "no such reservation", subject=printable(token), hint="it may have expired"
            )

    # ---- life ---------------------------------------------------------------------------------

    @property
    def lessons_revision(self) -> int:
        """Grows with every outcome."""
        return self._lessons_revision

    def lessons_document(self) -> dict[str, object]:
        """Return what outcomes have taught, to be stored."""
        with self._turn:
            return self._lessons.document()

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured, for the metrics."""
        with self._turn:
            counts = replace(self._counts)
            errors = self._lessons.errors
            ratio, error = errors.median_ratio, errors.median_error
        yield "cachefs_hint_answers_total", (), counts.answers
        yield "cachefs_hint_answer_seconds_total", (), counts.seconds
        yield "cachefs_hint_without_opinion_total", (), counts.without_opinion
        yield "cachefs_hint_degraded_total", (), counts.degraded
        yield "cachefs_hint_outcomes_total", (), counts.outcomes
        yield "cachefs_hint_error_ratio", (), ratio
        yield "cachefs_hint_error_median", (), error
        yield "cachefs_hint_reservations", (), len(self._keeper.held())
        yield "cachefs_hint_prefetches_total", (), self._prefetches.started


def _degraded(hint: Hint, told: str) -> Hint:
    return replace(hint, degraded="; ".join(filter(None, (hint.degraded, told))))


def _every(decided: Decided) -> dict[str, float]:
    """Return the seconds of every node that can take the job, as the datasets' weights have them."""
    names = decided.fleet.names
    seconds = decided.weighed[decided.rows].tolist()
    return {names[row]: each for row, each in zip(decided.rows.tolist(), seconds, strict=True)}
