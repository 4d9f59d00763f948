"""One leaves at a time: ``python -m cachefs.k8s.csi.leaving driver|mounts``, before a pod is stopped.

The node's mount lives as long as one of the two pods has its descriptors. An upgrade of both daemon sets stops
both pods of a node when it likes. So whoever leaves puts up a mark, and waits before that until the other is
well and has everything. The mark is taken down by its successor, once that has everything, too; one that is
old counts no more, for pods are deleted without successors.

Who has nothing to leave goes at once: a driver that keeps no copies, a pod of mounts whose mount another pod
serves already, or nobody does.

All of it is bounded: after :data:`WAIT_SECONDS` one leaves in any case, because the kubelet does not wait longer.
"""

import argparse
import fcntl
import json
import logging
import socket
import sys
from contextlib import suppress
from pathlib import Path

from cachefs.fuse.keeping.deposit import SignOfLife, ask
from cachefs.fuse.keeping.shelf import Shelf
from cachefs.k8s.csi.places import Places, add_arguments, places_of
from cachefs.ports import Runtime
from cachefs.telemetry import logs
from cachefs.transport.runtime import ThreadRuntime

DRIVER, MOUNTS = "driver", "mounts"
WAIT_SECONDS = 150.0
"""Less than the pods' grace period, 180 s."""
MARK_SECONDS = 180.0
"""A mark of somebody whose successor did not come in so long is of nobody."""
FRESH_SECONDS = 10.0
"""A sign of life is written every second."""
_POLL_SECONDS = 0.5

_log = logging.getLogger("cachefs.csi")


def is_well(runtime: Runtime, places: Places, who: str) -> bool:
    """Say whether a pod has everything that the other would leave to it."""
    if who == DRIVER:
        said = ask(places.shelf)
        return said is not None and bool(said["holds"])
    sign = SignOfLife.read(places.sign)
    return sign is not None and sign.serving and runtime.monotonic() - sign.at < FRESH_SECONDS


def has_nothing(places: Places, who: str, host: str) -> bool:
    """Say whether a pod of that name has nothing that it could leave to the other."""
    if who == DRIVER:
        said = ask(places.shelf)
        return said is not None and not said["holds"]
    sign = SignOfLife.read(places.sign)
    # What is not offered to the shelf cannot be taken over: the kernel is too old for it.
    lasting = sign is not None and sign.serving and sign.number
    return sign is None or not lasting or sign.host not in ("", host)


def marked(runtime: Runtime, path: Path) -> str:
    """Return who leaves just now; empty if nobody."""
    try:
        document = json.loads(path.read_text())
        age = runtime.monotonic() - float(document["at"])
        return str(document["who"]) if 0 <= age < MARK_SECONDS else ""
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def leave(
    runtime: Runtime, places: Places, who: str, *, wait_seconds: float = WAIT_SECONDS
) -> bool:
    """Wait until ``who`` may leave; say whether it may, or merely must.

    Args:
        runtime: The clock.
        places: Of this node.
        who: :data:`DRIVER` or :data:`MOUNTS`.
        wait_seconds: How long to wait at most.
    """
    if has_nothing(places, who, socket.gethostname()):
        return True
    other = MOUNTS if who == DRIVER else DRIVER
    until = runtime.monotonic() + wait_seconds
    while True:
        free = marked(runtime, places.leaving) != other and is_well(runtime, places, other)
        if free and _mark(runtime, places.leaving, who):
            return True
        if runtime.monotonic() >= until:
            return False
        runtime.sleep(_POLL_SECONDS)


def _mark(runtime: Runtime, path: Path, who: str) -> bool:
    """Put up a mark, unless somebody else was quicker; say whether ours is there."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # held for two small writes
        if marked(runtime, path) not in ("", who):
            return False
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"who": who, "at": runtime.monotonic()}))
        partial.replace(path)
    return True


class Successors:
    """Takes a mark down once the successor of who put it up has everything; the driver's."""

    def __init__(self, runtime: Runtime, path: Path, shelf: Shelf) -> None:
        """Look at nothing yet.

        Args:
            runtime: The clock.
            path: Where the mark is.
            shelf: Ours: it knows what we have, and since when somebody serves the mount.
        """
        self._path = path
        self._shelf = shelf
        self._since = runtime.monotonic()

    def look(self) -> None:
        """Take the mark down, if there is one and it is time."""
        with suppress(OSError, ValueError, LookupError, TypeError):  # none, or a damaged one
            mark = json.loads(self._path.read_text())
            now = self._shelf.statistics()
            since = {DRIVER: self._since if now.holds else None, MOUNTS: now.served_since}
            came = since.get(str(mark["who"]))
            if came is not None and came > float(mark["at"]):
                self._path.unlink()


def main() -> int:
    """Wait until we may leave; the exit status is always 0, for the kubelet goes on in any case."""
    parser = argparse.ArgumentParser(prog="python -m cachefs.k8s.csi.leaving")
    parser.add_argument("who", choices=(DRIVER, MOUNTS))
    add_arguments(parser)
    given = parser.parse_args()
    logs.configure("csi", as_json=True)
    if not leave(ThreadRuntime(), places_of(given), given.who):
        _log.error("leaving although the other pod is not well: the mount may end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
