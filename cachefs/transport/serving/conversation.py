"""Conversation: bytes in and out of one served connection, each step with a bound in time.

A request's head must come whole within ``HEAD_SECONDS`` of its first byte, however slowly it drips.
A body must make progress, and must on the whole be read faster than a trickle: a reader that takes
a byte a minute would keep a block from being evicted for years.

File bytes leave by ``sendfile``, straight from the page cache. On loopback it was measured against
``send`` from a mapping: with one connection it is faster by half (4.4 against 2.5 GB/s), with
four it is a tenth slower, and it needs no address space and faults no pages in. The kernel's own
tuning of the send buffer did no worse than any fixed size.
"""

import os
import select
import socket

from cachefs.errors import ClusterError
from cachefs.ports import Runtime
from cachefs.wire.http import HEADER_BYTES_MAX

HEAD_SECONDS = 10.0
"""For a request's head, from its first byte; and for the first request of a connection."""
STALL_SECONDS = 20.0
"""A reader that takes nothing for so long is gone."""
TRICKLE_BYTES_RATE = 64 * 1024
"""A body must on the whole leave at this many bytes a second."""
LINGER_SECONDS = 1.0
LINGER_BYTES = 1024 * 1024
"""How long, and how much, a refused body is still taken in, so that its sender reads the answer."""
_RECEIVE_BYTES = 4096
_HEAD_END = b"\r\n\r\n"


class Conversation:
    """One side of a connection; used by one thread."""

    def __init__(self, runtime: Runtime, connection: socket.socket) -> None:
        """Take over a connected socket."""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._runtime = runtime
        self._socket = connection
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(connection, select.POLLOUT)
        self._received = b""

    def read_head(self, idle_seconds: float) -> bytes | None:
        """Return the next request's head without its closing empty line; ``None`` at the end.

        Raises:
            ClusterError: It is too long.
            TimeoutError: It came too slowly.
        """
        now = self._runtime.monotonic()
        deadline = now + (HEAD_SECONDS if self._received else idle_seconds)
        while (end := self._received.find(_HEAD_END)) < 0:
            if len(self._received) > HEADER_BYTES_MAX:
                raise ClusterError("the head of a request is too long")
            left = deadline - self._runtime.monotonic()
            if left <= 0 or not self._readable.poll(left * 1000):
                if not self._received:
                    return None
                raise TimeoutError("the head of a request came too slowly")
            part = self._receive()
            if part is None:
                continue
            if not part:
                return None
            if not self._received:
                deadline = self._runtime.monotonic() + HEAD_SECONDS
            self._received += part
        if end > HEADER_BYTES_MAX:
            raise ClusterError("the head of a request is too long")
        head = self._received[:end]
        self._received = self._received[end + len(_HEAD_END) :]
        return head

    def read_body(self, length: int) -> bytes:
        """Return a request's body of so many bytes, which the caller has found to be few.

        Raises:
            TimeoutError: It came too slowly.
            ConnectionError: It ended before.
        """
        deadline = self._runtime.monotonic() + HEAD_SECONDS
        while len(self._received) < length:
            left = deadline - self._runtime.monotonic()
            if left <= 0 or not self._readable.poll(left * 1000):
                raise TimeoutError("the body of a request came too slowly")
            part = self._receive()
            if part == b"":
                raise ConnectionError("a request ended in its body")
            self._received += part or b""
        body, self._received = self._received[:length], self._received[length:]
        return body

    def linger(self) -> None:
        """End our side, and take in for a moment what the other side is still sending.

        A connection that is closed with bytes unread is reset, and the answer before may be lost.
        """
        self._socket.shutdown(socket.SHUT_WR)
        deadline = self._runtime.monotonic() + LINGER_SECONDS
        taken = 0
        while taken < LINGER_BYTES and (left := deadline - self._runtime.monotonic()) > 0:
            if not self._readable.poll(left * 1000):
                return
            part = self._receive()
            if part == b"":
                return
            taken += len(part or b"")

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None

    def send(self, data: bytes | memoryview, *, more: bool = False) -> None:
        """Send all of some bytes; with ``more`` the kernel may wait for what follows."""
        flags = socket.MSG_MORE if more else 0
        rest = memoryview(data)
        deadline = self._deadline(len(rest))
        while rest:
            try:
                rest = rest[self._socket.send(rest, flags) :]
            except BlockingIOError:
                self._wait_writable(deadline)

    def send_file(self, descriptor: int, offset: int, length: int) -> None:
        """Send a range of a file.

        Raises:
            OSError: The other side is gone or too slow, or the file is shorter than it must be.
        """
        end = offset + length
        deadline = self._deadline(length)
        while offset < end:
            try:
                sent = os.sendfile(self._socket.fileno(), descriptor, offset, end - offset)
            except BlockingIOError:
                self._wait_writable(deadline)
                continue
            if not sent:
                raise OSError("the block's file ends before the block does")
            offset += sent

    def _deadline(self, length: int) -> float:
        return self._runtime.monotonic() + STALL_SECONDS + length / TRICKLE_BYTES_RATE

    def _wait_writable(self, deadline: float) -> None:
        left = min(STALL_SECONDS, deadline - self._runtime.monotonic())
        if left <= 0 or not self._writable.poll(left * 1000):
            raise TimeoutError("the reader takes its bytes too slowly")
