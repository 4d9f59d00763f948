"""Pins: the datasets that a file system has seen, each at the version that it was seen at first.

What is read through one file system is of one version, however often it is opened and whatever
happens to the dataset meanwhile. :meth:`Pins.forget` lets it see newer ones.

A connection belongs to the process that made it. After a fork the child makes one of its own when it
first needs one, and keeps the versions: the parent's sockets and threads are left alone.
"""

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from cachefs.client.connecting import connect
from cachefs.client.reader import OpenDataset, Reader
from cachefs.config.discovery import Endpoint
from cachefs.config.schema import ReaderConfig
from cachefs.core.names import DatasetName, Reference, printable
from cachefs.errors import NotKnownError
from cachefs.ports import Closing
from cachefs.transport.api import Api, pages


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names: something in a dataset, be it there or not."""

    dataset: OpenDataset
    typed: str
    """The dataset as it was typed, with namespace and version if they were."""
    path: str
    """Within the dataset; empty for its top."""


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: Reader
    api: Api
    owned: ExitStack


class Pins(Closing):
    """Safe from any thread, and across forks."""

    def __init__(
        self,
        find_system: Callable[[], Endpoint],
        config: ReaderConfig | None,
        versions: Mapping[str, str],
    ) -> None:
        """Ask nobody yet.

        Args:
            find_system: Says where the system is, when that must be known.
            config: How to read.
            versions: At which version to see a dataset when none is typed.

        Raises:
            ConfigError: ``versions`` names no dataset.
        """
        self._find_system = find_system
        self._config = config or ReaderConfig()
        self._given = {DatasetName.parse(name): version for name, version in versions.items()}
        self._wanted = dict(self._given)
        self._open: dict[tuple[DatasetName, str | None], OpenDataset] = {}
        self._connection: _Connection | None = None
        self._guard = threading.Lock()
        _ALIVE.add(self)

    @property
    def reader(self) -> Reader:
        """The reader, connected."""
        return self._connect().reader

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the datasets that were seen without one being typed, and those given."""
        with self._guard:
            seen = {name: each.version for (name, typed), each in self._open.items() if not typed}
            return {str(name): version for name, version in sorted((self._wanted | seen).items())}

    def find_nowait(self, text: str, readings: Sequence[Reference]) -> Place | None:
        """Return what a path names if its dataset has been seen, else ``None``.

        Args:
            text: The path.
            readings: What it may mean.
        """
        for reading in readings:
            dataset = self._open.get((reading.dataset, reading.version))
            if dataset is not None:
                return _place(dataset, reading, text)
        return None

    def find(self, text: str, readings: Sequence[Reference]) -> Place:
        """Return what a path names, opening its dataset if need be.

        Raises:
            NotKnownError: There is no such dataset or version.
            CoordinatorUnavailableError: Nobody answers.
        """
        found = self.find_nowait(text, readings)
        if found is not None:
            return found
        failure: NotKnownError | None = None
        for reading in readings:
            try:
                return _place(self._see(reading), reading, text)
            except NotKnownError as error:
                failure = failure or error
        raise failure or NotKnownError("no such dataset", subject=printable(text))

    def names(self) -> list[DatasetName]:
        """Return the names of all datasets, as they are now.

        Raises:
            CoordinatorUnavailableError: It does not answer.
        """
        listed = pages(self._connect().api.get, "/v1/datasets", following="after")
        return [
            DatasetName.parse(str(each["name"])) for page in listed for each in page["datasets"]
        ]

    def forget(self) -> None:
        """See each dataset anew when it is next asked for, but for versions that were given."""
        with self._guard:
            self._open.clear()
            self._wanted = dict(self._given)

    def close(self) -> None:
        """End the connections; the next use makes new ones, and sees the same versions."""
        with self._guard:
            self._keep_versions()
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.owned.close()

    def leave_to_parent(self) -> None:
        """Begin anew in the child of a fork, whose only thread this is."""
        self._guard = threading.Lock()
        self._keep_versions()
        if self._connection is not None:
            _OF_PARENTS.append(self._connection)
        self._connection = None

    def _keep_versions(self) -> None:
        self._wanted |= {
            name: seen.version for (name, typed), seen in self._open.items() if typed is None
        }
        self._open = {}

    def _connect(self) -> _Connection:
        with self._guard:
            if self._connection is None:
                endpoint = self._find_system()
                with ExitStack() as owned:
                    reader = owned.enter_context(connect(endpoint, self._config))
                    api = Api(endpoint.coordinator, endpoint.token)
                    self._connection = _Connection(reader, api, owned.pop_all())
            return self._connection

    def _see(self, reading: Reference) -> OpenDataset:
        version = reading.version or self._wanted.get(reading.dataset)
        seen = self.reader.open(reading.dataset, version)
        with self._guard:  # of two threads that see it first, both get what one of them saw
            return self._open.setdefault((reading.dataset, reading.version), seen)


_ALIVE: "weakref.WeakSet[Pins]" = weakref.WeakSet()
_OF_PARENTS: list[_Connection] = []
"""Never used again, and never freed: that would end the parent's threads and connections here."""


def _after_fork() -> None:
    for pins in list(_ALIVE):
        pins.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)


def _place(dataset: OpenDataset, reading: Reference, text: str) -> Place:
    typed = text.removesuffix(f"/{reading.path}") if reading.path else text
    return Place(dataset, typed, reading.path)
