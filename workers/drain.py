"""Draining: a worker hands over what it holds, and then leaves, at no cost to the origin.

When a drain begins, the coordinator has marked the worker as draining: it owns nothing any more, and
goes on serving. Every block that one of its new owners lacks is handed over (:mod:`.handover`), again
and again, until they lack nothing. A drain that makes no progress for ``STALL_SECONDS`` fails and says
why; it can be begun again.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError, ConflictError, DeadlineError
from cachefs.ports import FileRef, Runtime
from cachefs.workers.handover import STALL_SECONDS, Handover, Share
from cachefs.workers.knowledge import Knowledge

POLL_SECONDS = 1.0
"""How often the new owners are asked what they hold, unless asking takes long."""
ASK_SECONDS = 5.0
"""How often they are asked to warm what they lack: a message may have been lost."""
TOLD_SECONDS = 30.0
"""A worker that is drained leaves once somebody was told so, or after so long."""

_log = logging.getLogger("cachefs.worker")


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """What is left to hand over."""

    blocks: int
    size: int
    seconds: float
    """Estimated."""
    done: bool


class Drain:
    """Plans and carries out a worker's own drain. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        handover: Handover,
        knowledge: Knowledge,
        *,
        own: WorkerId,
        settle_seconds: float,
        leave: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            runtime: For its clock and a thread.
            handover: Plans and asks.
            knowledge: The members.
            own: This worker.
            settle_seconds: How long the others may take to hear that this worker is draining; before
                that they would not ask it for blocks that it does not own.
            leave: Called once everything is handed over.
        """
        self._runtime = runtime
        self._handover = handover
        self._knowledge = knowledge
        self._own = own
        self._settle_seconds = settle_seconds
        self._leave = leave
        self._changed = runtime.condition()
        self._left: DrainProgress | None = None
        self._failure: CacheFSError | None = None
        self._running = False
        self._told = False
        self._closed = False

    @property
    def begun(self) -> bool:
        """Whether a drain runs or has ended."""
        return self._running or (self._left is not None and self._left.done)

    def plan(self) -> DrainProgress:
        """Return what a drain would hand over if it began now.

        Raises:
            ConflictError: There is nobody to hand over to.
            ClusterError: Somebody who must be asked does not answer.
        """
        return self._progress(self._shares())

    def begin(self) -> DrainProgress:
        """Begin to drain unless that runs already; return what is left.

        Raises:
            CacheFSError: The last drain failed; the next call begins anew.
        """
        with self._changed:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            if self.begun:
                if self._left is not None:
                    self._told = self._told or self._left.done
                    self._changed.notify_all()
                    return self._left
            else:
                self._running = True
                self._left = None
                self._runtime.start("drain", self._run)
        return self.plan() if self._left is None else self._left

    def close(self) -> None:
        """Stop a drain that runs."""
        self._handover.close()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        failure: CacheFSError | None = None
        try:
            self._hand_over()
        except CacheFSError as error:
            failure = error
            _log.warning("the drain failed", extra={"failure": str(error)})
        finally:
            with self._changed:
                self._running = False
                self._failure = failure

    def _hand_over(self) -> None:
        with self._changed:
            self._changed.wait(self._settle_seconds)
        shares = self._shares()
        least, moved_at = None, self._runtime.monotonic()
        asked_at = moved_at - ASK_SECONDS
        pause = 0.0
        while True:
            progress = self._progress(shares)
            with self._changed:
                self._left = progress
                if self._closed:
                    return
            if not progress.blocks:
                break
            now = self._runtime.monotonic()
            if least is None or progress.blocks < least:
                least, moved_at = progress.blocks, now
            elif now - moved_at > STALL_SECONDS:
                waiting = ", ".join(share.member.worker for share in shares if share.files)
                raise DeadlineError("the drain makes no progress", hint=f"waiting for {waiting}")
            if now - asked_at >= ASK_SECONDS:
                asked_at = now
                for share in shares:
                    self._handover.ask(share, "drain")
            with self._changed:
                self._changed.wait(max(POLL_SECONDS, pause))
            # The members may have changed, and blocks may have been evicted here meanwhile.
            began = self._runtime.monotonic()
            shares = self._shares()
            pause = self._runtime.monotonic() - began
        _log.info("drained")
        self._leave_once_told()

    def _leave_once_told(self) -> None:
        """Leave; but who asks through the coordinator finds us only while we are a member."""
        deadline = self._runtime.monotonic() + TOLD_SECONDS
        with self._changed:
            self._left = DrainProgress(0, 0, 0.0, done=True)
            while not (self._told or self._closed) and self._runtime.monotonic() < deadline:
                self._changed.wait(TOLD_SECONDS)
            if self._closed:
                return
        self._runtime.sleep(POLL_SECONDS)
        self._leave()

    def _shares(self) -> list[Share]:
        """Return what each new owner lacks of what is here."""

        def refuse(file: FileRef) -> None:
            raise ConflictError(
                "nobody else is there to take the blocks",
                subject=f"pool {file.pool}",
                hint="add a worker first, or stop this one without draining it",
            )

        members = self._knowledge.view(deadline=0.0).members
        others = [member for member in members if member.worker != self._own]
        return self._handover.shares(others, on_nobody=refuse)

    def _progress(self, shares: list[Share]) -> DrainProgress:
        return DrainProgress(*self._handover.left(shares), done=False)
