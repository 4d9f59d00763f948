"""A keeper's end of the shelf: it asks for what an earlier one left, and leaves copies for a later one.

Nothing here waits but :meth:`Deposit.inherit`, which is called before the keeper's loop begins, and
:meth:`Deposit.renounce`, at its end. A shelf that is gone is looked for every second: when it comes back, it is
given copies anew. Every second, too, a file says how we are: for probes, and for whoever wants to leave.
"""

import json
import logging
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cachefs.fuse.keeping.shelf import DESCRIPTORS, Message, receive, send
from cachefs.ports import Runtime

BEAT_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_CONNECT_SECONDS = 0.5
_SETTLED_SECONDS = 3.0
"""A shelf that has just begun does not know yet who serves: whoever does comes back within a second."""

_log = logging.getLogger("cachefs.fuse.keeper")


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """How a keeper is, by its own word."""

    at: float
    """On the machine's monotonic clock, which all processes share."""
    serving: bool
    kept: bool
    """Whether the shelf has copies of what is served."""
    number: str
    """The mount's, in the mount table."""
    host: str = ""
    """The name of the keeper's machine, or of its pod."""

    def write(self, path: Path) -> None:
        """Replace the file whole."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)))
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> "SignOfLife | None":
        """Return the last one; ``None`` if there is none. What another release added is left out."""
        try:
            said = dict(json.loads(path.read_text()))
            return cls(**{key: said[key] for key in cls.__dataclass_fields__ if key in said})
        except (OSError, ValueError, TypeError):
            return None


def ask(path: Path, *, seconds: float = _ANSWER_SECONDS) -> Message | None:
    """Return what a shelf says of itself: ``holds``, ``number``, ``served``; ``None`` without an answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(seconds)
            connection.connect(os.fspath(path))
            send(connection, {"say": "holds"})
            return receive(connection)[0] or None
    except (OSError, ValueError):
        return None


class Deposit:
    """What one keeper has with a shelf."""

    def __init__(self, runtime: Runtime, shelf: Path, sign: Path) -> None:
        """Speak to nobody yet.

        Args:
            runtime: The clock.
            shelf: The shelf's socket.
            sign: Where signs of life go.
        """
        self._runtime = runtime
        self._shelf = shelf
        self._sign = sign
        self._connection: socket.socket | None = None
        self._connected_at = 0.0
        self._offered: tuple[str, Path, list[int]] | None = None
        self._kept = False
        self._looked_at: float | None = None
        self._inherited = False
        """Whether this very connection gave us what we have."""
        self.predecessor = False
        """Whether somebody else serves the mount that we were given; known after each look."""

    def inherit(self) -> tuple[int, int] | None:
        """Return copies of device and memory, if the shelf has some; waits, at most some seconds."""
        connection = self._connect(_ANSWER_SECONDS)
        if connection is None:
            return None
        try:
            send(connection, {"say": "give"})
            said, descriptors = receive(connection)
            connection.setblocking(False)
        except (OSError, ValueError):
            self._disconnect()
            return None
        if len(descriptors) != DESCRIPTORS:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        self.predecessor = bool(said.get("served"))
        self._inherited = True
        device, memory = descriptors
        return device, memory

    def offer(self, number: str, mountpoint: Path, descriptors: list[int]) -> None:
        """Say what is to be kept from now on; the descriptors stay the caller's."""
        self._offered = number, mountpoint, descriptors
        self._kept = False
        self._looked_at = None

    @property
    def is_due(self) -> bool:
        """Whether :meth:`look` has something to do."""
        now = self._runtime.monotonic()
        waits = self.predecessor and self._offered is None
        return self._looked_at is None or waits or now - self._looked_at >= BEAT_SECONDS

    def look(self, *, serving: bool) -> None:
        """Connect if need be, say how we are, and hear how the shelf is."""
        now = self._looked_at = self._runtime.monotonic()
        if self._connection is None:
            connection = self._connect(_CONNECT_SECONDS)
            if connection is not None:
                connection.setblocking(False)
        if self._offered is not None and not self._kept:
            number, place, descriptors = self._offered
            self._say({"say": "keep", "number": number, "mountpoint": str(place)}, descriptors)
        elif self._offered is not None:
            self._say({"say": "beat", "serving": serving})
        elif self.predecessor:
            self._say({"say": "holds"})
        number = "" if self._offered is None else self._offered[0]
        self._write(SignOfLife(now, serving, self._kept, number, socket.gethostname()))

    def hear(self) -> bool:
        """Take in what the shelf said; return whether we were asked to leave."""
        told = False
        while self._connection is not None:
            try:
                message, descriptors = receive(self._connection)
            except BlockingIOError:
                break
            except (OSError, ValueError):
                message, descriptors = {}, []
            for descriptor in descriptors:
                os.close(descriptor)
            if not message:
                self._disconnect()
            elif message.get("say") == "leave":
                told = True
            elif "kept" in message:
                self._kept = self._offered is not None and message["kept"] == self._offered[0]
            elif "served" in message and (message["served"] or self._is_settled):
                self.predecessor = self.predecessor and bool(message["served"])
        return told

    @property
    def _is_settled(self) -> bool:
        return self._inherited or (
            self._runtime.monotonic() - self._connected_at > _SETTLED_SECONDS
        )

    def dismiss(self) -> None:
        """Ask whoever serves to leave."""
        self._say({"say": "leave"})
        self._looked_at = None

    def renounce(self) -> None:
        """Have the shelf let go of the mount, so that it ends with us; waits, at most some seconds."""
        connection = self._connection or self._connect(_ANSWER_SECONDS)
        if connection is None:
            return
        try:
            connection.settimeout(_ANSWER_SECONDS)
            send(connection, {"say": "renounce"})
            while "renounced" not in (message := receive(connection)[0]) and message:
                pass
        except (OSError, ValueError):
            _log.warning("the shelf did not let go of the mount")
        self._disconnect()

    def close(self) -> None:
        """Say goodbye: the shelf keeps what it has. Idempotent."""
        self._offered = None
        self._disconnect()

    def _connect(self, seconds: float) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(seconds)
            connection.connect(os.fspath(self._shelf))
        except OSError:
            connection.close()
            return None
        self._connection = connection
        self._connected_at = self._runtime.monotonic()
        self._kept = False
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._inherited = False
        self._kept = False

    def _say(self, message: Message, descriptors: list[int] | None = None) -> None:
        if self._connection is not None:
            try:
                send(self._connection, message, descriptors)
            except OSError:
                self._disconnect()

    def _write(self, sign: SignOfLife) -> None:
        with suppress(OSError):  # a full memory must not end the mount
            sign.write(self._sign)
