"""A file's blocks from the reader's own memory and from other nodes.

A block that is wanted whole is received in the caller's buffer and verified there; a block of which
a part is wanted is received in the block cache, verified, and the part copied. Several blocks are
fetched at once (:mod:`cachefs.client.lanes`): while one thread computes a digest, with the
interpreter's lock released, others receive.

The block's digest as metadata has it decides. While metadata has none (the block is being filled for
the first time), the one that comes with the block is believed: that finds damage on the way, but not
a worker that lies about a block that nobody ever read before.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from cachefs.client.block_cache import BlockCache, CachedBlock
from cachefs.client.fetching import BlockFetcher, Served
from cachefs.client.lanes import Fetch, Lanes
from cachefs.client.readahead import Readahead
from cachefs.client.statistics import MEMORY, Delivery, ReadCounters
from cachefs.config.schema import ReaderConfig
from cachefs.core.blocks import BlockId, Range, block_range, blocks_of
from cachefs.errors import CacheFSError
from cachefs.ports import CancelToken, Closing, FileRef, Metadata, Runtime

_DIGESTS_SECONDS = 2.0
"""A read does not wait longer for a list of digests, without which it can go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteParts:
    """What all open files of one reader share."""

    runtime: Runtime
    config: ReaderConfig
    block_size: int
    metadata: Metadata
    fetcher: BlockFetcher
    cache: BlockCache
    lanes: Lanes
    counters: ReadCounters


class RemoteFile(Closing):
    """One open file; safe from any thread."""

    def __init__(
        self,
        parts: RemoteParts,
        ref: FileRef,
        following: FileRef | None,
        *,
        on_fetched: Callable[[], None],
    ) -> None:
        """Fetch nothing yet.

        Args:
            parts: The reader's.
            ref: Which file version.
            following: What may be read after it.
            on_fetched: Called after a read that had to fetch blocks.
        """
        self._parts = parts
        self._ref = ref
        self._block_size = parts.block_size
        self._on_fetched = on_fetched
        self._guard = parts.runtime.condition()
        self._digests: Sequence[bytes | None] = ()
        self._digests_asked_at = float("-inf")
        self._ahead = Readahead(
            parts.runtime,
            parts.config,
            block_size=parts.block_size,
            cache=parts.cache,
            lanes=parts.lanes,
            fetch=self._fetch_ahead,
            ref=ref,
            following=following,
        )

    def expect_all(self, *, at_once: bool) -> None:
        """Read ahead further and sooner; see :meth:`Readahead.expect_all`."""
        self._ahead.expect_all(at_once=at_once)

    def close(self) -> None:
        """Stop reading ahead; idempotent."""
        self._ahead.close()

    def read_into(
        self, missing: list[Range], wanted: Range, into: memoryview, deadline: float
    ) -> list[Delivery]:
        """Read what is missing of a wanted range into the buffer for all of it."""
        deliveries: list[Delivery] = []
        known = self._known_digests(missing, deadline)
        fetches: list[Fetch] = []
        for part in missing:
            for index, piece in blocks_of(part, self._block_size):
                start = piece.offset - wanted.offset
                target = into[start : start + piece.length]
                digest = known[index] if index < len(known) else None
                fetches.append(
                    self._block_fetch(
                        index,
                        piece,
                        target,
                        digest=digest,
                        deadline=deadline,
                        deliveries=deliveries,
                    )
                )
        self._ahead.note(wanted)
        self._parts.lanes.run(fetches, deadline=deadline)
        self._on_fetched()
        return deliveries

    def hold(
        self, wanted: Range, deadline: float, held: ExitStack
    ) -> tuple[list[memoryview], list[Delivery]]:
        """Return a range as parts of cached blocks, which are in use until ``held`` is left."""
        cache = self._parts.cache
        self._ahead.note(wanted)
        pieces = list(blocks_of(wanted, self._block_size))
        blocks: dict[int, CachedBlock] = {}
        for index, _ in pieces:
            # What is on its way is waited for here, which keeps no lane busy.
            block = BlockId(self._ref.entry.file_version, index)
            joined = cache.join(block, deadline=deadline)
            if joined is not None:
                held.callback(cache.release, joined)
                blocks[index] = joined
        absent = [index for index, _ in pieces if index not in blocks]
        if absent:
            self._hold_absent(absent, blocks, deadline, held)
        views: list[memoryview] = []
        deliveries: list[Delivery] = []
        for index, piece in pieces:
            start = piece.offset - index * self._block_size
            views.append(blocks[index].view[start : start + piece.length])
            deliveries.append(_from_cache(blocks[index], piece.length))
            # Two threads at once may lose one's count: then the block stays until room is needed.
            blocks[index].spent += piece.length
            if blocks[index].spent >= len(blocks[index].view):
                self._ahead.read_to_end(index)
        return views, deliveries

    def _hold_absent(
        self, absent: list[int], blocks: dict[int, CachedBlock], deadline: float, held: ExitStack
    ) -> None:
        """Fetch blocks into the cache and hold them."""
        cache = self._parts.cache
        wholes = [block_range(index, self._ref.entry.size, self._block_size) for index in absent]
        known = self._known_digests(wholes, deadline)

        def bring(index: int, length: int, cancel: CancelToken) -> None:
            digest = known[index] if index < len(known) else None

            def fetch(into: memoryview) -> Served:
                return self._parts.fetcher.fetch(
                    self._ref, index, into, known=digest, deadline=deadline, cancel=cancel
                )

            block = BlockId(self._ref.entry.file_version, index)
            blocks[index] = cache.acquire(block, length, fetch, deadline=deadline)
            held.callback(cache.release, blocks[index])

        fetches = [
            partial(bring, index, whole.length) for index, whole in zip(absent, wholes, strict=True)
        ]
        self._parts.lanes.run(fetches, deadline=deadline)
        self._on_fetched()

    def _block_fetch(
        self,
        index: int,
        piece: Range,
        target: memoryview,
        *,
        digest: bytes | None,
        deadline: float,
        deliveries: list[Delivery],
    ) -> Fetch:
        """Return the unit of work that brings one block, or a part of it, to where it is wanted."""
        whole = block_range(index, self._ref.entry.size, self._block_size)
        block = BlockId(self._ref.entry.file_version, index)
        start = piece.offset - whole.offset

        def fetch(into: memoryview, cancel: CancelToken) -> Served:
            return self._parts.fetcher.fetch(
                self._ref, index, into, known=digest, deadline=deadline, cancel=cancel
            )

        def bring(cancel: CancelToken) -> None:
            cache = self._parts.cache
            held = cache.find(block, target, start)
            if held is not None:
                deliveries.append(_from_cache(held, piece.length))
            elif piece == whole and not cache.holds(block):
                served = fetch(target, cancel)
                deliveries.append(Delivery(served.source, served.member.zone, piece.length))
            else:
                with cache.obtain(
                    block, whole.length, lambda into: fetch(into, cancel), deadline=deadline
                ) as held:
                    target[:] = held.view[start : start + piece.length]
                    deliveries.append(_from_cache(held, piece.length))

        return bring

    def _known_digests(self, missing: list[Range], deadline: float) -> Sequence[bytes | None]:
        """Return the digests that metadata has, asking again while it lacks one that is wanted."""
        now = self._parts.runtime.monotonic()
        with self._guard:
            known = self._digests
            last = max(part.end - 1 for part in missing) // self._block_size
            first = min(part.offset for part in missing) // self._block_size
            complete = last < len(known) and all(known[first : last + 1])
            if complete or now - self._digests_asked_at < self._parts.config.view_seconds:
                return known
            self._digests_asked_at = now
        try:
            until = min(deadline, now + _DIGESTS_SECONDS)
            known = self._parts.metadata.digests(self._ref, deadline=until)
        except CacheFSError:
            # Without them, the digests that come with the blocks are used. Who was waited for in vain
            # is not asked by the next read already, or every read would wait.
            with self._guard:
                self._digests_asked_at = self._parts.runtime.monotonic()
            return known
        with self._guard:
            self._digests = known
        return known

    def _fetch_ahead(
        self, ref: FileRef, index: int, into: memoryview, deadline: float, cancel: CancelToken
    ) -> Served:
        known = self._digests if ref is self._ref else ()
        digest = known[index] if index < len(known) else None
        self._parts.counters.read_ahead()
        return self._parts.fetcher.fetch(
            ref, index, into, known=digest, deadline=deadline, cancel=cancel
        )


def _from_cache(held: CachedBlock, length: int) -> Delivery:
    """Say where cached bytes came from; only their first delivery counts for the worker."""
    seen, held.seen = held.seen, held.seen + length
    if seen or held.served is None:
        return Delivery(MEMORY, "", length)
    return Delivery(held.served.source, held.served.member.zone, length)
