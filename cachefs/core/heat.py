"""Heat: a block that is sent to many at once is hot, and other workers take a part of its askers.

The owner of a block is the one whom everybody asks. While it sends the block to fewer than ``limit`` at
once, nothing happens. Who asks besides is referred to a *replica*: of those that have a copy, to the one
with the fewest askers. When that one has ``limit``, too, the next worker in placement order becomes a
replica, which takes its copy with the first who is referred to it. Workers in the asker's zone come
first. When nobody is left, whoever has the fewest gets the next, the owner included.

So there are as many copies as the crowd needs, and they share it evenly. Replicas stay such until the
owner has nothing to send any more: a crowd that swells and ebbs finds its copies again.

No speed of a link has to be known: where links are fast, a block is sent before many meet. And nobody
has to report anything. How many a replica is still busy with, the owner cannot see; it reckons that one
of those takes as long as one of its own did lately, and until the first of its own has ended, that none
has ended there either.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from cachefs.core.names import WorkerId

REMEMBERED_LIMIT = 256
"""Askers who were sent to one replica, as far as they are counted."""
_SMOOTHING = 0.25
"""What the last send counts in how long a send takes."""


class Crowd:
    """Those to whom one block is being sent. Its owner must guard it."""

    def __init__(self, limit: int) -> None:
        """Begin without anybody; at ``limit`` the block is hot."""
        self._limit = limit
        self._seconds: float | None = None
        self._referred: dict[WorkerId, deque[float]] = {}
        self._last: dict[WorkerId, float] = {}
        self.sending = 0
        """To how many we send it."""

    def begin(self) -> None:
        """Note that it is sent to one more."""
        self.sending += 1

    def end(self, seconds: float) -> None:
        """Note that it was sent, and how long that took."""
        self.sending -= 1
        before = seconds if self._seconds is None else self._seconds
        self._seconds = before + _SMOOTHING * (seconds - before)

    def refer(self, replicas: Sequence[WorkerId], *, near: int, now: float) -> WorkerId | None:
        """Return who shall send it to the next asker; ``None`` if it is us.

        Args:
            replicas: Who may have a copy, the best first.
            near: So many of them, the first, are in the asker's zone.
            now: On a monotonic clock.
        """
        if self.sending < self._limit or not replicas:
            return None
        loads = {worker: self._load(worker, now) for worker in replicas}
        chosen = self._choose(replicas[:near], loads) or self._choose(replicas, loads)
        if chosen is None:
            chosen = self._least(replicas, loads)
            if loads[chosen] >= self.sending:
                return None
        self._referred.setdefault(chosen, deque(maxlen=REMEMBERED_LIMIT)).append(now)
        self._last[chosen] = now
        return chosen

    def _choose(
        self, candidates: Sequence[WorkerId], loads: Mapping[WorkerId, int]
    ) -> WorkerId | None:
        """Return a replica that has fewer than the limit, or a new one; ``None`` for neither."""
        replicas = [worker for worker in candidates if worker in self._referred]
        if replicas and loads[least := self._least(replicas, loads)] < self._limit:
            return least
        return next((worker for worker in candidates if worker not in self._referred), None)

    def _least(self, replicas: Sequence[WorkerId], loads: Mapping[WorkerId, int]) -> WorkerId:
        """Return who has the fewest, of equals the one who was given none for the longest time."""
        return min(replicas, key=lambda worker: (loads[worker], self._last.get(worker, 0.0)))

    def _load(self, worker: WorkerId, now: float) -> int:
        """Return how many a replica is busy with, as far as we can tell."""
        since = self._referred.get(worker)
        if since is None:
            return 0
        while self._seconds is not None and since and since[0] <= now - self._seconds:
            since.popleft()
        return len(since)
