"""What a process that takes a mount over must know, as records in the mount's memory.

The kernel forgets nothing when the process that serves it dies, and it does not tell the successor
what it remembers. Two things must not be guessed:

- what INIT negotiated, because it is negotiated once;
- how each file was opened. The kernel refuses to mix the two ways of opening one file
  (:mod:`.modes`), and refuses a file that is passed through under another backing id than the one
  that it has.

Handles need no record: every request names its node, and a node means the same in every process.

A record is there before the answer that it is about is sent. So a successor may believe in an open
that never happened, which costs speed, and never misses one that did. A cached open is recorded once
and not taken back at its close: otherwise the records would grow with every open.
"""

from dataclasses import dataclass
from typing import Any

from cachefs.fuse.showing.memory import Memory

_INIT = "native.init"
_MODE = "native.mode"
_GONE = "native.gone"


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What INIT agreed upon."""

    minor: int
    flags: int
    """All 64 bits of what the kernel offers and we take."""


class Journal:
    """The engine's records; safe from any thread."""

    def __init__(self, memory: Memory) -> None:
        """Read what processes before this one wrote; records of others are left alone."""
        self._memory = memory
        self.negotiated: Negotiated | None = None
        """What a process before this one agreed upon; ``None`` if there was none."""
        self.modes: dict[int, int] = {}
        """How each node was opened last: its backing id, 0 for cached. One that is not here, the
        kernel does not have open."""
        for record in memory.records():
            self._replay(record)

    def _replay(self, record: dict[str, Any]) -> None:  # Any: JSON
        kind = record.get("kind")
        if kind == _INIT:
            self.negotiated = Negotiated(int(record["minor"]), int(record["flags"]))
        elif kind == _MODE:
            self.modes[int(record["node"])] = int(record["backing"])
        elif kind == _GONE:
            self.modes.pop(int(record["node"]), None)

    def began(self, negotiated: Negotiated) -> None:
        """Record what INIT is about to be answered."""
        self._memory.append({"kind": _INIT, "minor": negotiated.minor, "flags": negotiated.flags})

    def opens(self, node: int, backing: int) -> None:
        """Record how a node is about to be opened, unless that is how it was opened before."""
        if self.modes.get(node) != backing:
            self._memory.append(
                {"kind": _MODE, "key": _key(node), "node": node, "backing": backing}
            )
            self.modes[node] = backing

    def gone(self, node: int) -> None:
        """Record that the kernel has let go of a node, before its backing id is closed."""
        if self.modes.pop(node, None) is not None:
            self._memory.append({"kind": _GONE, "key": _key(node), "node": node})


def _key(node: int) -> str:
    """Name what is known of a node: the newest record of that name is all that counts."""
    return f"mode {node}"
