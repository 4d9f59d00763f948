"""The roster: which workers there are on this machine, and which of them are on their way out.

It is a file in the state folder, replaced whole before anything is done. So whoever is killed, the next
``up`` starts the workers that were there, goes on with the drain of one that was leaving, and removes
what is left of one that was stopped; none comes back that was scaled away.
"""

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from cachefs.cli.system.statefolder import read_json, write_json
from cachefs.core.names import WorkerId
from cachefs.core.pools import Provided
from cachefs.errors import NotKnownError

State = Literal["running", "leaving", "stopped"]
"""``stopped``: it must not run any more, and what it held is to be removed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One worker of this machine."""

    name: str
    pool: str
    zone: str
    state: State = "running"


class Roster:
    """The file, and what is in it. Safe from any thread."""

    def __init__(self, path: Path, *, earlier: Sequence[Entry] = ()) -> None:
        """Read the file; without one, begin with what ``earlier`` names."""
        self._path = path
        self._lock = threading.Lock()
        document = read_json(path)
        known = document if isinstance(document, list) else [asdict(one) for one in earlier]
        self._entries = {one["name"]: Entry(**one) for one in known}

    def entries(self) -> tuple[Entry, ...]:
        """Return the workers in the order in which they were added."""
        with self._lock:
            return tuple(self._entries.values())

    def provided(self) -> list[Provided]:
        """Return the workers as a pool is compared with them."""
        return sorted(
            (
                Provided(WorkerId(one.name), one.pool, one.zone, one.state != "running")
                for one in self.entries()
            ),
            key=lambda one: one.worker,
        )

    def find(self, name: str) -> Entry | None:
        """Return a worker, or ``None``."""
        with self._lock:
            return self._entries.get(name)

    def add(self, pool: str, zone: str) -> Entry:
        """Add a worker under the first number that is free."""
        with self._lock:
            number = 1
            while f"worker-{number}" in self._entries:
                number += 1
            entry = Entry(f"worker-{number}", pool, zone)
            self._entries[entry.name] = entry
            self._save()
            return entry

    def mark(self, name: str, state: State) -> None:
        """Set a worker's state.

        Raises:
            NotKnownError: There is none of the name.
        """
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                raise NotKnownError("no such worker on this machine", subject=name)
            self._entries[name] = replace(entry, state=state)
            self._save()

    def remove(self, name: str) -> None:
        """Forget a worker; idempotent."""
        with self._lock:
            self._entries.pop(name, None)
            self._save()

    def _save(self) -> None:
        write_json(self._path, [asdict(one) for one in self._entries.values()])
