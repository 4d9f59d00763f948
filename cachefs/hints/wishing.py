"""Wishing: a hint's prefetch as a warm-up of the coordinator.

What a hint says of a node is told to the workers that run there: those of them that are in the dataset's
pool, since no others are given any of its blocks.
"""

from collections.abc import Sequence

from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.warming import WarmOptions
from cachefs.core.globs import Globs
from cachefs.core.jobs import WarmJob
from cachefs.core.membership import Member
from cachefs.errors import NotKnownError
from cachefs.hints.actions import Wanted
from cachefs.hints.inventory import Found, Inventory
from cachefs.hints.inventory.hearing import Heard


class Wishes:
    """Asks the coordinator for what hints assume. Safe from any thread."""

    def __init__(self, coordinator: Coordinator, inventory: Inventory) -> None:
        """Ask nothing yet."""
        self._coordinator = coordinator
        self._inventory = inventory
        self._found: tuple[object, object, frozenset[str]] = (None, None, frozenset())

    def nodes(self) -> frozenset[str]:
        """Return the nodes that workers run on; does not wait."""
        view, heard = self._coordinator.members.view, self._inventory.heard()
        seen_view, seen_heard, nodes = self._found
        if view is not seen_view or heard is not seen_heard:
            nodes = frozenset(_node_of(each, heard.get(each.worker)) for each in view.members)
            self._found = view, heard, nodes
        return nodes

    def warm(self, found: Found, wanted: Wanted) -> WarmJob:
        """Have what a job reads brought to a node; who asks for the same again gets the same warm-up.

        Raises:
            NotKnownError: No worker there keeps such a dataset, or nothing is to be read.
            CacheFSError: The coordinator cannot do it now.
        """
        pool = self._coordinator.catalogue.get(found.dataset).pool
        heard = self._inventory.heard()
        workers = tuple(
            member.worker
            for member in self._coordinator.members.view.members
            if member.pool == pool and _node_of(member, heard.get(member.worker)) == wanted.node
        )
        if not workers:
            raise NotKnownError("no worker there keeps the dataset", subject=wanted.node)
        paths = self._paths(found, wanted)
        if paths is not None and not paths:
            raise NotKnownError("nothing is to be read there", subject=wanted.node)
        options = WarmOptions(key=wanted.key, workers=workers)
        return self._coordinator.warm(found.dataset, found.version, paths or (), options)

    def _paths(self, found: Found, wanted: Wanted) -> Sequence[str] | None:
        """Return the files that are read there; ``None`` for all."""
        if not wanted.reading.paths and wanted.ranks is None:
            return None
        files = [entry.path for entry in self._coordinator.catalogue.manifest(found.version).files]
        if wanted.reading.paths:
            globs = Globs(include=wanted.reading.paths)
            files = [path for path in files if globs.select(path)]
        if wanted.ranks is None:
            return files
        # As the inventory shares files out: by their place among those chosen, which are sorted.
        ranks, size = wanted.ranks
        return [path for at, path in enumerate(files) if at % size in ranks]


def _node_of(member: Member, heard: Heard | None) -> str:
    """Return what schedulers call a member's machine."""
    return member.node if heard is None or heard.node is None else heard.node.name
