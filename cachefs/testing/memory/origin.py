"""An origin in memory, whose content and faults the test decides.

It keeps the sentences of :class:`cachefs.ports.Origin`, and the contract suite holds it to them like
every real one. A test changes files with :meth:`MemoryOrigin.put` and :meth:`MemoryOrigin.remove`,
and makes calls slow or failing with a hook that runs before each of them.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry
from cachefs.errors import OriginChangedError, OriginNotFoundError
from cachefs.ports import OriginFile

Hook = Callable[[str, str, int, int], None]
"""Called with ``list``, ``""``, 0, 0 before a listing, and with ``read``, path, offset and length
before a read; may wait on the runtime's clock, and may raise what the call shall raise."""


class MemoryOrigin:
    """Implements :class:`cachefs.ports.Origin` on a dictionary."""

    client = "memory"
    reason = "for tests"

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        spec: OriginSpec | None = None,
        hook: Hook | None = None,
    ) -> None:
        """Hold a copy of the files."""
        self._spec = spec if spec is not None else OriginSpec("memory://origin")
        self._files: dict[str, tuple[bytes, str]] = {}
        self.hook = hook
        """May be replaced at any time."""
        self.reads: Counter[tuple[str, int]] = Counter()
        """How often the range that begins at (path, offset) was asked for, faults included."""
        self.bytes_read = 0
        """Bytes handed out."""
        self.closed = False
        for path, content in (files or {}).items():
            self.put(path, content)

    def put(self, path: str, content: bytes) -> None:
        """Write a file; its token follows from the content."""
        token = hashlib.blake2b(content, digest_size=8).hexdigest()
        self._files[path] = (bytes(content), token)

    def remove(self, path: str) -> None:
        """Delete a file."""
        del self._files[path]

    @property
    def files(self) -> dict[str, bytes]:
        """What a reader must see."""
        return {path: content for path, (content, _token) in self._files.items()}

    def pin(self) -> OriginSpec:
        """Return the spec: nothing moves."""
        return self._spec

    def list_files(self) -> Iterator[OriginFile]:
        """Yield the files as they are now."""
        if self.hook is not None:
            self.hook("list", "", 0, 0)
        if not self._files:
            raise OriginNotFoundError("no file there", subject=self._spec.url)
        for path, (content, token) in sorted(self._files.items()):
            yield OriginFile(path, len(content), token, "")

    def read_range(
        self,
        entry: FileEntry,
        offset: int,
        length: int,
        buffer: memoryview | None = None,  # noqa: ARG002 - the library has memory of its own
    ) -> memoryview:
        """Return a range of the content that the token names."""
        self.reads[entry.path, offset] += 1
        if self.hook is not None:
            self.hook("read", entry.path, offset, length)
        # The hook may have waited, and the file may have changed meanwhile: look only now, once.
        found = self._files.get(entry.path)
        if found is None:
            raise OriginNotFoundError("no such file", subject=entry.path)
        content, token = found
        if token != entry.token or len(content) != entry.size:
            raise OriginChangedError("the file has changed", subject=entry.path)
        self.bytes_read += length
        return memoryview(content)[offset : offset + length]

    def close(self) -> None:
        """Remember it."""
        self.closed = True
