"""Outcomes: what was told to whom, and what became of it.

The hints that were given last are remembered, so that whoever asked may tell how long it really took. From
that the estimates learn (:mod:`cachefs.core.hints.learning`). A hint that was forgotten meanwhile, by age or by
a restart, or was given by another coordinator, teaches only if who got it says what it had said: whoever may tell
how long it took may tell that as well. What outcomes have taught is stored, and outlives the process.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from cachefs.core.hints.answer import Breakdown, Hint
from cachefs.core.hints.asking import Question
from cachefs.core.hints.learning import Lessons
from cachefs.core.names import printable
from cachefs.errors import ConfigError, NotKnownError

PHASES = ("slot", "image", "data", "load", "init")
"""Of a job until it is ready; ``run`` is how long it ran then."""


@dataclass(slots=True)
class Given:
    """What is remembered of a hint that was given: as little as an outcome needs."""

    subject: str
    """The dataset that stands for what the job reads; empty if it reads none."""
    accelerators: int
    """How many each member takes."""
    runs_seconds: float | None
    """How long the job runs, if the asker said so."""
    token: str
    """Of the place that was kept; empty for none."""
    nodes: Mapping[str, Breakdown]
    """What was said of each node; of a gang's, what was said of all its members together."""
    is_loaded: bool = False
    """Whether the job was sent where nothing had to be read: that teaches nothing of reading."""
    is_told: bool = False
    """Whether its outcome is known."""

    @classmethod
    def of(cls, question: Question, hint: Hint) -> "Given":
        """Return what is remembered of an answer."""
        nodes = {each.node: each.breakdown for each in hint.nodes}
        if hint.gang is not None and hint.gang.breakdown is not None:
            nodes |= dict.fromkeys(hint.gang.assignment, hint.gang.breakdown)
        if hint.start is not None:
            nodes[hint.start.node] = hint.start.breakdown
        return cls(
            subject=str(question.readings[0].dataset) if question.readings else "",
            accelerators=0 if question.gpu is None else max(question.gpu.count, 1),
            runs_seconds=question.expected_seconds,
            token=hint.token,
            nodes=nodes,
            is_loaded=hint.start is not None and hint.start.is_loaded,
        )

    def estimated(self, node: str) -> Breakdown:
        """Return what was said of a node.

        Raises:
            NotKnownError: Nothing was.
        """
        found = self.nodes.get(node)
        if found is None:
            raise NotKnownError(
                "the hint says nothing of this node",
                subject=printable(node),
                hint="nodes beyond the question's limit are not in it",
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What a hint said, in the words of who got it: for when it is not remembered any more."""

    dataset: str
    """The first that the job reads."""
    breakdown: Breakdown
    """Of the node where the job was started."""
    token: str = ""
    """Of the place that was kept."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What an outcome was compared with."""

    node: str
    estimated_seconds: float
    actual_seconds: float
    bottleneck: str
    error_ratio: float
    """The median of actual over estimated seconds, this outcome included."""


class GivenHints:
    """The hints that were given last. Not safe for concurrent use: its owner takes care of that."""

    def __init__(self, *, nodes_limit: int) -> None:
        """Remember as many hints as have so many nodes together."""
        self._limit = nodes_limit
        self._hints: OrderedDict[str, Given] = OrderedDict()
        self._nodes = 0

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._hints)

    def __contains__(self, hint: str) -> bool:
        """Return whether a hint is remembered."""
        return hint in self._hints

    def put(self, question: Question, hint: Hint) -> None:
        """Remember a hint, and forget the oldest if there are too many."""
        self._put(hint.id, Given.of(question, hint))

    def recall(self, hint: str, node: str, recalled: Recalled) -> Given:
        """Return a hint that has been forgotten, as who got it recalls it; it is remembered again."""
        given = Given(
            subject=recalled.dataset,
            accelerators=0,
            runs_seconds=None,
            token=recalled.token,
            nodes={node: recalled.breakdown},
        )
        self._put(hint, given)
        return given

    def _put(self, hint: str, given: Given) -> None:
        self._hints[hint] = given
        self._nodes += 1 + len(given.nodes)
        while self._nodes > self._limit and len(self._hints) > 1:
            _, oldest = self._hints.popitem(last=False)
            self._nodes -= 1 + len(oldest.nodes)

    def find(self, hint: str) -> Given:
        """Return a hint.

        Raises:
            NotKnownError: It was never given, or has been forgotten.
        """
        found = self._hints.get(hint)
        if found is None:
            raise NotKnownError(
                "no such hint",
                subject=printable(hint),
                hint="only the newest are remembered, and none over a restart of the coordinator: "
                "tell what it estimated, too",
            )
        return found


def learn(
    lessons: Lessons, given: Given, node: str, seconds: float, phases: Mapping[str, float]
) -> Learned:
    """Take in an outcome. A second one of the same hint only tells how long the job ran.

    Args:
        lessons: Where it is learned.
        given: The hint.
        node: Where the job was started.
        seconds: From the hint until it was ready.
        phases: Seconds of its parts, as far as they are known: :data:`PHASES`, and ``run``.

    Raises:
        NotKnownError: The hint says nothing of the node.
        ConfigError: There is no such phase.
    """
    unknown = sorted(phases.keys() - {*PHASES, "run"})
    if unknown:
        raise ConfigError(
            "no such phase", subject=printable(unknown[0]), hint=", ".join((*PHASES, "run"))
        )
    estimated = given.estimated(node)
    if not given.is_told:
        known = {name: value for name, value in phases.items() if name in PHASES}
        if not given.is_loaded:
            lessons.outcome(given.subject, estimated, seconds, known)
        given.is_told = True
    if "run" in phases:
        lessons.runs.learn(given.subject, phases["run"])
    return Learned(
        node, estimated.ready, seconds, estimated.bottleneck, lessons.errors.median_ratio
    )
