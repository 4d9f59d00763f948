"""The provider of this machine: workers are processes under the supervisor of ``cachefs up``.

A worker more gets as much memory and disk as each of those that ``up`` was asked for, if the machine
has it: what the others were promised and have not used yet counts as taken. The supervisor starts and
ends processes in its own thread; here they are only asked for.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cachefs.cli.system.plan import WORKERS_LIMIT, Blueprint
from cachefs.cli.system.supervision import Supervisor
from cachefs.config.units import format_size
from cachefs.core.names import WorkerId
from cachefs.core.pools import Provided
from cachefs.errors import CapacityError

_SECTOR_BYTES = 512
"""The unit of ``st_blocks``."""


class LocalProvider:
    """Implements :class:`cachefs.ports.Provider` with processes. Safe from any thread."""

    def __init__(
        self, blueprint: Blueprint, supervisor: Supervisor, *, on_change: Callable[[], None]
    ) -> None:
        """Start nothing yet; ``on_change`` is called after a worker has come or gone."""
        self._blueprint = blueprint
        self._supervisor = supervisor
        self._on_change = on_change
        self._ending: set[str] = set()

    def provided(self) -> Sequence[Provided]:
        """Return the workers that are there for good, or on their way out, sorted by name."""
        return self._blueprint.roster.provided()

    def start(self, pool: str, zone: str) -> WorkerId:
        """Make one more worker.

        Raises:
            CapacityError: There is no room for another.
        """
        self._check_room()
        entry = self._blueprint.roster.add(pool, zone or self._blueprint.zone)
        self._supervisor.add(self._blueprint.worker(entry))
        return WorkerId(entry.name)

    def leave(self, worker: WorkerId) -> None:
        """Note that a worker is on its way out."""
        self._blueprint.roster.mark(worker, "leaving")

    def stop(self, worker: WorkerId) -> None:
        """End a worker and remove what it held."""
        if self._blueprint.roster.find(worker) is None or worker in self._ending:
            return
        self._blueprint.roster.mark(worker, "stopped")
        self._ending.add(worker)
        self._supervisor.retire(worker, lambda: self._remove(worker))

    def _remove(self, worker: WorkerId) -> None:
        self._blueprint.clear_away(worker)
        self._blueprint.roster.remove(worker)
        self._ending.discard(worker)
        self._on_change()

    def _check_room(self) -> None:
        blueprint = self._blueprint
        entries = blueprint.roster.entries()
        if len(entries) >= WORKERS_LIMIT:
            raise CapacityError(f"there are {WORKERS_LIMIT} workers on this machine already")
        for medium, size in blueprint.share():
            folders = [blueprint.tier_folder(medium, one.name) for one in entries]
            promised = sum(max(0, size - _allocated(folder)) for folder in folders)
            where = blueprint.folder.path if medium == "disk" else blueprint.folder.memory.parent
            free = shutil.disk_usage(where).free - promised
            if free < size:
                raise CapacityError(
                    f"the {medium} cannot hold another worker's {format_size(size)}",
                    subject=str(where),
                    hint=f"{format_size(max(0, free))} are free and not promised to other workers",
                )


def _allocated(folder: Path) -> int:
    """Return the bytes that the files below a folder take."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += (Path(path) / name).stat().st_blocks * _SECTOR_BYTES
    return size
