"""Readahead: bringing into the block cache what will probably be read next.

Reads that go forward in a file open a window ahead of them (:mod:`cachefs.core.access`), and such that
go backward one before them; its blocks are fetched on lanes that nobody waits for, unless they were
read already. At the end of a file the window reaches into the file that will probably be opened next. Nothing is fetched for which another block would have to go that nobody
has seen yet.

Who knows beforehand that a whole file will be read says so (:meth:`Readahead.expect_all`), and need
not wait until the window has grown.
"""

from collections.abc import Callable

from cachefs.client.block_cache import BlockCache
from cachefs.client.fetching import Served
from cachefs.client.lanes import Lanes
from cachefs.config.schema import ReaderConfig
from cachefs.core.access import AccessHistory
from cachefs.core.blocks import BlockId, Range, block_count, block_range, blocks_of, clip
from cachefs.errors import CacheFSError
from cachefs.ports import CancelToken, FileRef, Runtime

_BLOCKS_AT_OPEN = 2
"""Of a file that will probably be read whole: one to begin with, one while that is looked at."""

Fetch = Callable[[FileRef, int, memoryview, float, CancelToken], Served]
"""Brings a verified block of a file into a buffer, by a deadline."""


class Readahead:
    """What is fetched ahead for one open file; safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        config: ReaderConfig,
        *,
        block_size: int,
        cache: BlockCache,
        lanes: Lanes,
        fetch: Fetch,
        ref: FileRef,
        following: FileRef | None,
    ) -> None:
        """Fetch nothing yet; ``following`` is the file that may be read after this one."""
        self._runtime = runtime
        self._config = config
        self._block_size = block_size
        self._cache = cache
        self._lanes = lanes
        self._fetch = fetch
        self._ref = ref
        self._following = following
        self._guard = runtime.condition()
        # The block that is being read needs its place in the cache as well.
        room = max(0, config.block_cache_bytes - block_size)
        self._limit = min(config.readahead_bytes, room)
        self._history = AccessHistory(window_start=block_size, window_limit=self._limit)
        self._reached = 0
        """The offset up to which blocks were asked for; those of the next file count on."""
        self._done: set[int] = set()
        """Blocks that were read to their last byte, by somebody who keeps what was read."""
        self._all_expected = False
        self._running: dict[CancelToken, None] = {}
        """Cancelled at close."""
        self._closed = False

    def expect_all(self, *, at_once: bool) -> None:
        """Open the window at the first read, because the whole file will probably be read in order.

        Args:
            at_once: Fetch the file's beginning before anything is read. Not more: some programs
                look at the headers of all files before they read the first one.
        """
        self._all_expected = True
        if at_once:
            self._fetch_until(0, min(self._limit, _BLOCKS_AT_OPEN * self._block_size))

    def note(self, wanted: Range) -> None:
        """Note a read, and fetch what follows from it."""
        if self._limit == 0:
            return
        with self._guard:
            ahead = self._history.record(wanted)
            backward, jumped = self._history.backward, self._history.jumped
            self._done -= {index for index, _ in blocks_of(wanted, self._block_size)}
        if wanted.length >= self._config.connections_limit * self._block_size:
            return  # Such a read keeps every connection busy; a copy would only slow it down.
        if backward:
            self._fetch_before(ahead)
        elif self._all_expected and not jumped:
            self._fetch_until(wanted.end, wanted.end + self._limit)
        elif ahead.length:
            self._fetch_until(ahead.offset, ahead.end)
        else:
            self._reached = 0

    def read_to_end(self, index: int) -> None:
        """Note that all of a block was read, and is kept by who has read it."""
        with self._guard:
            self._done.add(index)

    def close(self) -> None:
        """Cancel what is under way; idempotent."""
        with self._guard:
            self._closed = True
            running = list(self._running)
        for token in running:
            token.cancel()

    def _fetch_until(self, begin: int, end: int) -> None:
        """Fetch the blocks of a range that were not asked for yet, as far as there is room."""
        size = self._ref.entry.size
        with self._guard:
            # Reads of several threads come in slightly out of order, which is no jump back.
            if not begin <= self._reached <= end + self._limit:
                self._reached = begin
            first = self._reached
        blocks = block_count(size, self._block_size) * self._block_size
        offset = first - first % self._block_size
        while offset < end:
            if offset < blocks:
                room = self._submit_own(offset // self._block_size)
            else:
                room = self._submit_following(offset - blocks)
            if not room:
                break
            offset += self._block_size
        with self._guard:
            if self._reached == first:
                self._reached = max(first, offset)

    def _fetch_before(self, ahead: Range) -> None:
        """Fetch the blocks of a range that were not read yet, the last one first."""
        for index in sorted(
            (index for index, _ in blocks_of(ahead, self._block_size)), reverse=True
        ):
            if not self._submit_own(index):
                return

    def _submit_own(self, index: int) -> bool:
        """Fetch a block of this file; ``False`` if there is no room for it."""
        return index in self._done or self._submit(self._ref, index)

    def _submit_following(self, offset: int) -> bool:
        """Fetch the first block of the next file: more would be a guess upon a guess."""
        if self._following is None or offset or not clip(0, 1, self._following.entry.size).length:
            return False
        return self._submit(self._following, 0)

    def _submit(self, ref: FileRef, index: int) -> bool:
        """Fetch a block if it is not here; ``False`` if there is no room for it."""
        block = BlockId(ref.entry.file_version, index)
        length = block_range(index, ref.entry.size, self._block_size).length
        if self._cache.expects(block):
            return True
        if not self._cache.try_promise(block, length):
            return False

        def bring(cancel: CancelToken) -> None:
            with self._guard:
                closed = self._closed
                self._running[cancel] = None
            try:
                if not closed:
                    self._bring(ref, block, length, cancel)
            finally:
                self._cache.withdraw(block)
                with self._guard:
                    self._running.pop(cancel, None)

        if self._lanes.submit(bring):
            return True
        self._cache.withdraw(block)
        return False

    def _bring(self, ref: FileRef, block: BlockId, length: int, cancel: CancelToken) -> None:
        deadline = self._runtime.monotonic() + self._config.deadline_seconds

        def fetch(into: memoryview) -> Served:
            return self._fetch(ref, block.index, into, deadline, cancel)

        try:
            with self._cache.obtain(block, length, fetch, deadline=deadline):
                pass
        except CacheFSError:
            return  # Who reads the block meets the same trouble, and says so.
