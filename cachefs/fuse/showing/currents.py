"""What may be different tomorrow: a dataset's current version, the lists of datasets and versions.

Nothing here has a thread of its own. Whoever needs a value that is older than
:data:`~cachefs.fuse.showing.attributes.MOVING_SECONDS` asks for a new one; others who come meanwhile take the
old one, and when nobody answers, so does he. So at most one operation in a while waits for the
cluster, and a mount that nobody uses asks nobody.
"""

import logging
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from cachefs.client.reader import Reader
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError
from cachefs.fuse.showing.attributes import MOVING_SECONDS
from cachefs.fuse.showing.memory import Memory
from cachefs.fuse.showing.trees import ShownVersion, Trees
from cachefs.ports import Runtime

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

_RENEW_SECONDS = 2.0
"""Longest that a look-up waits for a newer value while there is an old one."""
_SILENCE_SECONDS = 5.0
"""Nobody is asked for so long after an attempt that nobody answered."""

_log = logging.getLogger("cachefs.fuse")


class KeptVersion(NamedTuple):
    """A version that the coordinator keeps."""

    id: VersionId
    listed_at: float
    """Seconds since 1970."""


class _Ask(Protocol[T_co]):
    def __call__(self, *, timeout_seconds: float) -> T_co: ...


class Recent(Generic[T]):
    """A value that is asked for again when it has become old. Safe from any thread."""

    def __init__(self, runtime: Runtime, ask: _Ask[T]) -> None:
        """Ask nobody yet."""
        self._runtime = runtime
        self._ask = ask
        self._guard = runtime.condition()
        self._value: T | None = None
        self._known = False
        self._ask_at = float("-inf")
        self._asking = False
        self._failure: CacheFSError | None = None

    def get(self, *, deadline: float) -> T:
        """Return the newest value that can be had, at most a second old if somebody answers.

        Raises:
            CacheFSError: There never was a value, and there is none now.
        """
        with self._guard:
            now = self._runtime.monotonic()
            while self._asking and not self._known and now < deadline:
                self._guard.wait(deadline - now)
                now = self._runtime.monotonic()
            if self._known and (self._asking or now < self._ask_at):
                return self._value  # type: ignore[return-value]  # known: it is a T
            if not self._known and self._failure is not None and now < self._ask_at:
                raise self._failure
            self._asking = True
            left = max(0.05, deadline - now)
            timeout = min(left, _RENEW_SECONDS) if self._known else left
        return self._renew(timeout)

    def _renew(self, timeout_seconds: float) -> T:
        value: T | None = None
        failure: CacheFSError | None = None
        try:
            value = self._ask(timeout_seconds=timeout_seconds)
        except CacheFSError as error:
            failure = error
        finally:
            with self._guard:
                self._asking = False
                self._guard.notify_all()
                now = self._runtime.monotonic()
                lost = failure is not None and self._failure is None
                self._failure = failure
                self._ask_at = now + (MOVING_SECONDS if failure is None else _SILENCE_SECONDS)
                if failure is None:
                    self._value, self._known = value, True
                known, value = self._known, self._value
        if failure is not None and not known:
            raise failure
        if lost:
            _log.warning("the last known state is shown", extra={"failure": str(failure)})
        return value  # type: ignore[return-value]  # likewise


class Currents:
    """Which version of each dataset a mount shows. Safe from any thread."""

    def __init__(self, reader: Reader, trees: Trees, memory: Memory, *, follow: bool) -> None:
        """Begin with what the memory holds."""
        self._reader = reader
        self._trees = trees
        self._memory = memory
        self._follow = follow
        self._guard = reader.runtime.condition()
        self._last: dict[DatasetName, int] = {}
        self._recent: dict[DatasetName, Recent[None]] = {}
        for record in memory.records():
            if record["kind"] == "current":
                named = trees.named(record["tree"])
                if named is not None:
                    self._last[named[0]] = record["tree"]

    def knows(self, name: DatasetName) -> bool:
        """Say whether a version of a dataset was shown before."""
        return name in self._last

    def begin(self, shown: ShownVersion) -> None:
        """Take a version as its dataset's current one, and remember it."""
        name = shown.dataset.name
        with self._guard:
            if self._last.get(name) == shown.number:
                return
            if name in self._last and not self._follow:
                return  # Another thread was first, and what is shown first stays.
            self._last[name] = shown.number
            self._memory.append({"kind": "current", "tree": shown.number})

    def last(self, name: DatasetName, *, deadline: float) -> ShownVersion:
        """Return the version that was shown last, whatever is current by now."""
        return self._trees.shown(self._last[name], deadline=deadline)

    def try_last(self, name: DatasetName) -> ShownVersion | None:
        """Return the version that was shown last, if it is in memory."""
        number = self._last.get(name)
        return None if number is None else self._trees.in_memory(number)

    def current(self, name: DatasetName, *, deadline: float) -> ShownVersion:
        """Return the current version, by the dataset's policy, at most a second old.

        Raises:
            NotKnownError: There is no such dataset, and there never was.
            CoordinatorUnavailableError: Nobody answers, and nothing was shown before.
        """
        with self._guard:
            recent = self._recent.get(name)
            if recent is None:
                recent = self._recent[name] = Recent(self._reader.runtime, self._resolver(name))
        try:
            recent.get(deadline=deadline)
        except CacheFSError:
            if name not in self._last:
                raise
        return self.last(name, deadline=deadline)

    def _resolver(self, name: DatasetName) -> Callable[..., None]:
        def resolve(*, timeout_seconds: float) -> None:
            deadline = self._reader.runtime.monotonic() + timeout_seconds
            self.begin(
                self._trees.show(self._reader.metadata.resolve(name, None, deadline=deadline))
            )

        return resolve
