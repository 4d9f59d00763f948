"""Filling: a block comes in once, however many ask for it.

Theory of operation. There is a table of the blocks that are being filled. Whoever needs a block that
is not in the store joins its fill there, or puts one in. Fills are carried out by threads that belong
to the filler and to nobody else, so nothing that happens to those who wait (their deadline passes,
they are cancelled, they die of an exception) can end a fill, or leave one behind that never ends.
Those who wait, wait each with a deadline of their own.

Two classes. What a read waits for is *demand*, and is queued first in, first out. What a warm-up
wants is taken only when no demand waits, block by block from the lists of the jobs, in turns; so a
warm-up of a million blocks costs no queue. A read that needs a block which a warm-up is just filling
joins that fill. Further copies of a block (this worker is not its first owner) come last, and only
half of the threads may make them: a copy waits for its first owner, and if two workers gave all their
threads to copies from each other, both would wait forever.

When all places are taken, a read of a dataset of which nothing is being filled gets a spare one
(:mod:`cachefs.workers.filling.places`): an origin that stands still does not keep the others waiting.

Room before bytes. A fill reserves capacity before it asks anybody. When everything in the way is
pinned, leased or reserved, a warm-up's block fails; a read's block is filled into memory, served to
those who wait, and forgotten. That many blocks at once have a limit.

A failure is remembered for a moment and answered from memory, so that the retries of many readers do
not multiply the requests to an origin in trouble.

The interleaving to keep in mind: A looks into the store and misses; B's fill of the same block ends
and leaves the table; A finds no fill and starts one. It would be a second request to the origin, so
a fill's first act is to look into the store again.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import islice

from cachefs.config.schema import ClusterConfig, FillConfig
from cachefs.core.blocks import BlockId
from cachefs.core.names import WorkerId
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ClusterError,
    CoordinatorUnavailableError,
)
from cachefs.ports import BlockSource, BlockStore, FileRef, Runtime, WorkerMetadata
from cachefs.wire import failures
from cachefs.workers.filling.accounts import ByteAccounts
from cachefs.workers.filling.bringing import Bringer, Errand
from cachefs.workers.filling.buffers import Buffers
from cachefs.workers.filling.failed import FailedFills
from cachefs.workers.filling.fills import (
    Fill,
    FillFailure,
    FillStatistics,
    ObtainedBlock,
    Underway,
)
from cachefs.workers.filling.origins import OpenOrigin, OpenOrigins
from cachefs.workers.filling.pacing import Pacer
from cachefs.workers.filling.places import SPARE_PLACES, Places
from cachefs.workers.filling.threads import FillThreads
from cachefs.workers.filling.warming import (
    FOR_A_CROWD,
    PLAIN,
    Given,
    JobTerms,
    WarmJobs,
    part_copies,
)

ROUNDS_LIMIT = 3
"""How often a read starts over because its block was evicted the moment it came in."""
VIEW_SECONDS = 1.0
"""A warm-up goes on without a view that does not come in time."""
CLOSE_SECONDS = 2.0
"""How long closing waits for fills under way; their threads keep no process alive."""

_log = logging.getLogger("cachefs.worker")


class Filler:
    """Answers "give me this block" for everyone in the worker. Safe from any thread."""

    def __init__(  # noqa: PLR0917 - the ports, in the order in which a block passes them
        self,
        runtime: Runtime,
        store: BlockStore,
        peers: BlockSource,
        metadata: WorkerMetadata,
        open_origin: OpenOrigin,
        config: FillConfig,
        *,
        cluster: ClusterConfig,
        own: WorkerId,
    ) -> None:
        """Fill the tiers of the worker ``own``."""
        self._runtime = runtime
        self._store = store
        self._metadata = metadata
        self._origins = OpenOrigins(metadata, open_origin)
        self._bringer = Bringer(
            runtime, peers, metadata, self._origins, config, cluster=cluster, own=own
        )
        self.peers = self._bringer.peers
        """Who is asked, and who is suspected."""
        self.filled = ByteAccounts("peer", "origin")
        """Bytes filled, by source."""
        self.on_fill: Callable[[bool], None] = lambda _warmed: None
        """Called when blocks are wanted, and after each fill; ``True`` after the last of the warm-ups."""
        self._config = config
        self._own = own
        self._block_size = cluster.block_size
        # Straight-line code only under this lock: nothing in it waits, or calls another object.
        self._lock = threading.Lock()
        self._buffers = Buffers(cluster.block_size, kept_limit=config.inflight_fills_limit)
        self._fills: dict[BlockId, Fill] = {}
        self._demand = Places(config.inflight_fills_limit)
        self._warm = WarmJobs(cluster.block_size)
        self._failed = FailedFills(config.failure_memory_seconds)
        self._threads = FillThreads(runtime, config.inflight_fills_limit + SPARE_PLACES, self._work)
        self._pacer = Pacer(runtime, self._threads)
        self._copying = 0
        self._uncached = 0
        self._hits = self._misses = 0
        self._filled_blocks = Counter({"peer": 0, "origin": 0})
        self._closed = False

    def obtain(
        self,
        file: FileRef,
        index: int,
        *,
        only_cached: bool,
        deadline: float,
        from_peers: bool = False,
        verify: bool = False,
        on_wait: Callable[[], None] | None = None,
    ) -> ObtainedBlock | None:
        """Return a block, filling it first if need be; the caller closes it.

        Args:
            file: Which file version.
            index: Which block.
            only_cached: Return ``None`` instead of filling.
            from_peers: Take a copy for a while from another worker; ``None`` if that cannot be had.
            deadline: On the runtime's monotonic clock.
            verify: Check a copy that is here first; a bad one is dropped and filled anew.
            on_wait: Called every ``PROGRESS_SECONDS`` while a fill is waited for; what it raises
                ends the wait, and not the fill.

        Raises:
            DeadlineError: The fill had not ended by then; it goes on.
            CapacityError: Too many fills wait, or there is no room, neither in tiers nor in memory.
            OriginError: The origin did not give the block.
            IntegrityError: What it gave is not what it gave before.
        """
        if verify:
            self._store.quarantine(file.entry.file_version, index)
        for round_ in range(ROUNDS_LIMIT):
            held = self._store.find(file, index)
            if round_ == 0:
                self._count(hit=held is not None)
            if held is not None:
                return ObtainedBlock(digest=held.digest, source=held.medium, held=held)
            if only_cached:
                return None
            terms = FOR_A_CROWD if from_peers else PLAIN
            obtained = self._obtain_by_fill(self._join(file, index, terms), deadline, on_wait)
            if obtained is not None or from_peers:
                return obtained
        raise CapacityError(
            "the block was evicted as soon as it was filled, again and again",
            subject=f"{file.dataset}/{file.entry.path}",
            hint="the worker's tiers are too small for what is read at once",
        )

    def _obtain_by_fill(
        self, fill: Fill, deadline: float, on_wait: Callable[[], None] | None
    ) -> ObtainedBlock | None:
        """Wait for a fill that was joined; ``None`` if it brought nothing that is still to be had."""
        obtained: ObtainedBlock | None = None
        try:
            fill.wait(self._runtime, deadline, on_wait)
            obtained = self._take(fill)
        except CapacityError:
            # A warm-up's block had no room before we joined; a read's may stay in memory.
            if not fill.warm:
                raise
        finally:
            if obtained is None or obtained.held is not None:
                self._leave(fill)
        return obtained

    def _count(self, *, hit: bool) -> None:
        with self._lock:
            if hit:
                self._hits += 1
            else:
                self._misses += 1

    def _join(self, file: FileRef, index: int, terms: JobTerms) -> Fill:
        """Return the block's fill, as one of its users."""
        key = BlockId(file.entry.file_version, index)
        changed = self._runtime.condition()
        now = self._runtime.monotonic()
        with self._lock:
            if self._closed:
                raise ClusterError("the worker is shutting down")
            fill = self._fills.get(key)
            if fill is None:
                self._raise_remembered(key, now)
                if len(self._demand) >= self._config.queued_fills_limit:
                    raise CapacityError(
                        "too many fills wait", hint="worker.fill.queued_fills_limit"
                    )
                # A copy is not what somebody must have: it waits as a read, and may fail as a warm-up.
                is_copy = terms.from_peers
                fill = self._fills[key] = Fill(file, index, changed, warm=is_copy, terms=terms)
                self._demand.put(fill)
            fill.users += 1
            fill.demand |= not terms.from_peers
            waits = bool(self._demand)
        if waits:
            self._threads.call()
        return fill

    def _raise_remembered(self, key: BlockId, now: float) -> None:
        error = self._failed.lately(key, now)
        if error is not None:
            # A new object for each raise: two threads that raise one object mix up its traceback.
            raise failures.from_document(failures.to_document(error)) from error

    def _take(self, fill: Fill) -> ObtainedBlock | None:
        """Return what a fill brought; ``None`` if it was in the store and is not any more."""
        if fill.found_nothing:
            return None
        if fill.error is not None:
            error = fill.error
            raise failures.from_document(failures.to_document(error)) from error
        held = self._store.find(fill.file, fill.index)
        brought = fill.brought
        if held is not None:
            source = brought.source if brought is not None else held.medium
            return ObtainedBlock(digest=held.digest, source=source, held=held)
        if brought is None:
            return None
        return ObtainedBlock(
            digest=brought.digest,
            source=brought.source,
            data=brought.data,
            release=lambda: self._leave(fill),
        )

    def _leave(self, fill: Fill) -> None:
        with self._lock:
            fill.users -= 1
            self._forget_bytes_if_unused(fill)

    def _forget_bytes_if_unused(self, fill: Fill) -> None:
        if fill.users == 0 and fill.ended:
            fill.brought = None
            if fill.buffer is not None:
                self._buffers.give(fill.buffer)
                fill.buffer = None
            if fill.uncached:
                fill.uncached = False
                self._uncached -= 1

    def _work(self) -> bool:
        """Carry out one fill; ``False`` if there is nothing to fill."""
        fill = self._next()
        if fill is None:
            return False
        # What escapes here is a bug or the end of the process; those who wait must not hang.
        error: CacheFSError | None = ClusterError("the fill was abandoned")
        try:
            error = self._fill(fill)
        finally:
            with self._lock:
                self._demand.leave(fill)
            self._end(fill, error)
        return True

    def _next(self) -> Fill | None:
        """Return the next fill, if there is one."""
        while True:
            condition = self._runtime.condition()
            now = self._runtime.monotonic()
            with self._lock:
                if not self._closed:
                    while (fill := self._demand.next()) is not None:
                        if fill.users:
                            self._demand.take(fill)
                            return fill
                        # Everyone who waited has given up before it began.
                        del self._fills[fill.key]
                may_warm = not self._closed and self._demand.has_room
                candidate = self._next_warm(now) if may_warm else None
                due = self._warm.due(now)
            self._pacer.wake_at(due)
            if candidate is None:
                return None
            given, copies = candidate
            fill = Fill(
                given.file, given.index, condition, warm=True, copies=copies, terms=given.terms
            )
            if not self._store.holds(given.file.entry.file_version, given.index):
                with self._lock:
                    # A block whose fill has just failed is left to the next sending of the job.
                    if fill.key not in self._fills and not self._failed.lately(fill.key, now):
                        self._fills[fill.key] = fill
                        self._demand.take(fill)
                        return fill
            with self._lock:
                self._warm.give_back(given, now)
                if copies:
                    self._copying -= 1

    def _next_warm(self, now: float) -> tuple[Given, bool] | None:
        block = self._warm.take(now)
        if block is not None:
            return block, False
        if self._copying < self._config.inflight_fills_limit // 2:
            block = self._warm.take_copy(now)
            if block is not None:
                self._copying += 1
                return block, True
        return None

    def _fill(self, fill: Fill) -> CacheFSError | None:
        """Carry out a fill; return why it failed."""
        try:
            if not self._store.holds(fill.file.entry.file_version, fill.index):
                self._fill_now(fill)
        except CacheFSError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the boundary of a fill, as of a request
            _log.exception("a fill failed in an unexpected way")
            return ClusterError(f"the fill failed: {type(error).__name__}: {error}")
        return None

    def _fill_now(self, fill: Fill) -> None:
        deadline = self._runtime.monotonic() + self._config.fill_seconds
        fill.buffer = self._buffers.take()
        errand = Errand(
            fill.file,
            fill.index,
            deadline,
            fill.copies,
            fill.asked,
            fill.buffer,
            source=fill.terms.source,
            may_ask_origin=lambda: fill.may_ask_origin,
        )
        with ExitStack() as stack:
            try:
                reservation = stack.enter_context(self._store.reserve(fill.file, fill.index))
            except CapacityError:
                if not self._claims_memory(fill):
                    raise
                reservation = None
            brought = self._bringer.bring(errand)
            self.filled.add(fill.file.entry.file_version, brought.source, len(brought.data))
            if reservation is not None:
                try:
                    reservation.commit(brought.data, brought.digest)
                    if fill.terms.guests:
                        self._store.mark_guest(fill.key.file_version, fill.index)
                except CapacityError:
                    if not self._claims_memory(fill):
                        raise
            fill.brought = brought
        with self._lock:
            self._filled_blocks[brought.source] += 1

    def _claims_memory(self, fill: Fill) -> bool:
        """Let a block stay in memory for those who wait for it, if it may."""
        with self._lock:
            allowed = fill.demand and self._uncached < self._config.uncached_blocks_limit
            if allowed:
                fill.uncached = True
                self._uncached += 1
        return allowed

    def _end(self, fill: Fill, error: CacheFSError | None) -> None:
        now = self._runtime.monotonic()
        with self._lock:
            self._fills.pop(fill.key, None)
            if fill.copies:
                self._copying -= 1
            # That a block could not be moved is nobody's failure: it is where it was.
            if error is not None and fill.may_ask_origin:
                self._failed.add(FillFailure(fill.file, fill.index, error), now)
        with fill.changed:
            fill.error = error
            fill.ended = True
            fill.changed.notify_all()
        with self._lock:
            self._forget_bytes_if_unused(fill)
            warmed = fill.warm and not self._warm
        self.on_fill(warmed)

    def warm(
        self, job: str, wanted: Mapping[FileRef, Iterable[int]], terms: JobTerms = PLAIN
    ) -> None:
        """Fill blocks ahead of use; replaces what the same job wanted before.

        Returns at once. Nothing wanted ends the job.
        """
        try:
            view = self._metadata.view(deadline=self._runtime.monotonic() + VIEW_SECONDS)
        except CoordinatorUnavailableError:
            view = None
        # What only moves is taken from a worker that has it, and waits for nobody's fill.
        parted_by = None if terms.from_peers else view
        own, copied = part_copies(wanted, parted_by, self._own, self._block_size)
        now = self._runtime.monotonic()
        with self._lock:
            self._warm.put(job, own, copied, now=now, terms=terms)
        for _ in range(min(len(own) + len(copied), self._config.inflight_fills_limit)):
            self._threads.call()
        self.on_fill(False)

    def read_origin(self, file: FileRef, index: int, *, deadline: float) -> memoryview:
        """Return a block as the origin has it, without keeping it; raises as a fill does."""
        errand = Errand(file, index, deadline, copies=False)
        return self._bringer.from_origin(errand, None).data

    def note_failure(self, failure: FillFailure) -> None:
        """Have the coordinator hear of a failure with the next renewal."""
        with self._lock:
            self._failed.tell(failure)

    def take_failures(self) -> list[FillFailure]:
        """Return the failures since the last call."""
        with self._lock:
            return self._failed.take()

    def underway(self, limit: int) -> Underway:
        """Return what is on its way; of what is queued the first ``limit`` blocks, and of each job."""
        with self._lock:
            queued = tuple(islice(self._demand.waiting, limit))
            waiting = set(map(id, self._demand.waiting))
            begun = [fill for fill in self._fills.values() if id(fill) not in waiting]
            jobs = self._warm.left(limit)
        return Underway(
            tuple((fill.file, fill.index, (fill.asked or [""])[-1]) for fill in begun),
            tuple((fill.file, fill.index) for fill in queued),
            tuple(jobs),
        )

    def statistics(self) -> FillStatistics:
        """Return what was done so far."""
        filled_bytes = self.filled.total()
        origins = self._origins.statistics()
        with self._lock:
            return FillStatistics(
                hits=self._hits,
                misses=self._misses,
                filled_blocks=dict(self._filled_blocks),
                filled_bytes=filled_bytes,
                failed_fills=self._failed.count,
                queued_fills=len(self._demand),
                inflight_fills=self._threads.busy,
                warm_blocks_left=len(self._warm),
                uncached_blocks=self._uncached,
                origins=origins,
            )

    def close(self) -> None:
        """Fail what is queued, give what runs a moment to end, and close the origins."""
        with self._lock:
            self._closed = True
            self._warm.clear()
            abandoned = self._demand.clear()
        for fill in abandoned:
            self._end(fill, ClusterError("the worker is shutting down"))
        self._pacer.close()
        self._threads.close(CLOSE_SECONDS)
        self._origins.close()
