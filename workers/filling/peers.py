"""Peers: which other workers may have a block already, so that the origin need not be asked.

A block that is not here but was filled before is, most likely, with

- the next workers in placement order: they owned it before this worker joined;
- the owners in the one or two views before, which filled it when they owned it;
- a member that is draining: it hands over whatever it has, also what it does not own.

When nobody has ever filled a block, asking around costs a round trip a peer and finds nothing. The
coordinator knows the digest of every block that was filled, but learns it with a worker's next
renewal only. So peers are left out only where it is certain enough: this worker is the block's
first owner, the coordinator knows no digest, and the members have not changed for longer than
renewals take. While anyone drains, nothing is certain enough.

A peer that did not answer is left alone for a while, or every block would wait for it anew; but not
any more once it has registered anew, or what it holds would be paid for again. One that
served bytes which do not match their digest is a *suspect*: it is not asked again, and the
coordinator hears of it with the next renewal.
"""

import threading
from typing import NamedTuple

from cachefs.core import placement
from cachefs.core.blocks import BlockId
from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId
from cachefs.ports import FileRef, Runtime

VIEWS_KEPT = 3
"""The current view and the two before it: members rarely change twice within one fill."""
SILENCE_SECONDS = 5.0
"""A peer that did not answer is not asked for so long."""
SUSPICION_SECONDS = 60.0
"""A peer that served wrong bytes is not asked for so long; by then it is gone or repaired."""
RENEWALS_WAITED = 2
"""After so many leases without a change, the coordinator knows what was filled before it."""


class Candidates(NamedTuple):
    """Whom to ask for a block."""

    first_owner: Member | None
    """Set if another worker owns the block before us: a copy for us is made from its block."""
    members: tuple[Member, ...]
    """Who may hold it, most likely first."""
    settled: bool
    """Whether a block that the coordinator has no digest of is certain to be nowhere."""


class Peers:
    """Knows the last views, and who is not to be asked. Safe from any thread."""

    def __init__(
        self, runtime: Runtime, own: WorkerId, *, lease_seconds: float, asked_limit: int
    ) -> None:
        """Start without a view."""
        self._runtime = runtime
        self._own = own
        self._settle_seconds = RENEWALS_WAITED * lease_seconds
        self._asked_limit = asked_limit
        self._lock = threading.Lock()
        self._views: list[View] = []
        self._changed_at = runtime.monotonic()
        self._silent_until: dict[WorkerId, float] = {}
        self._suspected_until: dict[WorkerId, float] = {}
        self._suspects: set[WorkerId] = set()

    def candidates(self, file: FileRef, index: int, view: View) -> Candidates:
        """Return whom to ask for a block under a view, which may be a new one."""
        block = BlockId(file.entry.file_version, index)
        now = self._runtime.monotonic()
        self.observe(view)
        with self._lock:
            earlier = self._views[1:]
            settled = now - self._changed_at > self._settle_seconds
            avoided = {
                worker
                for reasons in (self._silent_until, self._suspected_until)
                for worker, until in reasons.items()
                if until > now
            }
        order = placement.order(block, view.members, pool=file.pool)
        # An owner that the newest view does not list is gone; one that it lists is asked at its
        # present address. The owners of before come first: after a drain or a join, they filled it.
        before = [
            member
            for old in earlier
            for owner in placement.owners(
                block, old.members, pool=file.pool, replicas=file.replicas
            )
            if (member := view.find(owner.worker)) is not None
        ]
        draining = [each for each in view.members if each.draining and each.pool == file.pool]
        likely = [
            member
            for member in dict.fromkeys([*draining, *before, *order])
            if member.worker != self._own and member.worker not in avoided
        ]
        first = order[0] if order else None
        if first not in likely:
            first = None
        return Candidates(
            first, tuple(likely[: self._asked_limit]), settled=settled and not draining
        )

    def observe(self, view: View) -> None:
        """Take note of a view; every new one must be seen, not only those that a fill meets."""
        with self._lock:
            if not self._views or view.epoch > self._views[0].epoch:
                for member in view.members if self._views else ():
                    before = self._views[0].find(member.worker)
                    if before is None or before.incarnation != member.incarnation:
                        self._silent_until.pop(member.worker, None)
                self._views = [view, *self._views][:VIEWS_KEPT]
                self._changed_at = self._runtime.monotonic()

    def avoid_silent(self, worker: WorkerId) -> None:
        """Leave a peer alone that did not answer."""
        with self._lock:
            self._silent_until[worker] = self._runtime.monotonic() + SILENCE_SECONDS

    def avoids(self, worker: WorkerId) -> bool:
        """Say whether a peer is left alone for now."""
        now = self._runtime.monotonic()
        with self._lock:
            silent, suspected = self._silent_until, self._suspected_until
            return max(silent.get(worker, 0.0), suspected.get(worker, 0.0)) > now

    def suspect(self, worker: WorkerId) -> None:
        """Leave a peer alone that served wrong bytes, and report it."""
        with self._lock:
            self._suspected_until[worker] = self._runtime.monotonic() + SUSPICION_SECONDS
            self._suspects.add(worker)

    def suspects(self) -> frozenset[WorkerId]:
        """Return whom the coordinator has not heard of yet."""
        with self._lock:
            return frozenset(self._suspects)

    def forget_suspects(self, reported: frozenset[WorkerId]) -> None:
        """The coordinator has heard of these."""
        with self._lock:
            self._suspects -= reported
