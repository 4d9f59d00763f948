"""Floors: the least that any program must do for the same result.

========================  ========================================================================
:class:`RawSender`        ``sendfile`` in a process of its own to ``recv_into`` in this one, over N
                          connections of loopback TCP, with no protocol at all
:func:`read_in_threads`   ``preadv`` by N threads from the page cache
========================  ========================================================================

All of them write into a :func:`prepared` buffer: huge pages, touched, because page faults cost more
than the copy.
"""

import contextlib
import mmap
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from cachefs.ports import Closing

_HUGE_PAGE_BYTES = 2 * 1024 * 1024
_MADV_POPULATE_WRITE = 23
_READ_BYTES = 8 * 1024 * 1024
_ASK = struct.Struct(">IQQ")
"""Which file, offset, length."""


def prepared(size: int) -> memoryview:
    """Return a touched buffer of huge pages, as far as the kernel has them."""
    rounded = -(-size // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    buffer = mmap.mmap(-1, rounded, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    try:
        buffer.madvise(_MADV_POPULATE_WRITE)
    except OSError:  # before Linux 5.14
        for at in range(0, rounded, mmap.PAGESIZE):
            buffer[at] = 0
    return memoryview(buffer)[:size]


def back_free_memory(size: int) -> None:
    """Have the host back so much of this machine's free memory before it is measured.

    A virtual machine may give free memory back to its host after a second or two (free page
    reporting). Whoever touches it next waits for the host, at a tenth of the usual speed, and that
    is the page cache of whatever is written. So it is touched, and freed, just before.
    """
    prepared(size).release()


def in_threads(count: int, body: Callable[[int], None]) -> None:
    """Run ``body(0)`` … ``body(count - 1)`` at once, and raise what the first of them raised."""
    failures: list[BaseException] = []

    def guarded(at: int) -> None:
        try:
            body(at)
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def split(sizes: Sequence[int], parts: int) -> list[list[tuple[int, int, int, int]]]:
    """Cut files, laid end to end, into equal parts of ``(file, offset, length, position)``."""
    total = sum(sizes)
    bounds = [total * at // parts for at in range(parts + 1)]
    cut: list[list[tuple[int, int, int, int]]] = []
    for start, end in pairwise(bounds):
        pieces, begin = [], 0
        for at, size in enumerate(sizes):
            low, high = max(start, begin), min(end, begin + size)
            if low < high:
                pieces.append((at, low - begin, high - low, low))
            begin += size
        cut.append(pieces)
    return cut


def read_in_threads(path: Path, into: memoryview, threads: int) -> int:
    """Read a whole file with ``preadv``, each thread its own part."""
    size = path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY)
    parts = split([size], threads)

    def read(part: int) -> None:
        for _, offset, length, _ in parts[part]:
            at, end = offset, offset + length
            while at < end:
                at += os.preadv(descriptor, [into[at : min(at + _READ_BYTES, end)]], at)

    try:
        in_threads(threads, read)
    finally:
        os.close(descriptor)
    return size


class RawSender(Closing):
    """A process that sends the files it is asked for, and the connections to it."""

    def __init__(self, paths: Sequence[Path], connections: int) -> None:
        """Start the process and connect."""
        self._sizes = [path.stat().st_size for path in paths]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cachefs.benchmarks.floors", *map(str, paths)],
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout is None:
            raise RuntimeError("a pipe was asked for")
        port = int(self.process.stdout.readline())
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]

    def receive(self, into: memoryview) -> int:
        """Bring all files, end to end, into a buffer."""
        parts = split(self._sizes, len(self._sockets))

        def receive(part: int) -> None:
            connection = self._sockets[part]
            for file, offset, length, position in parts[part]:
                connection.sendall(_ASK.pack(file, offset, length))
                receive_exactly(connection, into[position : position + length])

        in_threads(len(self._sockets), receive)
        return sum(self._sizes)

    def close(self) -> None:
        """End the process."""
        for connection in self._sockets:
            connection.close()
        self.process.terminate()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def receive_exactly(connection: socket.socket, into: memoryview) -> None:
    """Fill a buffer from a socket."""
    at = 0
    while at < len(into):
        got = connection.recv_into(into[at:])
        if not got:
            raise ConnectionError("the sender closed the connection")
        at += got


def _asks(connection: socket.socket) -> Iterator[tuple[int, int, int]]:
    ask = bytearray(_ASK.size)
    while True:
        try:
            receive_exactly(connection, memoryview(ask))
        except ConnectionError:
            return
        yield _ASK.unpack(ask)


def _send_files(paths: Sequence[str]) -> None:
    """Be the sending process: print the port, then answer for ever."""
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]

    def answer(connection: socket.socket) -> None:
        for file, start, length in _asks(connection):
            offset, end = start, start + length
            while offset < end:
                offset += os.sendfile(connection.fileno(), descriptors[file], offset, end - offset)

    server = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{server.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        connection, _ = server.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    _send_files(sys.argv[1:])
