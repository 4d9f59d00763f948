"""The shelf: where a keeper leaves copies of its descriptors, for the one that comes after it.

A mount lives as long as somebody has its device open. A keeper that is a container of a pod takes all of
the pod's processes with it; so another pod on the same machine, which does nothing with them, holds a copy
of device and memory (:class:`Shelf`), and a keeper that starts asks it first (:mod:`.deposit`). They meet on
a Unix socket that only root can reach, and whose other end is asked who it is.

One message is one packet: a JSON object, with descriptors where it says so. ``give`` asks for what is there
and gets it; ``keep`` brings it; ``beat`` says every second whether it is served. ``leave`` asks whoever
serves to stop, for a successor is prepared, and is passed on to it; the asker looks with ``holds`` until
nobody serves. ``renounce`` gives the mount up.

Nobody waits for ever: when nobody has served for :attr:`Shelf.give_up_seconds`, however that came, the copies are
closed and the connection is aborted, so that whoever reads gets an error.
"""

import json
import logging
import os
import selectors
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.fuse.mounts import blocking
from cachefs.ports import Runtime, Task
from cachefs.transport.events import handle_events

SILENT_SECONDS = 5.0
"""An owner that did not beat for so long does not serve; it beats every second."""
MESSAGE_BYTES_MAX = 4096
DESCRIPTORS = 2
_LOOK_SECONDS = 0.25
_STUCK_SECONDS = 30.0
"""A thread that has not come round for so long never will: giving a mount up takes some seconds."""
_JOIN_SECONDS = 5.0
_ABORT_SECONDS = 3.0
_PEER = struct.Struct("3i")
"""``struct ucred``: pid, uid, gid."""

_log = logging.getLogger("cachefs.fuse.shelf")

Message = dict[str, Any]


@dataclass(slots=True, eq=False)
class _Held:
    """Copies of one mount's descriptors."""

    number: str
    mountpoint: Path
    descriptors: list[int]
    served_at: float
    """When somebody served it last."""

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


@dataclass(slots=True, eq=False)
class _Guest:
    """One connection."""

    socket: socket.socket
    serving: bool = False
    heard_at: float = 0.0
    owner_since: float = 0.0


@dataclass(frozen=True, slots=True)
class ShelfStatistics:
    """What is there, at one moment."""

    holds: bool
    served: bool
    served_since: float | None
    """When who serves brought it, on the machine's monotonic clock."""
    given: int
    """How often somebody has taken over."""
    given_up: int


class Shelf:
    """Holds copies for keepers of one mount, in a thread of its own."""

    def __init__(self, runtime: Runtime, path: Path, *, give_up_seconds: float) -> None:
        """Listen; nothing is held yet.

        Args:
            runtime: Clock and thread.
            path: Of the socket; one that is there is replaced.
            give_up_seconds: How long a mount may be served by nobody.

        Raises:
            ConfigError: The socket cannot be made.
        """
        self.give_up_seconds = give_up_seconds
        self._runtime = runtime
        self._path = path
        self._held: _Held | None = None
        self._owner: _Guest | None = None
        self._given = self._given_up = 0
        self._closed = False
        self._looked_at = runtime.monotonic()
        self._listening = _listen(path)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._guests: set[_Guest] = set()
        self._task: Task = runtime.start("shelf", self._run)

    def statistics(self) -> ShelfStatistics:
        """Return what is there."""
        owner = self._owner
        since = owner.owner_since if owner is not None and self._served else None
        return ShelfStatistics(
            self._held is not None, self._served, since, self._given, self._given_up
        )

    @property
    def is_well(self) -> bool:
        """Whether its thread does its work."""
        return self._runtime.monotonic() - self._looked_at < _STUCK_SECONDS

    @property
    def _served(self) -> bool:
        owner = self._owner
        now = self._runtime.monotonic()
        return owner is not None and owner.serving and now - owner.heard_at < SILENT_SECONDS

    def close(self) -> None:
        """Let go of everything: a mount that nobody else holds ends. Idempotent."""
        self._closed = True
        self._task.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._closed:
            handle_events(self._selector, _LOOK_SECONDS)
            self._look()
            self._looked_at = self._runtime.monotonic()
        for guest in list(self._guests):
            self._dismiss(guest)
        self._listening.close()
        self._selector.close()
        if self._held is not None:
            self._held.close()
            self._held = None

    def _look(self) -> None:
        held = self._held
        if held is None:
            return
        now = self._runtime.monotonic()
        if self._served:
            held.served_at = now
        elif now - held.served_at > self.give_up_seconds:
            _log.error("nobody serves the mount: giving it up", extra={"mount": held.number})
            self._given_up += 1
            self._held = None
            held.close()
            # Whoever is frozen has the device, too.
            blocking.unmount(held.mountpoint, flags=blocking.FORCED, seconds=_ABORT_SECONDS)

    # Guests

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return  # it is gone already, or we have too many; the next look tries again
        if not _is_ours(connection):
            connection.close()
            return
        connection.setblocking(False)
        guest = _Guest(connection)
        self._guests.add(guest)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(guest))

    def _dismiss(self, guest: _Guest) -> None:
        self._guests.discard(guest)
        self._selector.unregister(guest.socket)
        guest.socket.close()
        if guest is self._owner:
            self._owner = None

    def _hear(self, guest: _Guest) -> None:
        try:
            message, descriptors = receive(guest.socket)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            message, descriptors = {}, []
        if not message:
            self._dismiss(guest)
            return
        guest.heard_at = self._runtime.monotonic()
        try:
            self._answer(guest, message, descriptors)
        except (OSError, KeyError, TypeError):
            self._dismiss(guest)

    def _answer(self, guest: _Guest, message: Message, descriptors: list[int]) -> None:
        said = message.get("say")
        if said == "keep" and len(descriptors) == DESCRIPTORS:
            return self._keep(guest, message, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if said == "beat":
            guest.serving = bool(message["serving"])
        elif said == "give":
            self._given += self._held is not None
            copies = [] if self._held is None else self._held.descriptors
            send(guest.socket, self._status(), copies)
        elif said == "holds":
            send(guest.socket, self._status())
        elif said == "leave":
            if self._owner is not None and self._owner is not guest:
                send(self._owner.socket, {"say": "leave"})
        elif said == "renounce":
            held, self._held = self._held, None
            if held is not None:
                held.close()
            send(guest.socket, {"renounced": True})
        return None

    def _status(self) -> Message:
        held = self._held
        return {
            "holds": held is not None,
            "number": "" if held is None else held.number,
            "served": self._owner is not None,
        }

    def _keep(self, guest: _Guest, message: Message, descriptors: list[int]) -> None:
        before = self._held
        now = self._runtime.monotonic()
        place = Path(str(message["mountpoint"]))
        self._held = _Held(str(message["number"]), place, descriptors, now)
        self._owner = guest
        guest.serving, guest.owner_since = True, now
        if before is not None:
            before.close()
        send(guest.socket, {"kept": self._held.number})


def send(connection: socket.socket, message: Message, descriptors: list[int] | None = None) -> None:
    """Send one message; the descriptors are copied.

    Raises:
        OSError: The other side is gone, or does not listen.
    """
    packet = json.dumps(message).encode()
    socket.send_fds(connection, [packet], descriptors or [], socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> tuple[Message, list[int]]:
    """Return one message and its descriptors; an empty one when the other side is gone.

    Raises:
        OSError: It cannot be had.
        ValueError: It is none.
    """
    packet, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES_MAX, DESCRIPTORS)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    try:
        message: Message = dict(json.loads(packet)) if packet else {}
    except (ValueError, TypeError) as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise ValueError("not a JSON object") from error
    return message, descriptors


def _is_ours(connection: socket.socket) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, user, _ = _PEER.unpack(raw)
    return bool(user == os.geteuid())


def _listen(path: Path) -> socket.socket:
    partial = path.with_suffix(".new")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        folder = path.parent.lstat()
        closed = not folder.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        partial.unlink(missing_ok=True)
        listening.bind(os.fspath(partial))
        listening.listen()
        partial.replace(path)
    except OSError as error:
        listening.close()
        raise ConfigError(
            "cannot make the socket", subject=printable(str(path)), hint=error.strerror or ""
        ) from error
    if folder.st_uid != os.geteuid() or not closed:
        listening.close()
        raise ConfigError(
            "is not a folder that is ours and closed to others", subject=printable(str(path.parent))
        )
    listening.setblocking(False)
    return listening
