"""A watch over what workers evict: what is pinned, lent or in use must not go.

It looks at each choice at the moment when it is made, because afterwards nobody could tell.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from cachefs.core.blocks import FileVersionId
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.workers.storage.books import Taken
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.store import TieredStore
from cachefs.workers.storage.tier import Tier


class Watch:
    """Looks over the shoulders of all stores of a cluster."""

    def __init__(self, world: SimRuntime) -> None:
        """Begin without having seen anything."""
        self._world = world
        self.evictions = 0
        self.seen: list[str] = []
        """What was evicted although it must not be."""

    def store(self, worker: str, store: TieredStore) -> None:
        """Watch a store from its beginning on."""
        pinned: set[FileVersionId] = set()
        set_pins: Callable[..., None] = store.set_pins

        def obey(names: Collection[FileVersionId], *rest: Any, **named: Any) -> None:
            pinned.intersection_update(names)  # what is not pinned any more may go at once
            set_pins(names, *rest, **named)
            pinned.update(names)

        store.set_pins = obey  # type: ignore[assignment,method-assign]  # it is watched
        for tier in store._tiers:
            self._watch_tier(worker, tier, pinned)

    def _watch_tier(self, worker: str, tier: Tier, pinned: set[FileVersionId]) -> None:
        take_out = tier.books.take_out

        def watched(file: CachedFile, indexes: Iterable[int]) -> Taken:
            taken = take_out(file, indexes)
            self.evictions += len(taken.blocks)
            own = [block for block in taken.blocks.values() if not block.guest]
            if own and file.file_version in pinned:
                self._say(f"{worker} evicts from {file.name}, which is pinned")
            if file.leases:
                self._say(f"{worker} evicts from {file.name}, which is lent out")
            if not file.held.keys().isdisjoint(taken.blocks):
                self._say(f"{worker} evicts a block of {file.name} that is in use")
            return taken

        tier.books.take_out = watched  # type: ignore[method-assign]  # it is watched

    def _say(self, what: str) -> None:
        self._world.note(what)
        self.seen.append(what)
