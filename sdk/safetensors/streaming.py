"""Streaming: batches of tensors filled by a few threads, in the order in which they are asked for.

Theory of operation. The batches of all files make one list of pieces, each a range of a file and a
place in a batch's memory. Threads take the pieces in order: two of them fill huge pages from the
page cache as fast as memory takes it, and over the network each piece is many blocks, which the
reader fetches over all its connections. The consumer waits for the pieces of the tensor that is
next, and gets it while later ones are still on their way.

**Budget.** A batch's memory is counted from its allocation until the last tensor over it is gone, as
the interpreter's reference counts tell. Threads that would go beyond the budget wait for that. A
consumer that keeps its tensors while there is a budget would wait for ever; it gets an error.

The first failure ends everything: the consumer gets it at the next tensor, and threads take no more.
"""

import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from cachefs.core.names import printable
from cachefs.errors import CapacityError, InvariantError, check
from cachefs.ports import Closing, Runtime
from cachefs.sdk.frameworks import Framework, Tensor
from cachefs.sdk.memory import allocate
from cachefs.sdk.safetensors.plan import Batch, Placed, Read, pieces
from cachefs.sdk.safetensors.sources import Source
from cachefs.sdk.staging import Copier, Staging

PIECE_BYTES = 32 * 1024 * 1024
"""A multiple of any sensible block, and four of the default ones: as many as there are connections."""
THREADS = 2
_CLOSE_SECONDS = 5.0
_LOOK_SECONDS = 0.5
"""A wait is interrupted so often, to notice that memory was freed without a word."""
_KEPT_SECONDS = 5.0
"""A consumer that has kept the whole budget for so long will not give it back by itself."""


class Job(NamedTuple):
    """A batch of one file."""

    source: Source
    batch: Batch


class Memory(Protocol):
    """One batch's memory, on the CPU or a device."""

    def fill(self, source: Source, piece: Read) -> Any:  # Any: what settle() takes
        """Bring a piece of a file to its place; return what tells when it is there."""
        ...

    def settle(self, ticket: Any) -> None:  # Any: from fill()
        """Wait until a piece is there."""
        ...

    def tensor(self, placed: Placed) -> Tensor:
        """Return a tensor that is there."""
        ...


class Place(Protocol):
    """Where batches go."""

    piece_bytes: int

    def memory(self, size: int) -> tuple[Memory, object | None]:
        """Return memory, and the object whose end is the end of its use, if that can be told."""
        ...


class HostPlace:
    """Huge pages of the CPU's memory."""

    piece_bytes = PIECE_BYTES

    def __init__(self, framework: Framework) -> None:
        """Make tensors of a framework."""
        self._framework = framework

    def memory(self, size: int) -> tuple[Memory, object | None]:
        """Return fresh memory, which is first touched by who fills it."""
        view, owner = allocate(size)
        return _HostMemory(view, self._framework), owner


class _HostMemory:
    def __init__(self, view: memoryview, framework: Framework) -> None:
        self._view = view
        self._framework = framework

    def fill(self, source: Source, piece: Read) -> None:
        source.read_into(piece.offset, self._view[piece.position : piece.position + piece.length])

    def settle(self, ticket: None) -> None:
        del ticket  # it is there when fill() returns

    def tensor(self, placed: Placed) -> Tensor:
        return stored_tensor(
            self._framework, self._view[placed.position : placed.position + placed.size], placed
        )


def stored_tensor(framework: Framework, memory: memoryview, placed: Placed) -> Tensor:
    """Return a wanted tensor from the memory that holds it."""
    tensor = framework.view(memory, placed.entry.dtype, placed.shape)
    if placed.cut is not None:
        tensor = framework.cut(tensor, placed.cut)
    return framework.finish(tensor)


class DevicePlace:
    """A device's memory, by way of pinned buffers."""

    def __init__(self, framework: Framework, copier: Copier, staging: Staging) -> None:
        """Share a ring of pinned buffers, which stays the caller's to close."""
        self.piece_bytes = staging.size
        self._framework = framework
        self._copier = copier
        self._staging = staging

    def memory(self, size: int) -> tuple[Memory, object | None]:
        """Return memory of the device, which frees it itself."""
        return _DeviceMemory(self._framework, self._copier, self._staging, size), None


class _DeviceMemory:
    def __init__(self, framework: Framework, copier: Copier, staging: Staging, size: int) -> None:
        self._framework = framework
        self._copier = copier
        self._staging = staging
        self._memory = copier.allocate(size)

    def fill(self, source: Source, piece: Read) -> Any:  # Any: the copier's ticket
        return self._staging.bring(
            piece.length,
            self._memory,
            piece.position,
            lambda into: source.read_into(piece.offset, into),
        )

    def settle(self, ticket: Any) -> None:  # Any: the copier's
        self._staging.settle(ticket)

    def tensor(self, placed: Placed) -> Tensor:
        tensor = self._copier.view(self._memory, placed.position, placed.entry.dtype, placed.shape)
        return tensor if placed.cut is None else self._framework.cut(tensor, placed.cut)


class _Filling:
    """A batch that is being filled."""

    def __init__(self, job: Job, piece_bytes: int) -> None:
        self.source = job.source
        self.batch = job.batch
        self.pieces = list(pieces(job.batch, piece_bytes))
        self.positions = [piece.position for piece in self.pieces]
        self.tickets: list[tuple[Any] | None] = [None] * len(self.pieces)  # Any: the memory's
        self.memory: Memory | None = None
        self.taken = 0

    @property
    def has_more(self) -> bool:
        return self.taken < len(self.pieces)

    def covering(self, placed: Placed) -> range:
        """Return which pieces a tensor lies in."""
        if not placed.size:
            return range(0)
        first = bisect_right(self.positions, placed.position) - 1
        return range(first, bisect_right(self.positions, placed.position + placed.size - 1))


class Stream(Closing):
    """Tensors in order, filled ahead of their use. For one consuming thread."""

    def __init__(
        self,
        runtime: Runtime,
        jobs: Sequence[Job],
        place: Place,
        *,
        budget_bytes: int | None = None,
        threads: int = THREADS,
    ) -> None:
        """Start the threads.

        Args:
            runtime: For threads and conditions.
            jobs: In the order in which their tensors are wanted.
            place: Where the tensors go.
            budget_bytes: Of all batches' memory at once; ``None`` for no limit.
            threads: That fill.
        """
        self._runtime = runtime
        self._fillings = [_Filling(job, place.piece_bytes) for job in jobs]
        self._place = place
        self._budget = budget_bytes
        self._condition = runtime.condition()
        self._used_bytes = 0
        self._begun = 0
        """Batches that have memory."""
        self._freed: deque[int] = deque()
        """Sizes of batches whose last tensor has gone. It may go anywhere, with any lock held, so
        nothing is locked for it: appending is atomic."""
        self._failure: BaseException | None = None
        self._closed = False
        self._tasks = [
            runtime.start("cachefs-stream", self._work) for _ in range(min(threads, len(jobs) * 2))
        ]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield names and tensors."""
        for at, filling in enumerate(self._fillings):
            for placed in filling.batch.tensors:
                yield placed.entry.name, self._wait(at, placed)
            filling.memory = None

    def close(self) -> None:
        """Take no more pieces, and wait a while for those under way."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for task in self._tasks:
            task.join(_CLOSE_SECONDS)

    def _wait(self, at: int, placed: Placed) -> Tensor:
        filling = self._fillings[at]
        covering = filling.covering(placed)
        stuck_since: float | None = None
        with self._condition:
            while not self._is_ready(filling, covering):
                now = self._runtime.monotonic()
                stuck_since = (stuck_since or now) if self._is_stuck(at) else None
                if stuck_since is not None and now - stuck_since >= _KEPT_SECONDS:
                    raise self._kept_too_much(placed)
                self._condition.wait(_LOOK_SECONDS)
            memory = filling.memory
            tickets = [filling.tickets[piece] for piece in covering]
        if memory is None:
            raise InvariantError("a batch without memory")
        for ticket in tickets:
            if ticket is not None:
                memory.settle(ticket[0])
        return memory.tensor(placed)

    def _is_ready(self, filling: _Filling, covering: range) -> bool:
        """Say whether pieces are there; the condition is held."""
        self._count_freed()
        if filling.memory is not None and all(
            filling.tickets[piece] is not None for piece in covering
        ):
            return True
        if self._failure is not None:
            raise self._failure
        check(not self._closed, "a tensor of a closed stream")
        return False

    def _is_stuck(self, at: int) -> bool:
        """Say whether the batch that is wanted now has no room; the condition is held."""
        return self._begun <= at and not self._has_room(self._fillings[at].batch.size)

    def _kept_too_much(self, placed: Placed) -> CapacityError:
        return CapacityError(
            "the tensors that were kept take the whole budget",
            subject=printable(placed.entry.name),
            hint=f"copy or drop them before the next one, or raise budget_bytes={self._budget}",
        )

    def _work(self) -> None:
        """Fill pieces until there are none: the body of a thread."""
        while True:
            try:
                if not self._fill_next():
                    return
            except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
                with self._condition:
                    self._failure = self._failure or error
                    self._condition.notify_all()
                return

    def _fill_next(self) -> bool:
        """Fill a piece; ``False`` if there is no more. No reference to its memory outlives this."""
        taken = self._take()
        if taken is None:
            return False
        filling, memory, at = taken
        ticket = memory.fill(filling.source, filling.pieces[at])
        with self._condition:
            filling.tickets[at] = (ticket,)
            self._condition.notify_all()
        return True

    def _take(self) -> tuple[_Filling, Memory, int] | None:
        """Return the next piece and its memory; ``None`` if there is no more."""
        with self._condition:
            while not self._closed and self._failure is None:
                self._count_freed()
                current = self._fillings[self._begun - 1] if self._begun else None
                memory = current.memory if current is not None else None
                if current is not None and memory is not None and current.has_more:
                    current.taken += 1
                    return current, memory, current.taken - 1
                if self._begun == len(self._fillings):
                    return None
                if self._has_room(self._fillings[self._begun].batch.size):
                    self._begin(self._fillings[self._begun])
                else:
                    self._condition.wait(_LOOK_SECONDS)
            return None

    def _has_room(self, size: int) -> bool:
        return (
            self._budget is None or not self._used_bytes or self._used_bytes + size <= self._budget
        )

    def _begin(self, filling: _Filling) -> None:
        """Give a batch memory; the condition is held."""
        filling.memory, owner = self._place.memory(filling.batch.size)
        self._begun += 1
        self._condition.notify_all()  # there may be nothing to fill
        if owner is not None and self._budget is not None:
            self._used_bytes += filling.batch.size
            weakref.finalize(owner, self._freed.append, filling.batch.size).atexit = False

    def _count_freed(self) -> None:
        """Take freed memory off the account; the condition is held."""
        while self._freed:
            self._used_bytes -= self._freed.popleft()
            self._condition.notify_all()
