"""The Unix socket of a worker: descriptors for processes on its own node.

Messages are JSON objects behind a four-byte big-endian length, at most ``MESSAGE_BYTES_MAX``; a
request has an ``op``, an answer either what the table says or a ``failure``
(:mod:`cachefs.wire.failures`). Requests on one connection are answered in order; a process opens
as many connections as it wants to wait on.

========  ==================================================  ====================================
op        request                                             answer
========  ==================================================  ====================================
hello     ``token``                                           ``worker``, ``block_size``
open      ``dataset``, ``version``, ``file`` (file version)   ``lease``, ``stamp``, ``digests``
                                                              (packed, hex; see below), and **one
                                                              descriptor** by SCM_RIGHTS
fill      ``lease``, ``index``, ``deadline_seconds``          ``digest``, ``source``, ``stamp``
fill      as ``open``, and ``index``, ``deadline_seconds``    the same, and ``lease`` with one
                                                              descriptor, as ``open``
check     ``lease``                                           ``stamp``, ``digests``
report    ``lease``, ``index``                                ``stamp`` (a bad block was found: it is
                                                              quarantined and must be filled again)
close     ``lease``                                           nothing
========  ==================================================  ====================================

``hello`` comes first, or the connection is closed. The descriptor is read-only and refers to one
sparse file as long as the whole file; only the blocks in ``digests`` are in it. The **lease** lasts
until ``close`` or until the connection ends, however it ends; while it lasts, no block is punched
out of the file.

``fill`` waits until the block is there. Meanwhile the worker sends ``waiting``, with what it is busy
with if that is worth a word, every ``PROGRESS_SECONDS`` of :mod:`cachefs.wire.http`, so that the asker can tell a slow origin from a
stalled worker. With names instead of a lease it lends the file for this one block, without the
digests of all others.

The **stamp** is the file's change time (``st_ctime_ns``) after the worker's own last write. A reader
compares it with ``fstat`` after it read: equal means that nobody but the worker has written, and so
the bytes are those the worker verified. Different means that either the worker filled another block
meanwhile or somebody damaged the file; ``check`` asks which, and the worker verifies again what it
no longer trusts.
"""

import json
import struct
from typing import Any

from cachefs.errors import ClusterError

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Holds the packed digests of a 4 TiB file of 8 MiB blocks, in hexadecimal."""

HEADER = struct.Struct(">I")


def encode(message: dict[str, Any]) -> bytes:
    """Return a message with its length before it."""
    body = json.dumps(message).encode()
    return HEADER.pack(len(body)) + body


def decode_length(header: bytes) -> int:
    """Return the length that a header announces.

    Raises:
        ClusterError: It is over the limit.
    """
    (length,) = HEADER.unpack(header)
    if length > MESSAGE_BYTES_MAX:
        raise ClusterError("a message on the local socket is too long")
    return int(length)


def decode(body: bytes) -> dict[str, Any]:
    """Parse a message's body.

    Raises:
        ClusterError: It is not a JSON object.
    """
    try:
        message = json.loads(body)
    except ValueError as error:
        raise ClusterError("a message on the local socket is not JSON") from error
    if not isinstance(message, dict):
        raise ClusterError("a message on the local socket is not an object")
    return message
