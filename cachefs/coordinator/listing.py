"""Listing: from an origin to a version and its manifest.

However many ask for a dataset's listing at once, the origin is listed once (*single-flight*): the
first makes a thread for it, all wait for that, and whoever has waited long enough goes away without
ending it. An asker may thus get a listing that began shortly before it asked, but never one that
had ended by then.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import Dataset, OriginSpec, Version
from cachefs.core.manifest import FileEntry, Manifest, name_file_version
from cachefs.core.names import printable
from cachefs.core.tenants import Tenants
from cachefs.errors import CapacityError, ConfigError, OriginUnavailableError
from cachefs.ports import Origin, OriginFile, Runtime, Task

T = TypeVar("T")

_ENTRY_OVERHEAD_BYTES = 80
"""What an entry's encoding has besides path, token and digest: file version, size, punctuation."""


class OpenOrigin(Protocol):
    """Opens an origin, as :func:`cachefs.origins.open_origin` does."""

    def __call__(
        self,
        spec: OriginSpec,
        config: OriginConfig,
        runtime: Runtime,
        *,
        include: tuple[str, ...],
        exclude: tuple[str, ...],
    ) -> Origin:
        """Return an origin that can be listed."""
        ...


@dataclass(frozen=True)
class Listing:
    """What an origin holds at one moment."""

    version: Version
    manifest: Manifest


Carried = Mapping[tuple[str, int, str], str]
"""Digests known from elsewhere, by path, size and token."""


class Lister:
    """Lists origins."""

    def __init__(
        self,
        open_origin: OpenOrigin,
        config: OriginConfig,
        runtime: Runtime,
        *,
        tenants: Tenants,
        manifest_limit_bytes: int,
    ) -> None:
        """List with the coordinator's own limits on origins, what each namespace may name."""
        self._tenants = tenants
        self._open_origin = open_origin
        self._config = config
        self._runtime = runtime
        self._manifest_limit_bytes = manifest_limit_bytes

    def list(self, dataset: Dataset, *, checksums: Mapping[str, str], carried: Carried) -> Listing:
        """List a dataset's origin.

        Args:
            dataset: Whose origin.
            checksums: Digests that somebody gave for paths; each path must be in the listing.
            carried: Digests of earlier versions, for files that have not changed.

        Raises:
            OriginError: The origin cannot be listed.
            ConfigError: A checksum names no file, or contradicts the origin, or a path is illegal.
            CapacityError: There are too many files for one manifest.
            NotAllowedError: The origin is not for the dataset's namespace.
        """
        namespace = dataset.name.namespace
        self._tenants.check_origin(namespace, dataset.origin)
        origin = self._open_origin(
            self._tenants.confined(namespace, dataset.origin),
            self._config,
            self._runtime,
            include=dataset.include,
            exclude=dataset.exclude,
        )
        try:
            pinned = origin.pin()
            files = list(self._bounded(origin.list_files()))
        finally:
            origin.close()
        _check_checksums(checksums, files)
        identity = dataset.origin.identity
        manifest = Manifest.of(_entry(identity, file, checksums, carried) for file in files)
        version = Version(
            id=manifest.id,
            dataset=dataset.name,
            origin=self._tenants.confined(namespace, pinned),
            client=origin.client,
            client_reason=origin.reason,
            file_count=len(manifest.files),
            size=manifest.size,
            listed_at=self._runtime.wall(),
        )
        return Listing(version, manifest)

    def _bounded(self, files: Iterable[OriginFile]) -> Iterable[OriginFile]:
        left = self._manifest_limit_bytes
        for file in files:
            left -= len(file.path) + len(file.token) + len(file.digest) + _ENTRY_OVERHEAD_BYTES
            if left < 0:
                raise CapacityError(
                    "the origin holds too many files for one dataset",
                    hint="make several datasets of its folders, or leave files out with --exclude",
                )
            yield file


def _check_checksums(checksums: Mapping[str, str], files: Iterable[OriginFile]) -> None:
    listed = {file.path: file for file in files}
    for path, digest in checksums.items():
        file = listed.get(path)
        if file is None:
            raise ConfigError(
                "the checksums name a file that the origin does not list", subject=printable(path)
            )
        algorithm = digest.partition(":")[0]
        if file.digest.partition(":")[0] == algorithm and file.digest != digest:
            raise ConfigError(
                "the checksums and the origin contradict each other", subject=printable(path)
            )


def _entry(
    identity: str, file: OriginFile, checksums: Mapping[str, str], carried: Carried
) -> FileEntry:
    digest = (
        checksums.get(file.path)
        or file.digest
        or carried.get((file.path, file.size, file.token), "")
    )
    name = name_file_version(
        identity, path=file.path, size=file.size, token=file.token, digest=digest
    )
    return FileEntry(file.path, file.size, file.token, digest, name)


class _Flight(Generic[T]):
    """One run of a function that several wait for."""

    def __init__(self) -> None:
        self.landed = False
        self.result: T | None = None
        self.failure: BaseException | None = None
        self.task: Task | None = None


class Flights(Generic[T]):
    """Runs a function once for all who ask for the same key meanwhile."""

    def __init__(self, runtime: Runtime) -> None:
        """Start with nothing under way."""
        self._runtime = runtime
        self._turn = runtime.condition()
        self._flights: dict[Hashable, _Flight[T]] = {}

    def join(self, key: Hashable, body: Callable[[], T], *, wait_seconds: float) -> T:
        """Return what ``body`` returns, or raise what it raises, whoever started it.

        Raises:
            OriginUnavailableError: It takes longer than the caller would wait; it goes on.
        """
        deadline = self._runtime.monotonic() + wait_seconds
        with self._turn:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight()
                started = flight
                flight.task = self._runtime.start("listing", lambda: self._fly(key, started, body))
            while not flight.landed:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    raise OriginUnavailableError(
                        f"the origin was not listed within {wait_seconds:g} s; listing goes on",
                        subject=str(key),
                    )
                self._turn.wait(left)
        if flight.failure is not None:
            raise flight.failure
        return flight.result  # type: ignore[return-value]  # it landed without a failure

    def _fly(self, key: Hashable, flight: _Flight[T], body: Callable[[], T]) -> None:
        try:
            flight.result = body()
        except Exception as error:  # noqa: BLE001 - it is raised again, in whoever waits
            flight.failure = error
        finally:
            with self._turn:
                flight.landed = True
                del self._flights[key]
                self._turn.notify_all()

    def close(self, *, wait_seconds: float) -> None:
        """Wait a little for what is under way; its threads do not keep the process alive."""
        deadline = self._runtime.monotonic() + wait_seconds
        with self._turn:
            tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            if task is not None:
                task.join(max(0.0, deadline - self._runtime.monotonic()))
