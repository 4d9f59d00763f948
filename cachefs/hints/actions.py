"""Actions: the prefetches that a hint assumes.

A hint's seconds are those of a job that begins to read at once. Whoever takes the advice can have that
begun before the job has even been started: the warm-up fills the workers of the node, and the job's own
reads join it. It is started only when the question asks for it, or for a job that is told to wait, whose
data can use the time.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from cachefs.core.hints.answer import Action, Hint
from cachefs.core.hints.asking import Reading
from cachefs.core.jobs import WarmJob
from cachefs.errors import CacheFSError, NotKnownError
from cachefs.hints.deciding import Asked, Decided
from cachefs.hints.inventory import Found

_LOG = logging.getLogger("cachefs.hints")

PREFETCH = "prefetch"
NODES_MAX = 64
"""Of a gang on more nodes, no more are prefetched to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be brought to a node."""

    reading: Reading
    node: str
    ranks: tuple[frozenset[int], int] | None = None
    """The members of a gang that are there, and how many there are, if each reads a share of its own."""

    @property
    def key(self) -> str:
        """The same for the same wish."""
        text = repr((self.reading, sorted(self.ranks[0]) if self.ranks is not None else None))
        return f"hint {self.node} {hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


Warm = Callable[[Found, Wanted], WarmJob]
"""Has something brought to a node, unless a warm-up with the same key is at it; raises ``CacheFSError``
if that cannot be."""


def lacking(decided: Decided, row: int, node: str, share: float) -> tuple[Action, ...]:
    """Return what would have to be brought to a node.

    Args:
        decided: The decision.
        row: Of the node in the fleet.
        node: Its name.
        share: Of what each member reads a share of, how much the members there read.
    """
    actions = []
    data = float(decided.estimate.data[row])
    readings = decided.asked.question.readings
    for reading, one, columns in zip(readings, decided.asked.found, decided.located, strict=True):
        if one is None or columns is None:
            continue
        split = columns.seen(row).split
        missing = split.total - split.local - split.arriving
        missing *= share if reading.by_rank else 1.0
        if missing >= 1:
            actions.append(
                Action(
                    kind=PREFETCH,
                    dataset=f"{one.dataset}@{one.version}",
                    node=node,
                    size=missing,
                    seconds=data,
                )
            )
    return tuple(actions)


class Prefetches:
    """Starts what hints assume. Safe from any thread."""

    def __init__(self, warm: Warm, nodes: Callable[[], Collection[str]]) -> None:
        """Start nothing yet.

        Args:
            warm: Starts one.
            nodes: Returns the nodes that keep data; it does not wait.
        """
        self._warm = warm
        self.nodes = nodes
        self.started = 0
        """How many were begun."""

    def start(self, asked: Asked, hint: Hint) -> tuple[Action, ...]:
        """Start what a hint says is lacking; what cannot be started is left as it is."""
        nodes = () if hint.gang is None else hint.gang.assignment
        return tuple(self._start(asked, action, nodes) for action in hint.actions)

    def _start(self, asked: Asked, action: Action, nodes: Sequence[str]) -> Action:
        for reading, found in zip(asked.question.readings, asked.found, strict=True):
            if found is None or f"{found.dataset}@{found.version}" != action.dataset:
                continue
            ranks = None
            if reading.by_rank and nodes:
                here = frozenset(rank for rank, node in enumerate(nodes) if node == action.node)
                ranks = here, len(nodes)
            try:
                job = self._warm(found, Wanted(reading=reading, node=action.node, ranks=ranks))
            except NotKnownError:
                return action  # no worker there keeps it, or it has just been removed
            except CacheFSError as error:
                _LOG.warning(
                    "a hint's prefetch cannot be started",
                    extra={"node": action.node, "failure": str(error)},
                )
                return action
            self.started += 1
            return replace(action, job=job.id)
        return action
