"""What is stored, and every change since the last compaction.

There is one number, the resource version, which grows with each write of anything. Because changes are kept with
what was there before, the state at any version that was not compacted can be had back: lists in pages and
watches from a version rest on that. Documents in the store are never changed in place; whoever changes one
copies it first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cachefs.ports import Runtime
from cachefs.testing.kubernetes.documents import Document, Key

FIRST_VERSION = 1000
"""Where versions begin: nobody may take one of them for a count."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write: ``before`` is ``None`` for a creation, ``after`` for a removal."""

    version: int
    key: Key
    before: Document | None
    after: Document | None

    @property
    def last(self) -> Document:
        """The object as the change left it; a removed one as it was, at the change's version."""
        if self.after is not None:
            return self.after
        was = self.before or {}
        return {**was, "metadata": {**was["metadata"], "resourceVersion": str(self.version)}}


class StaleError(Exception):
    """What is stored is not what the writer had read."""


class CompactedError(Exception):
    """The version is older than what is kept."""


class Store:
    """The objects; safe from any thread."""

    def __init__(self, runtime: Runtime) -> None:
        """Begin empty."""
        self._runtime = runtime
        self._condition = runtime.condition()
        self._objects: dict[Key, Document] = {}
        self._changes: list[Change] = []
        self._version = FIRST_VERSION
        self._compacted = FIRST_VERSION
        self._closed = False
        self.listener: Callable[[Change], None] = lambda _: None
        """Is told of each write, after it, by whoever wrote."""

    @property
    def version(self) -> int:
        """The version of the last write."""
        return self._version

    @property
    def closed(self) -> bool:
        """Whether no more will happen."""
        return self._closed

    def get(self, key: Key) -> Document | None:
        """Return an object as it is now."""
        return self._objects.get(key)

    def objects(self, version: int | None = None) -> tuple[int, Mapping[Key, Document]]:
        """Return everything as it was at a version (without one: now), and that version.

        Raises:
            CompactedError: nobody knows any more.
        """
        with self._condition:
            found = dict(self._objects)
            if version is None or version >= self._version:
                return self._version, found
            if version < self._compacted:
                raise CompactedError
            for change in reversed(self._changes):
                if change.version <= version:
                    break
                if change.before is None:
                    found.pop(change.key, None)
                else:
                    found[change.key] = change.before
            return version, found

    def write(self, key: Key, before: Document | None, after: Document | None) -> Document:
        """Replace what was read by what shall be; either may be ``None``. Returns what is stored.

        Raises:
            StaleError: somebody else has written since ``before`` was read.
        """
        with self._condition:
            if self._objects.get(key) is not before:
                raise StaleError
            self._version += 1
            if after is not None:
                stamped = {**after["metadata"], "resourceVersion": str(self._version)}
                after = {**after, "metadata": stamped}
                self._objects[key] = after
            else:
                self._objects.pop(key, None)
            change = Change(self._version, key, before, after)
            self._changes.append(change)
            self._condition.notify_all()
        self.listener(change)
        return change.last

    def changes(self, since: int) -> list[Change]:
        """Return what happened after a version.

        Raises:
            CompactedError: not all of it is known any more.
        """
        with self._condition:
            if since < self._compacted:
                raise CompactedError
            start = len(self._changes)
            while start and self._changes[start - 1].version > since:
                start -= 1
            return self._changes[start:]

    def wait(self, since: int, seconds: float, *, until: Callable[[], bool] | None = None) -> bool:
        """Wait for something after a version, or instead for ``until``; whether it came to pass."""
        deadline = self._runtime.monotonic() + seconds
        with self._condition:
            while not (until() if until is not None else self._version > since):
                if self._closed:
                    return False
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    return False
                self._condition.wait(left)
            return True

    def wake(self) -> None:
        """Let every waiter look again."""
        with self._condition:
            self._condition.notify_all()

    def compact(self) -> None:
        """Forget all changes up to now, as etcd does after a while."""
        with self._condition:
            self._compacted = self._version
            self._changes.clear()

    def close(self) -> None:
        """End every wait."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
