"""Moving: after others have joined, give them the blocks that are theirs now.

Theory of operation. When a worker joins a cluster of N, it becomes an owner of about one block in N+1,
and holds none. Reads do not wait for that: it fills what it is asked for from those who have it. What
nobody asks for, the holders hand over in the background (:mod:`.handover`): each worker looks at what it
holds, finds what a newcomer owns and lacks, and asks the newcomer to take it, at ``bytes_rate`` and
behind all reads. So no table says what has moved, whoever is killed begins again where the blocks are,
and the coordinator may be down.

Our own copies stay. Nobody is sent here any more to read them, so they grow old, and are evicted when
room is needed for something else, as any block.

A newcomer is a process that was not there when this one last looked: a worker that begins anew with its
tiers is asked what it lacks, which is mostly nothing. For ``delay_seconds`` after a change nothing is
moved: workers that join together get their shares at once, and each block moves once.
"""

import logging

from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError
from cachefs.ports import Runtime, Task
from cachefs.workers.handover import STALL_SECONDS, Handover
from cachefs.workers.knowledge import Knowledge

POLL_SECONDS = 1.0
"""How often the view is looked at, and newcomers are asked what they hold, unless that takes long."""
ASK_SECONDS = 5.0
"""How often they are asked to take what they lack: a message may have been lost."""
CLOSE_SECONDS = 2.0

_log = logging.getLogger("cachefs.worker")

_Process = tuple[WorkerId, str]
"""A worker with its incarnation."""


class Mover:
    """Gives newcomers what is theirs. Its thread is its own."""

    def __init__(
        self,
        runtime: Runtime,
        handover: Handover,
        knowledge: Knowledge,
        *,
        own: WorkerId,
        bytes_rate: float,
        delay_seconds: float,
    ) -> None:
        """Prepare; :meth:`start` begins.

        Args:
            runtime: For its clock and a thread.
            handover: Plans and asks.
            knowledge: Who is there.
            own: This worker.
            bytes_rate: What each newcomer takes from us at most, a second; 0 for no limit.
            delay_seconds: How long the members must not have changed.
        """
        self._runtime = runtime
        self._handover = handover
        self._knowledge = knowledge
        self._own = own
        self._bytes_rate = bytes_rate
        self._delay_seconds = delay_seconds
        self._changed = runtime.condition()
        self._closed = False
        self._task: Task | None = None
        self._served: set[_Process] = set()
        """Who has all that is theirs, of what was here when they joined."""
        self._epoch = -1
        self._changed_at = 0.0
        self._fewest: int | None = None
        self._moved_at = 0.0
        self._asked_at = 0.0
        self.left_blocks = 0
        """What newcomers had yet to take when we last looked."""

    def start(self) -> None:
        """Begin to watch the members, in a thread."""
        self._task = self._runtime.start("move", self._run)

    def close(self) -> None:
        """End the thread; what newcomers were asked for they may take from others."""
        self._handover.close()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._task is not None:
            self._task.join(CLOSE_SECONDS)

    def _run(self) -> None:
        pause = POLL_SECONDS
        while True:
            with self._changed:
                if not self._closed:
                    self._changed.wait(pause)
                if self._closed:
                    return
            began = self._runtime.monotonic()
            try:
                self._look()
            except CacheFSError as error:
                _log.info("nothing can be moved now", extra={"failure": str(error)})
                self._give_up_if_stalled()
            # Whatever a look costs, most of the time is for those who read.
            pause = max(POLL_SECONDS, 4 * (self._runtime.monotonic() - began))

    def _look(self) -> None:
        now = self._runtime.monotonic()
        view = self._knowledge.view(deadline=0.0)
        own = view.find(self._own)
        if view.epoch != self._epoch:
            self._epoch, self._changed_at = view.epoch, now
            self._fewest, self._asked_at = None, -ASK_SECONDS
            self._served &= {_process(member) for member in view.members}
        newcomers = self._newcomers(view)
        if own is None or own.draining or not newcomers:
            self.left_blocks = 0
            return
        if now - self._changed_at < self._delay_seconds:
            return
        shares = self._handover.shares(
            view.members, receives=lambda member: _process(member) in newcomers
        )
        left = self._handover.left(shares)
        self.left_blocks = left.blocks
        if not shares:
            self._served |= newcomers
            return
        if self._fewest is None:
            _log.info("moving blocks", extra={"blocks": left.blocks, "bytes": left.size})
        if self._fewest is None or left.blocks < self._fewest:
            self._fewest, self._moved_at = left.blocks, now
        if now - self._asked_at >= ASK_SECONDS:
            self._asked_at = now
            for share in shares:
                self._handover.ask(share, "move", rate=self._bytes_rate)
        self._give_up_if_stalled()

    def _newcomers(self, view: View) -> set[_Process]:
        found = {
            _process(member)
            for member in view.members
            if member.worker != self._own and member.weight > 0 and not member.draining
        }
        return found - self._served

    def _give_up_if_stalled(self) -> None:
        """Leave a newcomer alone that cannot take what is its: it is full, or does not answer."""
        if self._fewest is None or self._runtime.monotonic() - self._moved_at < STALL_SECONDS:
            return
        view = self._knowledge.view(deadline=0.0)
        self._served |= self._newcomers(view)
        _log.warning("newcomers do not take their blocks", extra={"blocks": self.left_blocks})


def _process(member: Member) -> _Process:
    return member.worker, member.incarnation
