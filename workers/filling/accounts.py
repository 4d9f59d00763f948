"""Accounts: how many bytes a worker moved, in all and for each file version, by where they were.

``cachefs explain`` shows a file's account, the metrics the total. The total never forgets; the
accounts of single files are kept for the most recently used ones only, so that a dataset of a
million files costs no memory that nobody looks at.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping

from cachefs.core.blocks import FileVersionId

FILES_KEPT = 10_000
"""File versions with an account of their own."""


class ByteAccounts:
    """Bytes by source; safe from any thread."""

    def __init__(self, *sources: str) -> None:
        """Start at zero for each source, so that a metric exists before its first byte."""
        self._lock = threading.Lock()
        self._total: Counter[str] = Counter(dict.fromkeys(sources, 0))
        self._files: OrderedDict[FileVersionId, Counter[str]] = OrderedDict()

    def add(self, file_version: FileVersionId, source: str, size: int) -> None:
        """Record that bytes of a file came from a source."""
        with self._lock:
            self._total[source] += size
            account = self._files.get(file_version)
            if account is None:
                account = self._files[file_version] = Counter()
                if len(self._files) > FILES_KEPT:
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(file_version)
            account[source] += size

    def total(self) -> Mapping[str, int]:
        """Return the bytes of all files by source."""
        with self._lock:
            return dict(self._total)

    def of(self, file_version: FileVersionId) -> Mapping[str, int]:
        """Return one file's bytes by source; empty if it was not used for long."""
        with self._lock:
            return dict(self._files.get(file_version, {}))
