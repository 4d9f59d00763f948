"""A worker's Unix socket, as a process on its node uses it: questions, answers, descriptors.

A connection is shared by the threads of a process, one question at a time; or one call has it to
itself (:mod:`cachefs.transport.nearby`), and may then be patient and be cancelled.

What carries the messages is a :class:`Line`: a Unix socket, or its double in the simulation. Whose
turn it is, how long one waits and what a failure means is here, and the same for both.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from cachefs.config.secrets import Secret
from cachefs.core.membership import Member
from cachefs.errors import CacheFSError, ClusterError, DeadlineError, WorkerUnavailableError
from cachefs.ports import CancelToken, Runtime
from cachefs.transport.connections import Patience
from cachefs.wire import failures, local

_PREAD_BYTES_MAX = 1 << 30
"""Linux reads a little less than 2 GiB at once."""
RETRY_SECONDS = 1.0
"""A worker whose socket failed is left alone for so long."""


class LentFile(Protocol):
    """A worker's sparse file as a process on its node has it open."""

    def size(self) -> int:
        """Return the bytes from begin to end, holes included."""
        ...

    def stamp(self) -> int:
        """Return the change time in nanoseconds."""
        ...

    def read_at(self, offset: int, into: memoryview) -> bool:
        """Fill a buffer; ``False`` if the file ends or the disk fails before."""
        ...


class Line(Protocol):
    """A connection to a worker of this node. Failures are ``OSError`` or ``ClusterError``."""

    def set_timeout(self, seconds: float) -> None:
        """Bound each of the waits that follow."""
        ...

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        ...

    def receive(self) -> tuple[dict[str, Any], LentFile | None]:
        """Return the next message, with the file that came along."""
        ...

    def shut_down(self) -> None:
        """Wake whoever waits; everything on the line fails from now on."""
        ...

    def close(self) -> None:
        """End the connection; idempotent."""
        ...


class Lines(Protocol):
    """How the sockets of a node's workers are reached."""

    def exists(self, path: str) -> bool:
        """Say whether there is a socket of that path here."""
        ...

    def open(self, path: str, timeout_seconds: float) -> Line:
        """Connect.

        Raises:
            OSError: Nobody listens there.
        """
        ...


class Descriptor:
    """A file descriptor that is closed when nobody uses it any more.

    Threads may be reading through it when a lease is dropped; closing it under them would free its
    number for another file, and their next read would be of that file.
    """

    def __init__(self, number: int) -> None:
        """Own a descriptor."""
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)

    def fileno(self) -> int:
        """Return the number; it is good as long as this object is referred to."""
        return self.number

    def size(self) -> int:
        """Return the bytes from begin to end, holes included."""
        return os.fstat(self.number).st_size

    def stamp(self) -> int:
        """Return the change time in nanoseconds."""
        return os.fstat(self.number).st_ctime_ns

    def read_at(self, offset: int, into: memoryview) -> bool:
        """Fill a buffer; ``False`` if the file ends or the disk fails before."""
        done = 0
        while done < len(into):
            try:
                count = os.preadv(
                    self.number, [into[done : done + _PREAD_BYTES_MAX]], offset + done
                )
            except OSError:
                return False
            if count == 0:
                return False
            done += count
        return True


class SocketLine:
    """Implements :class:`Line` over a Unix socket."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        """Connect.

        Raises:
            OSError: Nobody listens there.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_seconds)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def set_timeout(self, seconds: float) -> None:
        """Bound each of the waits that follow."""
        self._socket.settimeout(seconds)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self._socket.sendall(local.encode(message))

    def receive(self) -> tuple[dict[str, Any], LentFile | None]:
        """Return the next message, with the file that came along."""
        # The descriptor travels with the first byte of its message.
        first, numbers, _, _ = socket.recv_fds(self._socket, local.HEADER.size, 1)
        descriptor = Descriptor(numbers[0]) if numbers else None
        header = first + self._receive_exactly(local.HEADER.size - len(first), ended=not first)
        body = self._receive_exactly(local.decode_length(header))
        return local.decode(body), descriptor

    def shut_down(self) -> None:
        """Wake whoever waits; closing would free the descriptor's number under it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; idempotent."""
        self._socket.close()

    def _receive_exactly(self, length: int, *, ended: bool = False) -> bytes:
        body = bytearray()
        while len(body) < length:
            part = b"" if ended else self._socket.recv(length - len(body))
            if not part:
                raise ConnectionResetError("the worker closed it")
            body += part
        return bytes(body)


class UnixLines:
    """Implements :class:`Lines` with Unix sockets."""

    def exists(self, path: str) -> bool:
        """Say whether there is a socket of that path here."""
        return Path(path).exists()

    def open(self, path: str, timeout_seconds: float) -> Line:
        """Connect."""
        return SocketLine(path, timeout_seconds)


UNIX_LINES = UnixLines()


class LocalWorker:
    """The connection to one worker on this node; one question at a time."""

    def __init__(
        self,
        runtime: Runtime,
        member: Member,
        token: Secret,
        timeout: float,
        lines: Lines = UNIX_LINES,
    ) -> None:
        """Connect and say hello.

        Raises:
            ClusterError: It does not answer, or is another worker.
            DeniedError: The token is wrong.
        """
        self.member = member
        self.broken = False
        self._turn = runtime.condition()
        self._busy = False
        self._cancel: CancelToken | None = None
        self._timeout = timeout
        self._runtime = runtime
        try:
            self._line = lines.open(member.socket_path, timeout)
        except OSError as error:
            raise WorkerUnavailableError(str(error), subject=member.worker) from error
        try:
            hello, _ = self.ask({"op": "hello", "token": token.reveal()})
            if hello.get("worker") != member.worker:
                raise ClusterError("another worker answers on its socket", subject=member.worker)
        except CacheFSError:
            self.close()
            raise
        self.block_size = int(hello["block_size"])

    def ask(
        self, message: dict[str, Any], patience: Patience | None = None
    ) -> tuple[dict[str, Any], LentFile | None]:
        """Send a request and return the answer, with the descriptor that came along.

        With patience, the answer may take that long, as long as the worker says that it is at work.

        Raises:
            WorkerUnavailableError: The connection broke; its cause is a ``TimeoutError`` if the
                worker was silent for too long.
            DeadlineError: The patience has ended.
            CacheFSError: What the worker raised.
        """
        self._take_turn()
        doing = ""
        try:
            if self.broken:
                raise WorkerUnavailableError("the local socket broke", subject=self.member.worker)
            try:
                self._bound_waits(patience)
                self._line.send(message)
                answer, descriptor = self._line.receive()
                while "waiting" in answer:
                    doing = f" while it was {answer['waiting']}" if answer["waiting"] else ""
                    self._bound_waits(patience, doing)
                    answer, descriptor = self._line.receive()
            except BaseException:
                # Whatever went wrong, answers and questions no longer match on this connection. The
                # worker must hear of that at once: else what it lent here stays lent.
                self.close()
                raise
        except (OSError, ClusterError) as error:
            raise WorkerUnavailableError(
                f"the local socket: {error}{doing}", subject=self.member.worker
            ) from error
        finally:
            self._give_turn()
        if "failure" in answer:
            raise failures.from_document(answer["failure"])
        return answer, descriptor

    @contextlib.contextmanager
    def cancelled_by(self, cancel: CancelToken) -> Iterator[None]:
        """Let a token abort what is asked meanwhile; for a connection that one call has to itself."""
        self._cancel = cancel
        cancel.on_cancel(lambda: self._abort(cancel))
        try:
            yield
        finally:
            self._cancel = None
            cancel.on_cancel(None)

    def _abort(self, cancel: CancelToken) -> None:
        # The call may have ended while its canceller was on the way here.
        if self._cancel is cancel:
            self._line.shut_down()

    def close(self) -> None:
        """End the connection, and with it every lease; idempotent."""
        self.broken = True
        self._line.close()

    def _bound_waits(self, patience: Patience | None, doing: str = "") -> None:
        if patience is None:
            self._line.set_timeout(self._timeout)
            return
        left = patience.deadline - self._runtime.monotonic()
        if left <= 0:
            raise DeadlineError(f"the deadline passed{doing}")
        self._line.set_timeout(min(patience.stall_seconds, left))

    def _take_turn(self) -> None:
        until = self._runtime.monotonic() + self._timeout
        with self._turn:
            while self._busy:
                left = until - self._runtime.monotonic()
                if left <= 0:
                    raise WorkerUnavailableError(
                        "the local socket is busy for too long", subject=self.member.worker
                    )
                self._turn.wait(left)
            self._busy = True

    def _give_turn(self) -> None:
        with self._turn:
            self._busy = False
            self._turn.notify_all()


class LocalWorkers:
    """Connects to the workers of this node; safe from any thread.

    Each method is one operation on a dictionary. What two threads may lose in a race is one attempt.
    """

    def __init__(
        self,
        runtime: Runtime,
        token: Secret,
        *,
        block_size: int,
        timeout_seconds: float,
        lines: Lines,
    ) -> None:
        """Connect to nobody yet."""
        self._runtime = runtime
        self._token = token
        self._block_size = block_size
        self._timeout_seconds = timeout_seconds
        self._lines = lines
        self._failed_at: dict[str, float] = {}

    def connect(self, member: Member, deadline: float) -> LocalWorker | None:
        """Return a new connection; ``None`` if there is none to be had now, or a moment ago."""
        name = incarnation_of(member)
        now = self._runtime.monotonic()
        timeout = min(self._timeout_seconds, deadline - now)
        failed_at = self._failed_at.get(name, float("-inf"))
        if now - failed_at < RETRY_SECONDS or timeout <= 0 or not member.socket_path:
            return None
        try:
            worker = LocalWorker(self._runtime, member, self._token, timeout, self._lines)
        except CacheFSError:
            self._failed_at[name] = self._runtime.monotonic()
            return None
        if worker.block_size != self._block_size:
            worker.close()
            self._failed_at[name] = self._runtime.monotonic()
            return None
        return worker


def incarnation_of(member: Member) -> str:
    """Return the name of a worker's process, which no later one has."""
    return f"{member.worker} {member.incarnation}"
