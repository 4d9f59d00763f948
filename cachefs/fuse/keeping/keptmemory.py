"""The memory that a keeper holds: records that outlive the process which wrote them.

It is an anonymous file of the kernel's (a memfd). At its beginning it says where the log starts; in
the log, each record is a line with its checksum before it. A process that is killed while it writes
leaves a torn line at the end, which its successor cuts off; what the record would have said was not
promised to anybody yet.

A record that has a ``key`` replaces an earlier one with the same key. When most of the log is
replaced, what is left is written anew, beside the log or before it, and only then does the beginning
say so: whenever we are killed, one of the two is whole. So a mount that lives for years does not grow.
"""

import itertools
import json
import os
import struct
import zlib
from collections.abc import Iterable
from typing import Any

from cachefs.ports import Runtime

_START = struct.Struct("<QI")
"""Where the log starts, and the checksum of that."""
_PAGE = 4096
"""The beginning has a page, within which a write is never cut in two."""
_CHECKSUM_DIGITS = 8
_READ_BYTES = 1024 * 1024
_GARBAGE_BYTES_MIN = 256 * 1024
"""Less is not worth writing anew."""
_GARBAGE_SHARE = 0.75


def make_memory() -> int:
    """Return a descriptor of an empty memory, which a child may be handed."""
    return os.memfd_create("cachefs-memory")


class KeptMemory:
    """Implements :class:`cachefs.fuse.showing.memory.Memory` on a descriptor. One process writes at a time."""

    def __init__(self, runtime: Runtime, descriptor: int) -> None:
        """Take in what is there; the descriptor stays the caller's."""
        self._descriptor = descriptor
        self._guard = runtime.condition()
        self._numbers = itertools.count()
        self._live: dict[object, bytes] = {}
        """The lines that count, oldest first: by their key, or by a number of their own."""
        self._live_bytes = 0
        self._start = self._end = _read_start(descriptor)
        *lines, _torn = _content(descriptor, self._start).split(b"\n")
        for line in lines:
            record = _decode(line)
            if record is None:
                break
            self._note(record, line + b"\n")
            self._end += len(line) + 1
        os.ftruncate(descriptor, self._end)

    def records(self) -> list[dict[str, Any]]:
        """Return all records that count, those of the processes before this one included."""
        with self._guard:
            lines = list(self._live.values())
        return [json.loads(line[_CHECKSUM_DIGITS:]) for line in lines]

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is there when this returns."""
        line = _encode(record)
        with self._guard:
            self._end = self._write(self._end, (line,))
            self._note(record, line)
            size = self._end - self._start
            garbage = size - self._live_bytes
            if garbage > max(_GARBAGE_BYTES_MIN, _GARBAGE_SHARE * size):
                self._write_anew()

    def _note(self, record: dict[str, Any], line: bytes) -> None:
        key = record.get("key", next(self._numbers))
        self._live_bytes += len(line) - len(self._live.pop(key, b""))
        self._live[key] = line

    def _write_anew(self) -> None:
        # With a gap in between, nobody can take one log for the end of the other.
        before = self._start > _PAGE + self._live_bytes
        start = _PAGE if before else (self._end // _PAGE + 1) * _PAGE
        end = self._write(start, self._live.values())
        os.pwrite(self._descriptor, _packed(start), 0)
        self._start, self._end = start, end
        os.ftruncate(self._descriptor, end)

    def _write(self, at: int, lines: Iterable[bytes]) -> int:
        for line in lines:
            rest = memoryview(line)
            while rest:
                count = os.pwrite(self._descriptor, rest, at)
                rest, at = rest[count:], at + count
        return at


def _packed(start: int) -> bytes:
    return _START.pack(start, zlib.crc32(start.to_bytes(8, "little")))


def _read_start(descriptor: int) -> int:
    """Return where the log starts; say so at the beginning of a new memory."""
    head = os.pread(descriptor, _START.size, 0)
    if len(head) == _START.size:
        start, _ = _START.unpack(head)
        if head == _packed(start):
            return int(start)
    os.pwrite(descriptor, _packed(_PAGE), 0)
    os.ftruncate(descriptor, _PAGE)
    return _PAGE


def _encode(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x%s\n" % (zlib.crc32(text), text)


def _decode(line: bytes) -> dict[str, Any] | None:
    checksum, text = line[:_CHECKSUM_DIGITS], line[_CHECKSUM_DIGITS:]
    if not text or checksum != b"%08x" % zlib.crc32(text):
        return None
    record: dict[str, Any] = json.loads(text)
    return record


def _content(descriptor: int, at: int) -> bytes:
    parts: list[bytes] = []
    while part := os.pread(descriptor, _READ_BYTES, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
