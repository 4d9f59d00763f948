"""Scrubbing: verify everything that is resident, slowly, again and again.

Bytes rot below the file system, where no stamp shows it. The scrubber reads every resident block once
within a period, a bad one is discarded and counted by the store, and whoever owns the scrubber is
told, so that it is filled again before a reader meets its absence.

The pace is even: a round over all blocks is spread over the period, and never reads faster than the
rate, even if the round then takes longer than the period. Work on readers' behalf goes first by
being rare: one block at a time, with a pause after each.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cachefs.core.blocks import BlockId
from cachefs.ports import Runtime, Task
from cachefs.workers.storage.store import TieredStore

PAUSE_SECONDS_MAX = 60.0
"""Sleep between two looks at what is resident, when there is little of it."""
JOIN_SECONDS = 10.0
"""How long :meth:`Scrubber.close` waits for the block that is being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubStatistics:
    """What was scrubbed so far."""

    rounds: int
    blocks: int
    bytes: int
    bad_blocks: int


class Scrubber:
    """Verifies the blocks of a store in a thread of its own, which :meth:`close` ends."""

    def __init__(
        self,
        runtime: Runtime,
        store: TieredStore,
        *,
        period_seconds: float,
        bytes_rate: float,
        refill: Callable[[BlockId], None],
    ) -> None:
        """Start, unless the period is 0.

        Args:
            runtime: Time and the thread.
            store: Whose blocks.
            period_seconds: In which every block is verified once; 0 switches scrubbing off.
            bytes_rate: Most bytes read in a second.
            refill: Is told of each bad block, from the scrubber's thread; must not wait for long.
        """
        self._runtime = runtime
        self._store = store
        self._period = period_seconds
        self._bytes_rate = bytes_rate
        self._refill = refill
        self._condition = runtime.condition()
        self._closed = False
        self._rounds = self._blocks = self._bytes = self._bad = 0
        self._task: Task | None = None
        if period_seconds > 0:
            self._task = runtime.start("scrub", self._run)

    def close(self) -> None:
        """End the thread; idempotent."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._task is not None:
            self._task.join(JOIN_SECONDS)

    def statistics(self) -> ScrubStatistics:
        """Return what was scrubbed so far."""
        with self._condition:
            return ScrubStatistics(
                rounds=self._rounds,
                blocks=self._blocks,
                bytes=self._bytes,
                bad_blocks=self._bad,
            )

    def _run(self) -> None:
        while not self._is_closed_after(0.0):
            began = self._runtime.monotonic()
            blocks = self._store.resident_blocks()
            pause = min(self._period / (len(blocks) + 1), PAUSE_SECONDS_MAX)
            for block in blocks:
                started = self._runtime.monotonic()
                length = self._scrub(block)
                spent = self._runtime.monotonic() - started
                if self._is_closed_after(max(pause, length / self._bytes_rate) - spent):
                    return
            with self._condition:
                self._rounds += 1
            # Blocks that came since wait for the next round, which begins when the period is over.
            while (left := began + self._period - self._runtime.monotonic()) > 0:
                if self._is_closed_after(min(left, PAUSE_SECONDS_MAX)):
                    return

    def _scrub(self, block: BlockId) -> int:
        length = self._store.block_length(block)
        is_bad = length > 0 and self._store.quarantine(block.file_version, block.index)
        with self._condition:
            self._blocks += length > 0
            self._bytes += length
            self._bad += is_bad
        if is_bad:
            self._refill(block)
        return length

    def _is_closed_after(self, seconds: float) -> bool:
        deadline = self._runtime.monotonic() + seconds
        with self._condition:
            while not self._closed:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    return False
                self._condition.wait(left)
            return True
