"""Leading: of several operators one acts, the one that holds a lease.

The lease is an object that all can see: who holds it, for how many seconds, and when that was renewed. The rules
are those of Kubernetes' own components:

- A holder renews every few seconds. Each write names the version that was read, so of two one is refused.
- Nobody trusts another's clock. A lease has run out when, by one's *own* clock, so many seconds have gone by since
  one saw it change.
- A holder that could not renew for ``RENEW_SECONDS``, which is less than the lease, stops: by the time that
  another takes the lease, it acts no more. It ends the process, for there is no other way to be sure.
- Who ends in order gives the lease back, so that another need not wait.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cachefs.errors import CacheFSError, ConflictError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.kinds import LEASES
from cachefs.k8s.operator.actions import Document
from cachefs.ports import Closing, Runtime, Task

LEASE = "cachefs-operator"
"""The lease's name."""
LEASE_SECONDS = 15.0
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0
"""These three are Kubernetes' own components' defaults."""
_log = logging.getLogger("cachefs.operator")


@dataclass(frozen=True, slots=True)
class Times:
    """How long a lease lasts, and how often it is renewed."""

    lease_seconds: float = LEASE_SECONDS
    renew_seconds: float = RENEW_SECONDS
    """After so long without having renewed, a holder stops."""
    retry_seconds: float = RETRY_SECONDS


class Leading(Closing):
    """One contender for a lease. It owns its thread."""

    def __init__(
        self,
        runtime: Runtime,
        cluster: Cluster,
        *,
        namespace: str,
        identity: str,
        lost: Callable[[], None],
        times: Times | None = None,
    ) -> None:
        """Prepare; :meth:`acquire` begins.

        Args:
            runtime: For its clock and a thread.
            cluster: Where the lease is.
            namespace: Of the lease.
            identity: Ours; nobody else's.
            lost: Called once, from our thread, when the lease was held and is not any more. It must end
                the process.
            times: How long what takes.
        """
        self._runtime = runtime
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._lost = lost
        self._times = times or Times()
        self._changed = runtime.condition()
        self._closed = False
        self._tasks: tuple[Task, ...] = ()
        self._renewed_at = 0.0
        self._seen: tuple[str, float] = ("", 0.0)
        """The lease's version, and when we saw it first."""
        self.leads = False

    def acquire(self, stopped: Callable[[], bool]) -> bool:
        """Wait until the lease is ours, and renew it from then on; ``False`` if stopped meanwhile."""
        while not stopped():
            began = self._runtime.monotonic()
            if self._attempt():
                _log.info("this operator leads", extra={"identity": self._identity})
                self.leads = True
                self._renewed_at = began
                self._tasks = (
                    self._runtime.start("lease", self._renew_on),
                    self._runtime.start("lease-watch", self._watch_over),
                )
                return True
            self._pause()
        return False

    def close(self) -> None:
        """Give the lease back, if it is ours."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        for task in self._tasks:
            task.join(self._times.renew_seconds)
        if self.leads:
            self.leads = False
            self._release()

    def _pause(self) -> None:
        with self._changed:
            if not self._closed:
                # With jitter: contenders that began together come back spread out.
                jitter = 1.0 + 0.2 * self._runtime.random.random()
                self._changed.wait(self._times.retry_seconds * jitter)

    def _renew_on(self) -> None:
        while True:
            self._pause()
            # Taken before the call: that the answer was late must not lengthen the lease.
            began = self._runtime.monotonic()
            if self._closed or not self.leads:
                return
            if self._attempt():
                with self._changed:
                    self._renewed_at = began

    def _watch_over(self) -> None:
        """Stop in time, also when a call that renews has not returned."""
        while True:
            with self._changed:
                if self._closed:
                    return
                left = self._renewed_at + self._times.renew_seconds - self._runtime.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        _log.error("the lease is lost; this operator ends", extra={"identity": self._identity})
        self.leads = False
        self._lost()

    def _attempt(self) -> bool:
        """Take or renew the lease if it is free or ours; ``False`` if it is another's, or cannot be seen."""
        try:
            lease = self._cluster.get(LEASES, LEASE, self._namespace)
            if lease is None:
                self._cluster.create(self._fresh())
                return True
            if not self._may_take(lease):
                return False
            self._cluster.replace(self._taken(lease))
        except ConflictError:
            return False
        except CacheFSError as error:
            _log.warning("the lease cannot be seen", extra={"failure": str(error)})
            return False
        return True

    def _may_take(self, lease: Document) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        version = str(lease["metadata"]["resourceVersion"])
        now = self._runtime.monotonic()
        if version != self._seen[0]:
            self._seen = (version, now)
        lasts = float(spec.get("leaseDurationSeconds") or self._times.lease_seconds)
        return now - self._seen[1] >= lasts

    def _fresh(self) -> Document:
        now = self._now()
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": LEASE, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._times.lease_seconds)),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    def _taken(self, lease: Document) -> Document:
        before = lease.get("spec") or {}
        spec = {**before, **self._fresh()["spec"]}
        if before.get("holderIdentity") == self._identity:
            spec["acquireTime"] = before.get("acquireTime", spec["acquireTime"])
            spec["leaseTransitions"] = before.get("leaseTransitions", 0)
        else:
            spec["leaseTransitions"] = int(before.get("leaseTransitions") or 0) + 1
        return {**lease, "spec": spec}

    def _release(self) -> None:
        try:
            lease = self._cluster.get(LEASES, LEASE, self._namespace)
            if lease is None or lease["spec"].get("holderIdentity") != self._identity:
                return
            del lease["spec"]["holderIdentity"]
            lease["spec"] |= {"leaseDurationSeconds": 1, "renewTime": self._now()}
            self._cluster.replace(lease)
        except CacheFSError as error:
            _log.warning("the lease was not given back", extra={"failure": str(error)})

    def _now(self) -> str:
        """Return the time with microseconds, as leases have it."""
        return datetime.fromtimestamp(self._runtime.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
