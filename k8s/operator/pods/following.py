"""Following: watches of pods with one of several labels, each with a selector of its own.

kopf watches a kind once, with one selector; pods are looked at for several labels, and watching all pods
of a large cluster for the few that have one would be a waste. So these watches are made here: list, watch from there
in short turns, list again where the version has aged.
"""

import logging

from cachefs.core.backoff import Backoff
from cachefs.errors import CacheFSError, NotKnownError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.names import Kind
from cachefs.k8s.operator.desk import Desk
from cachefs.ports import Closing, Runtime, Task

TURN_SECONDS = 4.0
"""A watch ends after so long, and another goes on from there: whoever closes waits for no longer."""
_BACKOFF = Backoff(attempts_limit=1 << 30, first_seconds=1.0, wait_seconds_max=30.0)
_LOG = logging.getLogger("cachefs.operator")


class Follower(Closing):
    """Puts objects with a label on the desk as they change. Its owner starts it once, and closes it."""

    def __init__(
        self, runtime: Runtime, cluster: Cluster, desk: Desk, *, keeper: str, kind: Kind, label: str
    ) -> None:
        """Follow nothing yet.

        Args:
            runtime: Time, and the thread.
            cluster: Where the objects are.
            desk: Where they are put.
            keeper: Who is to look at them.
            kind: Theirs.
            label: That they have, with the value ``true``.
        """
        self._runtime = runtime
        self._cluster = cluster
        self._desk = desk
        self._keeper = keeper
        self._kind = kind
        self._labels = {label: "true"}
        self._ending = runtime.condition()
        self._ended = False
        self._task: Task | None = None

    def start(self) -> None:
        """Begin."""
        self._task = self._runtime.start(f"following {self._keeper}", self._run)

    def close(self) -> None:
        """End; waits for the watch that is under way."""
        with self._ending:
            self._ended = True
            self._ending.notify_all()
        if self._task is not None:
            self._task.join(TURN_SECONDS + 5.0)

    def _run(self) -> None:
        failures, since = 0, ""
        while not self._ended:
            try:
                since = self._turn(since)
                failures = 0
            except NotKnownError:
                since = ""
            except CacheFSError as error:
                failures += 1
                _LOG.warning(
                    "a watch broke off", extra={"keeper": self._keeper, "failure": str(error)}
                )
                self._pause(failures)

    def _turn(self, since: str) -> str:
        """List if need be, watch for a turn; return from where the next one goes on."""
        if not since:
            listing = self._cluster.listing(self._kind, labels=self._labels)
            for document in listing.documents:
                self._put(document["metadata"])
            since = listing.version
        changes = self._cluster.watch(
            self._kind, labels=self._labels, since=since, seconds=TURN_SECONDS
        )
        for change in changes:
            if change.what != "BOOKMARK":
                self._put(change.document["metadata"])
            since = change.version
            if self._ended:
                break
        return since

    def _put(self, head: dict[str, str]) -> None:
        self._desk.put(self._keeper, head.get("namespace", ""), head["name"])

    def _pause(self, failures: int) -> None:
        wait = _BACKOFF.wait_after(failures, draw=self._runtime.random.random()) or 1.0
        with self._ending:
            if not self._ended:
                self._ending.wait(wait)
