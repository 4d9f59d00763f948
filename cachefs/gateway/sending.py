"""Sending: a range of a file into a connection, by the shortest way there is.

*A small range* is read, verified, and leaves together with the head. *A file that is whole on this
node* leaves by ``sendfile`` from the worker's own file. It was vouched for before the first byte, and
is again before the last piece leaves: had anybody written to it in between, the body stays short and
the connection is closed, which no client takes for success. *Everything else* is lent by the reader,
piece by piece, each verified before it is sent, while the reader fetches what follows.

The first bytes are had before the head is sent. So a file that cannot be read is an answer with a
status and a reason; a failure after that closes the connection.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cachefs.client.lenders import WholeFile
from cachefs.client.reader import OpenFile
from cachefs.config.schema import MIB
from cachefs.core.blocks import Range
from cachefs.errors import IntegrityError
from cachefs.transport.serving.conversation import Conversation

SMALL_BYTES = 128 * 1024
"""Up to this size, a read and one packet cost less than looking for something better."""
TAIL_BYTES = 64 * 1024
"""How much of a file is held back until it was vouched for again."""
PIECE_BYTES = 2 * MIB
"""A quarter of a block: large enough to move at full speed, small enough for 128 connections."""


class Sender:
    """Sends on one connection; has a buffer of its own, which it makes when it needs it."""

    def __init__(self, conversation: Conversation) -> None:
        """Send into a conversation."""
        self._conversation = conversation
        self._buffer = bytearray()
        self.began = False
        """Whether the head of the last answer is on its way, so that nothing else can be said."""

    def send(self, head: bytes, file: OpenFile, wanted: Range) -> None:
        """Send a head, and a range of a file.

        Raises:
            CacheFSError: The range cannot be read; :attr:`began` says if the connection can go on.
            OSError: The other side is gone or too slow.
        """
        self.began = False
        if wanted.length <= SMALL_BYTES:
            content = file.read(wanted.offset, wanted.length)
            self.began = True
            self._conversation.send(head + content)
            return
        whole = file.whole()
        if whole is None:
            self._send_pieces(head, file, wanted)
        else:
            self._send_file(head, file, wanted, whole)

    def _send_file(self, head: bytes, file: OpenFile, wanted: Range, whole: WholeFile) -> None:
        self.began = True
        self._conversation.send(head, more=True)
        tail = wanted.end - TAIL_BYTES
        self._conversation.send_file(whole.fileno(), wanted.offset, tail - wanted.offset)
        if file.whole() is not whole:
            raise IntegrityError("the file was written to while it was sent", subject=file.path)
        self._conversation.send_file(whole.fileno(), tail, TAIL_BYTES)

    def _send_pieces(self, head: bytes, file: OpenFile, wanted: Range) -> None:
        if wanted.offset == 0 and wanted.length == file.size:
            file.expect_all()
        offset = wanted.offset
        while offset < wanted.end:
            end = min(offset - offset % PIECE_BYTES + PIECE_BYTES, wanted.end)
            with file.lend(offset, end - offset, self._borrow) as views:
                if not self.began:
                    self.began = True
                    self._conversation.send(head, more=True)
                for view in views:
                    self._conversation.send(view, more=end < wanted.end)
            offset = end

    @contextmanager
    def _borrow(self, length: int) -> Iterator[memoryview]:
        if len(self._buffer) < length:
            self._buffer = bytearray(PIECE_BYTES)
        with memoryview(self._buffer) as view:
            yield view[:length]
