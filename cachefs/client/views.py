"""The reader's picture of the cluster: its view, and who disappointed it lately.

A read takes the view as it is and never waits for a newer one, except the very first. A view older
than ``view_seconds`` is refreshed behind the read's back, and at once after a worker failed. While
nobody answers (the coordinator is down and so are the workers it knew), the last view stays in use.
"""

from contextlib import suppress

from cachefs.core.membership import EMPTY_VIEW, Member, View
from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError, CoordinatorUnavailableError
from cachefs.ports import FileRef, Metadata, Runtime, Task

_REFRESH_SECONDS = 5.0
"""A refresh that takes longer is given up."""
_REFRESH_SECONDS_MIN = 0.2
"""Failures do not ask for views more often than this."""
_IDLE_VIEWS = 5
"""A view this many times older than ``view_seconds`` (the reader was idle) is renewed before use."""
_IDLE_WAIT_SECONDS = 1.0
"""How long a read waits for that; then the old view must do."""
_CLOSE_SECONDS = 5.0
_LOST_HEDGES_LIMIT = 3
"""A worker that was overtaken so often in a row is as good as stalled."""


class ViewKeeper:
    """Holds the newest view known; safe from any thread."""

    def __init__(self, runtime: Runtime, metadata: Metadata, *, view_seconds: float) -> None:
        """Ask nobody yet."""
        self._runtime = runtime
        self._metadata = metadata
        self._view_seconds = view_seconds
        self._condition = runtime.condition()
        self._view = EMPTY_VIEW
        self._known = False
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._wanted = 0
        """Refreshes asked for; equal to ``_done`` when none is due."""
        self._done = 0
        self._unserved: FileRef | None = None
        self._failure: CacheFSError | None = None
        self._task: Task | None = None
        self._closed = False

    def current(self, *, deadline: float) -> View:
        """Return the view to read by; waits only if there is none, or none of this hour.

        Raises:
            CoordinatorUnavailableError: There never was one, and nobody answers.
            DeniedError: The token is wrong.
        """
        now = self._runtime.monotonic()
        age = now - self._fetched_at
        if age <= self._view_seconds:
            return self._view
        with self._condition:
            if self._known and age <= _IDLE_VIEWS * self._view_seconds:
                if now - self._tried_at > self._view_seconds:
                    self._request()
                return self._view
            if self._known and now - self._tried_at <= self._view_seconds:
                return self._view
            if self._known:
                deadline = min(deadline, now + _IDLE_WAIT_SECONDS)
            return self._wait_for_refresh(deadline)

    def suspect(self) -> None:
        """Ask for a refresh at once, because a worker failed; does not wait."""
        with self._condition:
            if self._runtime.monotonic() - self._tried_at > _REFRESH_SECONDS_MIN:
                self._request()

    def tell_unserved(self, file: FileRef) -> None:
        """Have the coordinator hear, with the next refresh, of a file whose pool has no workers.

        A pool that is asleep is woken by whoever resolves a version; its readers have done so long ago.
        """
        with self._condition:
            self._unserved = file

    def refreshed(self, *, deadline: float) -> View:
        """Return a view that was asked for after this call began, or the last if nobody answers."""
        with self._condition:
            return self._wait_for_refresh(deadline)

    def close(self) -> None:
        """End the refreshing thread."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._task is not None:
            self._task.join(_CLOSE_SECONDS)

    def _request(self) -> int:
        """Have the view refreshed; returns the number of the refresh. The condition is held."""
        if self._task is None and not self._closed:
            self._task = self._runtime.start("cachefs-view", self._refresh_when_asked)
        # A refresh that is under way may have been answered already, so it does not count.
        self._wanted = min(self._wanted + 1, self._done + 2)
        self._condition.notify_all()
        return self._wanted

    def _wait_for_refresh(self, deadline: float) -> View:
        number = self._request()
        while self._done < number and not self._closed:
            left = deadline - self._runtime.monotonic()
            if left <= 0:
                break
            self._condition.wait(left)
        if self._known:
            return self._view
        raise self._failure or CoordinatorUnavailableError("nobody told us who the workers are")

    def _refresh_when_asked(self) -> None:
        while True:
            with self._condition:
                while self._done == self._wanted and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                number = self._done + 1
                self._tried_at = self._runtime.monotonic()
                unserved, self._unserved = self._unserved, None
            if unserved is not None:
                self._resolve(unserved)
            view, failure = self._ask()
            with self._condition:
                self._done = number
                self._failure = failure
                if view is not None:
                    self._view, self._known = view, True
                    self._fetched_at = self._runtime.monotonic()
                self._condition.notify_all()

    def _resolve(self, file: FileRef) -> None:
        deadline = self._runtime.monotonic() + _REFRESH_SECONDS
        # Whoever asks for the view next finds the same trouble, and says so.
        with suppress(CacheFSError):
            self._metadata.resolve(file.dataset, file.version, deadline=deadline)

    def _ask(self) -> tuple[View | None, CacheFSError | None]:
        try:
            deadline = self._runtime.monotonic() + _REFRESH_SECONDS
            return self._metadata.view(deadline=deadline), None
        except CacheFSError as error:
            return None, error


class Standing:
    """Which workers to ask last, because they failed a moment ago.

    A worker that could not be reached, stalled or served wrong bytes goes to the end of the order
    for a while; a new incarnation of it starts with a clean slate. Safe from any thread: each method
    is one operation on a dictionary, and what gets lost in a race is a bit of caution.
    """

    def __init__(self, *, avoid_seconds: float) -> None:
        """Trust everybody."""
        self._avoid_seconds = avoid_seconds
        self._avoided: dict[WorkerId, tuple[str, float]] = {}
        self._lost: dict[WorkerId, int] = {}

    def failed(self, member: Member, now: float) -> None:
        """Note that a worker failed."""
        self._avoided[member.worker] = (member.incarnation, now + self._avoid_seconds)

    def answered(self, member: Member) -> None:
        """Note that a worker did what it should."""
        self._avoided.pop(member.worker, None)
        self._lost.pop(member.worker, None)

    def overtaken(self, member: Member, now: float) -> None:
        """Note that another worker was faster although it was asked later."""
        lost = self._lost.get(member.worker, 0) + 1
        self._lost[member.worker] = lost
        if lost >= _LOST_HEDGES_LIMIT:
            self._lost.pop(member.worker, None)
            self.failed(member, now)

    def sort(self, members: list[Member], now: float) -> list[Member]:
        """Return the members with those to avoid at the end, otherwise in their order."""
        if not self._avoided:
            return members
        return sorted(members, key=lambda member: self.avoids(member, now))

    def avoids(self, member: Member, now: float) -> bool:
        """Say whether a worker failed a moment ago."""
        incarnation, until = self._avoided.get(member.worker, ("", 0.0))
        return incarnation == member.incarnation and now < until
