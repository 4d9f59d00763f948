"""The inventory: what a hint is reckoned from, kept up to date in the background.

It knows the nodes (:attr:`Inventory.fleet`), the links that they share (:attr:`Inventory.links`) and where
the bytes of datasets are (:meth:`Inventory.find`). It learns of nodes from the workers' renewals and from
*sources* of nodes (:mod:`.sources`): a file for plain clusters, Kubernetes. All that takes long is done
ahead, in a thread of its own: whoever asks gets what was found last, at most a few tenths of a second old.

How to use it::

    inventory = Inventory(parts)         # of the coordinator's process; see coordinator/duties.py
    inventory.start()
    found = [inventory.find(reading) for reading in question.readings]   # first, without the turn
    with inventory.turn():               # short: nothing in the inventory moves meanwhile
        located = [locate(one.spread, inventory.fleet) for one in found if one is not None]
        estimated = estimate(inventory.fleet, together(located), inventory.links, ...)
    inventory.close()
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cachefs.coordinator.duties import Surroundings
from cachefs.core.hints.asking import Reading
from cachefs.core.hints.estimate import Links
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.spread import Spread
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.ports import Closing
from cachefs.telemetry.metrics import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the bytes are that a reading names."""

    dataset: DatasetName
    version: VersionId
    spread: Spread
    """``spread.origin`` is the key of ``links.origins``."""
    files: int
    """How many are read."""
    exact: bool = True
    """``False``: the files that the patterns choose are still being sorted out, which takes long only for
    many thousands; meanwhile the spread is that of all files."""
    revision: int = 0
    """Grows whenever what is found for this reading changes: for whoever watches it."""
    looked_at: float = 0.0
    """The monotonic moment of which the spread is true."""


class Inventory(Closing):
    """Nodes, links and spreads. Safe from any thread, as said at each method."""

    def __init__(self, parts: Surroundings) -> None:
        """Begin nothing yet. ``parts.config.hints`` has the settings, the file of nodes among them."""
        self._runtime = parts.runtime
        self._turn = parts.runtime.condition()
        self._fleet = Fleet()

    def start(self) -> None:
        """Look once, and go on in a thread of its own."""

    def close(self) -> None:
        """End the thread within seconds; idempotent."""

    def turn(self) -> AbstractContextManager[object]:
        """Return the lock under which :attr:`fleet` and :attr:`links` may be read, and columns written.

        Hold it for some milliseconds and call nothing that waits; :meth:`find` may wait.
        """
        return self._turn

    @property
    def fleet(self) -> Fleet:
        """All nodes; always the same object. With the turn only.

        The inventory writes what a node is, and the columns ``streams_…`` and ``queued_…``; the
        ``efficiency_…`` columns are left to whoever learns them.
        """
        return self._fleet

    @property
    def links(self) -> Links:
        """Uplinks and origins, with the transfers that use them now; a new object at each change."""
        return Links()

    @property
    def epoch(self) -> int:
        """Of the view that was looked at last. Needs no turn."""
        return 0

    @property
    def revision(self) -> int:
        """Grows whenever anything that a hint depends on has changed. Needs no turn."""
        return 0

    def wait(self, revision: int, *, timeout_seconds: float) -> int:
        """Wait until :attr:`revision` is another one, and return it; or the same at the time-out."""
        del timeout_seconds
        return revision

    def find(self, reading: Reading, *, rank: int = 0, ranks: int = 1) -> Found | None:
        """Return where the bytes of a reading are; ``None`` if there is no such dataset or version.

        Returns at once for what has been asked for before and for all files of a current version. New
        patterns are sorted out at once for some thousand files; for more see :attr:`Found.exact`. A
        reading that the service may have to make is not kept waiting for longer than 50 ms.

        Args:
            reading: What is read. If it is ``by_rank``, each of the ``ranks`` members reads the files
                whose place among the chosen ones, sorted by path, is ``rank`` modulo ``ranks``.
            rank: From 0.
            ranks: The gang's size.

        Raises:
            ConfigError: A pattern cannot match anything.
        """
        del reading, rank, ranks

    def spread(self, reading: Reading) -> Spread | None:
        """Return :meth:`find`'s spread."""
        found = self.find(reading)
        return None if found is None else found.spread

    def age(self, node: str) -> float:
        """Return how many seconds ago a node was last heard of; infinite for one that is not there.

        Needs the turn. All at once are ``now - fleet.column("heard_at")``.
        """
        del node
        return float("inf")

    @property
    def behind_seconds(self) -> float:
        """How long ago the inventory last saw what the coordinator knows; below a second if all is well."""
        return float("inf")

    @property
    def problems(self) -> Sequence[str]:
        """Why what is known is worth less than usual: to be said in a hint's ``degraded``.

        A file of nodes that cannot be read (the last good one holds), a store that does not answer.
        """
        return ()

    def expect_release(self, node: str, gpu: int, at: float | None) -> None:
        """Say when what runs on an accelerator is expected to end; ``None`` if nobody knows any more.

        It outlasts the node's next report: :attr:`Gpu.free_at` of the fleet's node has it. Needs no turn.
        """

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured, for the metrics."""
        return ()
