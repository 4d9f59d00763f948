"""A serving process, as its keeper sees it: started, prepared, serving, ended.

The two speak over a pair of Unix sockets, one line a message. The server says ``prepared`` when it
has loaded its code and found the system; the keeper answers ``serve``, with the descriptors of the
mount; the server says ``ready``. Instead of each, it may say ``error`` with a failure, and end. A
server whose keeper is gone before ``serve`` ends too; one that serves goes on without.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cachefs
from cachefs.errors import CacheFSError, ClusterError
from cachefs.fuse.keeping.heartbeat import Heartbeat, make_heartbeat
from cachefs.transport.processes import ProcessRecord
from cachefs.wire import failures

CODE = Path(cachefs.__file__).parent.parent
"""Where ``python -m`` finds the package that we are part of, also in a checkout without an install."""
_MESSAGE_BYTES_MAX = 64 * 1024
_DESCRIPTORS_MAX = 2

STARTING, PREPARED, TOLD, SERVING = "starting", "prepared", "told", "serving"


def module_command(module: str, *words: str) -> list[str]:
    """Return the arguments that run one of our modules; to be run in :data:`CODE`."""
    return [sys.executable, "-m", module, *words]


class Server:
    """One serving process, from its start to its end."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        now: float,
        in_child: Callable[[], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Start it.

        Args:
            command: Its arguments; those that say which descriptors are its own are added.
            now: On the keeper's monotonic clock.
            in_child: Run in the child before the command is; the keeper must have one thread.
            environment: Of the child.
        """
        self.started_at = now
        self.state = STARTING
        self.told_to_leave_at: float | None = None
        self.failure: CacheFSError | None = None
        """What it said when it could not go on."""
        heartbeat = make_heartbeat()
        self.control, theirs = socket.socketpair()
        words = ["--control", str(theirs.fileno()), "--heartbeat", str(heartbeat)]
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - our own arguments, and no shell
                [*command, *words],
                stdin=subprocess.DEVNULL,
                cwd=CODE,
                env=dict(environment),
                pass_fds=[theirs.fileno(), heartbeat],
                start_new_session=True,  # Ctrl-C is for the keeper
                preexec_fn=in_child,  # noqa: PLW1509 - the keeper has one thread
            )
            self.heartbeat = Heartbeat(heartbeat)
        finally:
            theirs.close()
            os.close(heartbeat)
        self.control.setblocking(False)
        self.pid = self._popen.pid
        self.ended = os.pidfd_open(self.pid)
        """Readable once it has ended."""
        self.record = ProcessRecord.of("server", self.pid)
        self._said = b""

    def hear(self) -> bool:
        """Take in what it said; ``False`` when it will say nothing more."""
        try:
            said = self.control.recv(_MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        *lines, self._said = (self._said + said).split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"error":
                self.failure = failures.decode(rest)
            elif word in (b"prepared", b"ready"):
                self.state = PREPARED if word == b"prepared" else SERVING
        return bool(said)

    def serve(self, descriptors: Sequence[int]) -> None:
        """Tell it to serve, with the device and the memory, or with none to mount by itself."""
        self.state = TOLD
        try:
            socket.send_fds(self.control, [b"serve\n"], descriptors)
        except OSError:
            return  # It has just ended, as we shall see.

    def leave(self, now: float) -> None:
        """Ask it to finish what it has and to end."""
        self.told_to_leave_at = now
        self.record.send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, even if it is stopped."""
        self._popen.kill()

    def reap(self) -> str:
        """Release what belongs to one that has ended; return how it ended, in words."""
        status = self._popen.wait()
        while self.hear() and self.failure is None:
            if not _readable(self.control):
                break
        self.control.close()
        self.heartbeat.close()
        os.close(self.ended)
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"


class Control:
    """The server's end."""

    def __init__(self, descriptor: int) -> None:
        """Take the descriptor over."""
        self._socket = socket.socket(fileno=descriptor)

    def tell(self, word: str, document: Any = None) -> None:  # Any: a JSON document
        """Say something; a keeper that is gone is not missed."""
        line = word if document is None else f"{word} {json.dumps(document)}"
        try:
            self._socket.sendall(f"{line}\n".encode(), socket.MSG_NOSIGNAL)
        except OSError:
            return

    def fail(self, error: CacheFSError) -> None:
        """Say why we end."""
        self.tell("error", failures.to_document(error))

    def wait_until_told(self) -> list[int]:
        """Wait until we shall serve; return device and memory, or nothing.

        Raises:
            ClusterError: The keeper is gone.
        """
        said, descriptors, _, _ = socket.recv_fds(self._socket, len(b"serve\n"), _DESCRIPTORS_MAX)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if not said:
            raise ClusterError("the keeper is gone")
        return descriptors


def _readable(peer: socket.socket) -> bool:
    try:
        return bool(peer.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
