"""HTTP/1.1 over blocking sockets, with deadlines: the client side of every call that we make.

It is written by hand because three things are needed together that no library gives: the body goes
straight into the caller's buffer, the *whole* call has one deadline however slowly bytes drip, and
another thread can abort it at any moment. All of HTTP that our own servers speak is here: a head,
interim ``1xx`` answers, a body by length, in chunks or up to the end of the connection.

A receive is one blocking system call for the whole body (``MSG_WAITALL``), with the interpreter's
lock released, and with ``SO_RCVTIMEO`` so that it comes back to look at the clock; Python's own
socket time-outs would poll before each of a hundred small receives.

A connection is used by one call at a time. After a failure it is closed and never returned to the
pool, because nobody knows what is still on its way.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cachefs.errors import DeadlineError, WorkerUnavailableError
from cachefs.ports import CancelToken, Runtime
from cachefs.wire.http import HEADER_BYTES_MAX, PROGRESS_HEADER

BODY_BYTES_MAX = 256 * 1024 * 1024
"""The longest body that is kept in memory: a manifest of a million files."""

_TICKS_PER_STALL = 4
"""How often a silent receive looks at the clock within the time that counts as a stall."""
_FIRST_RECEIVE_BYTES = 4096
"""A head fits into it; what comes after the head is copied once more, so it is kept small."""
_WAKE_BYTES = 512 * 1024
"""A long receive wakes up for so many bytes at least: a fifth of the wake-ups, and a quarter less
processor time, than waking for whatever has arrived (measured on loopback)."""
_TIMEVAL = struct.Struct("@ll")


class BrokenAnswerError(ConnectionError):
    """The server ended the answer too early, or does not speak HTTP as we do."""


class Head(NamedTuple):
    """The head of an answer."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""

    def length(self) -> int | None:
        """Return the announced length of the body, or ``None``."""
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise BrokenAnswerError(f"an answer with a broken length: {text[:20]!r}")
        return int(text)


class Patience(NamedTuple):
    """How long a call may take."""

    deadline: float
    """When the whole call must have ended, on the runtime's monotonic clock."""
    stall_seconds: float
    """How long it may make no progress."""


class Connection:
    """One connection to one server, used by one call at a time.

    Methods raise ``OSError`` for what the network does (``BrokenAnswerError`` among them),
    ``DeadlineError``, and ``WorkerUnavailableError`` once the call was cancelled.
    """

    def __init__(
        self, runtime: Runtime, address: str, patience: Patience, cancel: CancelToken
    ) -> None:
        """Connect; the time for it is bounded by the patience."""
        self._runtime = runtime
        self._patience = patience
        self._cancel = cancel
        self._timeout = 0.0
        self._progress = ""
        self._rest = memoryview(b"")
        self.received = False
        """Whether any byte of the current answer has arrived."""
        self.reusable = True
        """Whether another request may follow on this connection."""
        host, _, port = address.rpartition(":")
        families = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, target = families[0]
        self._socket = socket.socket(family, kind, protocol)
        try:
            cancel.on_cancel(lambda: self._shut_down(cancel))
            self._socket.settimeout(min(patience.stall_seconds, self._left()))
            self._socket.connect(target)
            self._socket.settimeout(None)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self._socket.close()
            raise

    def begin(self, patience: Patience, cancel: CancelToken) -> None:
        """Start another call on a connection that was idle."""
        self._patience = patience
        self._cancel = cancel
        self.received = False
        cancel.on_cancel(lambda: self._shut_down(cancel))

    def end(self) -> None:
        """End the call: from now on its token aborts nothing."""
        self._cancel.on_cancel(None)
        self._cancel = CancelToken()

    def close(self) -> None:
        """Close; idempotent."""
        self._cancel.on_cancel(None)
        self._socket.close()

    def send(self, *parts: bytes) -> None:
        """Send a request."""
        self._set_timeout()
        self._socket.sendall(b"".join(parts))

    def read_head(self, on_wait: Callable[[str], None] | None = None) -> Head:
        """Receive the head of the final answer; interim ones count as signs of life.

        ``on_wait`` is told what each interim one says that the server is doing.
        """
        while True:
            head = _parse_head(self._receive_head())
            if head.status >= 200:
                self._progress = ""
                self.reusable = head.headers.get("connection", "").lower() != "close"
                return head
            self._progress = head.headers.get(PROGRESS_HEADER.lower(), "")
            if on_wait is not None:
                on_wait(self._progress)

    def read_into(self, into: memoryview) -> None:
        """Receive exactly as many bytes of the body as ``into`` has.

        An end of the stream before that is a ``BrokenAnswerError``.
        """
        taken = min(len(into), len(self._rest))
        into[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        if len(into) - taken > 2 * _WAKE_BYTES:
            # As long as more than that is to come, the thread sleeps until so much is there.
            self._set_wake(_WAKE_BYTES)
            taken = self._read_on(into[:-_WAKE_BYTES], taken)
            self._set_wake(1)
        self._read_on(into, taken)

    def _read_on(self, into: memoryview, taken: int) -> int:
        while taken < len(into):
            count = self._receive(into[taken:], socket.MSG_WAITALL)
            if count == 0:
                raise BrokenAnswerError("the connection ended in the middle of an answer")
            taken += count
        return taken

    def _set_wake(self, count: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def read_body(self, head: Head) -> bytes:
        """Receive a whole body into memory, if it is not too long for that."""
        if head.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        length = head.length()
        if length is None:
            return self._read_to_end()
        if length > BODY_BYTES_MAX:
            raise BrokenAnswerError(f"an answer of {length} bytes is too long")
        body = bytearray(length)
        self.read_into(memoryview(body))
        return bytes(body)

    def _read_to_end(self) -> bytes:
        self.reusable = False
        body = bytearray(self._rest)
        while (part := self._receive_some()) and len(body) <= BODY_BYTES_MAX:
            body += part
        if len(body) > BODY_BYTES_MAX:
            raise BrokenAnswerError("an answer is too long")
        return bytes(body)

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            text = self._read_line().partition(b";")[0].strip()
            try:
                size = int(text, 16)
            except ValueError:
                raise BrokenAnswerError(f"an answer with a broken chunk: {text[:20]!r}") from None
            if size < 0 or len(body) + size > BODY_BYTES_MAX:
                raise BrokenAnswerError("an answer is too long")
            chunk = bytearray(size)
            self.read_into(memoryview(chunk))
            body += chunk
            # A chunk ends with an empty line, and so do the trailers, which we do not use.
            while self._read_line():
                if size:
                    raise BrokenAnswerError("an answer with a chunk of another size than it said")
            if size == 0:
                return bytes(body)

    def _read_line(self) -> bytes:
        pending = bytearray(self._rest)
        while (at := pending.find(b"\r\n")) < 0:
            if len(pending) > HEADER_BYTES_MAX:
                raise BrokenAnswerError("a line of an answer is too long")
            part = self._receive_some()
            if not part:
                raise BrokenAnswerError("the connection ended in the middle of an answer")
            pending += part
        self._rest = memoryview(bytes(pending[at + 2 :]))
        return bytes(pending[:at])

    def _receive_head(self) -> bytes:
        pending = bytearray(self._rest)
        while (end := pending.find(b"\r\n\r\n")) < 0:
            if len(pending) > HEADER_BYTES_MAX:
                raise BrokenAnswerError("the head of an answer is too long")
            part = self._receive_some()
            if not part:
                raise ConnectionResetError("the server closed the connection")
            pending += part
        self._rest = memoryview(bytes(pending[end + 4 :]))
        return bytes(pending[:end])

    def _receive_some(self) -> bytes:
        buffer = bytearray(_FIRST_RECEIVE_BYTES)
        count = self._receive(memoryview(buffer), 0)
        return bytes(buffer[:count])

    def _receive(self, into: memoryview, flags: int) -> int:
        """Receive at least one byte, or return 0 at the end of the stream."""
        silent_since = self._runtime.monotonic()
        while True:
            self._set_timeout()
            try:
                count = self._socket.recv_into(into, len(into), flags)
            except BlockingIOError:
                silent = self._runtime.monotonic() - silent_since
                if silent >= self._patience.stall_seconds:
                    raise TimeoutError(f"no progress for {silent:.1f} s") from None
                continue
            if count:
                self.received = True
            return count

    def _set_timeout(self) -> None:
        """Let the next system call return in time to look at the clock."""
        tick = self._patience.stall_seconds / _TICKS_PER_STALL
        timeout = min(tick, self._left())
        # A new value costs a system call, so the usual one stays until the deadline comes near.
        if timeout != self._timeout:
            seconds = int(timeout)
            value = _TIMEVAL.pack(seconds, max(1000, int((timeout - seconds) * 1e6)))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
            self._timeout = timeout

    def _left(self) -> float:
        left = self._patience.deadline - self._runtime.monotonic()
        if left <= 0:
            doing = f" while it was {self._progress}" if self._progress else ""
            raise DeadlineError(f"the deadline passed{doing}")
        if self._cancel.cancelled:
            raise WorkerUnavailableError("cancelled")
        return left

    def _shut_down(self, cancel: CancelToken) -> None:
        # The call may have ended while its canceller was on the way here; then the connection
        # belongs to another call by now.
        if self._cancel is not cancel:
            return
        # Closing would free the descriptor's number under the thread that waits on it; a shutdown
        # only wakes that thread.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _parse_head(text: bytes) -> Head:
    status_line, *lines = text.decode("latin-1").split("\r\n")
    parts = status_line.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdecimal():
        raise BrokenAnswerError(f"an answer that is not HTTP: {status_line[:40]!r}")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BrokenAnswerError(f"an answer with a broken header: {line[:40]!r}")
        headers[name.strip().lower()] = value.strip()
    return Head(int(parts[1]), headers)


class _Idle(NamedTuple):
    connection: Connection
    since: float


class ConnectionPool:
    """Idle connections by address, the most recently used first; safe from any thread."""

    def __init__(self, runtime: Runtime, *, idle_limit: int, idle_seconds: float) -> None:
        """Keep at most ``idle_limit`` connections per address, each for at most ``idle_seconds``."""
        self._runtime = runtime
        self._idle_limit = idle_limit
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._idle: dict[str, list[_Idle]] = {}
        self._closed = False

    def take(self, address: str, patience: Patience, cancel: CancelToken) -> Connection | None:
        """Return an idle connection, or ``None``; expired ones of all addresses are closed."""
        expired_before = self._runtime.monotonic() - self._idle_seconds
        expired = []
        taken = None
        with self._lock:
            for idle in self._idle.values():
                while idle and idle[0].since < expired_before:
                    expired.append(idle.pop(0).connection)
            if self._idle.get(address):
                taken = self._idle[address].pop().connection
            for empty in [name for name, idle in self._idle.items() if not idle]:
                del self._idle[empty]
        for connection in expired:
            connection.close()
        if taken is not None:
            taken.begin(patience, cancel)
        return taken

    def give(self, address: str, connection: Connection) -> None:
        """Keep a connection for the next call, unless there are enough."""
        connection.end()
        with self._lock:
            idle = self._idle.setdefault(address, [])
            keep = connection.reusable and not self._closed and len(idle) < self._idle_limit
            if keep:
                idle.append(_Idle(connection, self._runtime.monotonic()))
        if not keep:
            connection.close()

    def close(self) -> None:
        """Close the idle connections; those in use close when they are given back."""
        with self._lock:
            self._closed = True
            closing = [each.connection for idle in self._idle.values() for each in idle]
            self._idle.clear()
        for connection in closing:
            connection.close()
