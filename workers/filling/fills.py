"""What a fill is: its state while it runs, what it ends with, and what it is counted as.

:mod:`cachefs.workers.filling.filler` has the theory of operation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cachefs.core.blocks import BlockId
from cachefs.errors import CacheFSError, DeadlineError, check
from cachefs.ports import Closing, Condition, FileRef, HeldBlock, Runtime
from cachefs.wire.http import PROGRESS_SECONDS
from cachefs.workers.filling.bringing import Brought, NotHeldError
from cachefs.workers.filling.origins import OriginCounts
from cachefs.workers.filling.warming import PLAIN, JobTerms, WantedBlock, WarmLeft


@dataclass(frozen=True, slots=True)
class FillFailure:
    """A block that could not be filled."""

    file: FileRef
    index: int
    error: CacheFSError


@dataclass(frozen=True, slots=True, kw_only=True)
class FillStatistics:
    """What a filler has done, and what it is doing."""

    hits: int
    misses: int
    filled_blocks: Mapping[str, int]
    """By source: ``peer`` and ``origin``."""
    filled_bytes: Mapping[str, int]
    failed_fills: int
    queued_fills: int
    """Reads' blocks that wait for a thread."""
    inflight_fills: int
    warm_blocks_left: int
    """Blocks that warm-ups have yet to look at."""
    uncached_blocks: int
    """Blocks in memory because no tier has room."""
    origins: OriginCounts


@dataclass(frozen=True, slots=True)
class Underway:
    """What is on its way to a worker, and what shall be."""

    begun: tuple[tuple[FileRef, int, str], ...]
    """Blocks that are being filled, with who was asked last: ``origin``, ``worker NAME``, or nobody yet."""
    queued: tuple[WantedBlock, ...]
    """Reads' blocks that wait for a thread, the next in front."""
    jobs: tuple[WarmLeft, ...]


class Fill:
    """One block being filled; ``users`` is guarded by the filler's lock, the rest by ``changed``."""

    def __init__(
        self,
        file: FileRef,
        index: int,
        changed: Condition,
        *,
        warm: bool,
        copies: bool = False,
        terms: JobTerms = PLAIN,
    ) -> None:
        """Begin with nobody who uses it."""
        self.file = file
        self.index = index
        self.changed = changed
        self.warm = warm
        self.copies = copies
        self.terms = terms
        self.demand = not warm
        self.users = 0
        self.uncached = False
        self.ended = False
        self.error: CacheFSError | None = None
        self.brought: Brought | None = None
        self.buffer: memoryview | None = None
        """What the bytes were received in, to be used again when nobody needs them any more."""
        self.asked: list[str] = []

    @property
    def key(self) -> BlockId:
        """The block's name."""
        return BlockId(self.file.entry.file_version, self.index)

    @property
    def may_ask_origin(self) -> bool:
        """Whether the origin is asked if no worker has the block; so once a read waits for it."""
        return self.demand or not self.terms.from_peers

    @property
    def found_nothing(self) -> bool:
        """Whether it only was to move the block, and nobody had it: that is no failure."""
        return isinstance(self.error, NotHeldError)

    def wait(self, runtime: Runtime, deadline: float, on_wait: Callable[[], None] | None) -> None:
        """Wait until it has ended, well or not.

        Args:
            runtime: Gives the time.
            deadline: On its monotonic clock.
            on_wait: Called every ``PROGRESS_SECONDS`` meanwhile; what it raises ends the wait.

        Raises:
            DeadlineError: It had not ended by then; it goes on.
        """
        progress_at = runtime.monotonic() + PROGRESS_SECONDS
        while True:
            with self.changed:
                while not self.ended:
                    now = runtime.monotonic()
                    until = deadline if on_wait is None else min(deadline, progress_at)
                    if now >= until:
                        break
                    self.changed.wait(until - now)
                if self.ended:
                    return
            if now >= deadline:
                asked = ", ".join(self.asked) or "nobody yet: other fills were ahead"
                raise DeadlineError(
                    "the block was not filled in time",
                    subject=f"{self.file.dataset}/{self.file.entry.path} block {self.index}",
                    hint=f"asked: {asked}",
                )
            if on_wait is not None:
                on_wait()
                progress_at = runtime.monotonic() + PROGRESS_SECONDS


class ObtainedBlock(Closing):
    """A block to read from: held in a tier, or in memory; until the context is left."""

    def __init__(
        self,
        *,
        digest: bytes,
        source: str,
        held: HeldBlock | None = None,
        data: memoryview | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:
        """Take over a held block, or bytes with what gives them back."""
        self.digest = digest
        self.source = source
        """``memory`` or ``disk`` if it was here, else ``peer`` or ``origin``."""
        self.held = held
        """Set if it is in a tier."""
        self._data = data
        self._release = release

    def view(self) -> memoryview:
        """Return the bytes of a block that is in memory only."""
        check(self._data is not None, "the bytes of a held block are in its file")
        assert self._data is not None  # noqa: S101 - tells mypy what the line above checked
        return self._data

    def close(self) -> None:
        """Let the block go; idempotent."""
        held, self.held = self.held, None
        release, self._release = self._release, None
        self._data = None
        if held is not None:
            held.__exit__(None, None, None)
        if release is not None:
            release()
