"""Datasets as the endpoints see them: which there are, and at which version.

Every request of an HTTP client stands alone, so each would be an open of its own, and a model that
is read in ranges of 8 MiB would ask for its current version a thousand times. So what was found is
good for :data:`FRESH_SECONDS`; while one request asks again, others go on with what is there. When
nobody answers, the last that was known is still good; what is gone, is gone.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from cachefs.client.reader import OpenDataset, Reader
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError, CoordinatorUnavailableError, NotKnownError
from cachefs.transport.api import Api, pages

FRESH_SECONDS = 1.0
"""How old an answer may be."""
_VERSIONS_LIMIT = 16
"""As many as the reader keeps manifests of."""
_LIST_SECONDS = 10.0
"""For one page of the coordinator's list."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A dataset of the coordinator's list."""

    name: DatasetName
    origin: str
    """The URL."""


@dataclass(slots=True)
class _Current:
    dataset: OpenDataset
    fresh_until: float
    asking: bool = False


class Datasets:
    """Safe from any thread."""

    def __init__(self, reader: Reader, api: Api, *, only: Sequence[str] = ()) -> None:
        """Ask nobody yet.

        Args:
            reader: Opens datasets.
            api: The coordinator's, for the list.
            only: The names of all that are listed; none for whatever the coordinator knows.
        """
        self._reader = reader
        self._api = api
        self._only = tuple(sorted(DatasetName.parse(name) for name in only))
        self._runtime = reader.runtime
        self._lock = threading.Lock()
        self._currents: dict[DatasetName, _Current] = {}
        self._versions: OrderedDict[tuple[DatasetName, str], OpenDataset] = OrderedDict()
        self._listed: tuple[Declared, ...] | None = None
        self._listed_at = float("-inf")

    def every(self, *, again: bool = False) -> Sequence[Declared]:
        """Return all datasets, sorted by full name.

        Args:
            again: What is wanted was not in the list, and perhaps was added just now: ask anew.

        Raises:
            CoordinatorUnavailableError: It does not answer, and never did.
        """
        with self._lock:
            now = self._runtime.monotonic()
            fresh = now - self._listed_at < FRESH_SECONDS and not again
            if self._listed is not None and fresh:
                return self._listed
            self._listed_at = now
        try:
            listed = self._list()
        except CoordinatorUnavailableError:
            with self._lock:
                if self._listed is None:
                    raise
                return self._listed
        with self._lock:
            self._listed = listed
        return listed

    def open(self, name: DatasetName, version: str | None) -> OpenDataset:
        """Open a dataset at a version, by id or an unambiguous beginning; the current for ``None``.

        Raises:
            NotKnownError: There is no such dataset or version.
            CacheFSError: Nobody answers, and nobody did before.
        """
        return self._open_current(name) if version is None else self._open_version(name, version)

    def _open_version(self, name: DatasetName, version: str) -> OpenDataset:
        with self._lock:
            known = self._versions.get((name, version))
            if known is not None:
                self._versions.move_to_end((name, version))
                return known
        opened = self._reader.open(name, version)
        if opened.version == version:  # a beginning may become ambiguous
            with self._lock:
                self._keep(opened)
        return opened

    def _open_current(self, name: DatasetName) -> OpenDataset:
        with self._lock:
            known = self._currents.get(name)
            if known is not None:
                if known.asking or self._runtime.monotonic() < known.fresh_until:
                    return known.dataset
                known.asking = True
        try:
            opened = self._reader.open(name)
        except CacheFSError as error:
            with self._lock:
                if known is not None:
                    known.asking = False
                    if isinstance(error, NotKnownError):
                        self._forget(name)
            raise
        with self._lock:
            until = self._runtime.monotonic() + FRESH_SECONDS
            opened = self._keep(opened)
            self._currents[name] = _Current(opened, until)
        return opened

    def _keep(self, opened: OpenDataset) -> OpenDataset:
        """Remember a version, and return the object that stands for it."""
        key = (opened.name, opened.version)
        kept = self._versions.setdefault(key, opened)
        self._versions.move_to_end(key)
        if len(self._versions) > _VERSIONS_LIMIT:
            self._versions.popitem(last=False)
        return kept

    def _forget(self, name: DatasetName) -> None:
        self._currents.pop(name, None)
        for key in [key for key in self._versions if key[0] == name]:
            del self._versions[key]

    def _list(self) -> tuple[Declared, ...]:
        get = partial(self._api.get, timeout_seconds=_LIST_SECONDS)
        if self._only:
            return tuple(self._known(get))
        return tuple(
            Declared(DatasetName.parse(each["name"]), str(each["origin"]["url"]))
            for page in pages(get, "/v1/datasets", following="after")
            for each in page["datasets"]
        )

    def _known(self, get: Callable[[str], Any]) -> Iterator[Declared]:
        for name in self._only:
            with suppress(NotKnownError):  # not yet, or not any more
                found = get(f"/v1/datasets/{name.namespace}/{name.name}")
                yield Declared(name, str(found["origin"]["url"]))
