"""Both ends of a copy, opened: origins by their URLs, datasets through the cache."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from cachefs.config.schema import OriginConfig
from cachefs.core.backoff import Backoff
from cachefs.core.datasets import OriginSpec
from cachefs.core.globs import Globs
from cachefs.core.manifest import FileEntry, name_file_version
from cachefs.core.names import DatasetName, printable
from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.core.urls import split_url
from cachefs.dataflow.copying.asking import REQUEST_BYTES_MIN
from cachefs.dataflow.copying.datasets import DataPlane, DatasetOrigin
from cachefs.dataflow.copying.options import Ends
from cachefs.dataflow.copying.plans import PART_BYTES
from cachefs.dataflow.costs import is_charged
from cachefs.dataflow.ports import Cache, StepContext
from cachefs.dataflow.spec.arguments import Backup, Migrate
from cachefs.dataflow.spec.shapes import DatasetRef
from cachefs.errors import ConfigError, OriginNotFoundError
from cachefs.origins.decorators import RetryingOrigin
from cachefs.origins.destinations import Destination, check_destination, open_destination
from cachefs.origins.opening import open_origin
from cachefs.ports import Origin, Runtime

_BACKOFF = Backoff(attempts_limit=4, first_seconds=0.3)
_PINNED = "source"
"""In the checkpoint: the URL that a moving one, such as a branch, was pinned to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be copied, whichever step wants it."""

    source: OriginSpec | DatasetRef
    to: OriginSpec
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def of_migrate(cls, given: Migrate) -> "Wanted":
        """Return what a ``migrate`` between origins copies."""
        source = given.from_.dataset
        return cls(
            source=spec_of(given, "from") if source is None else source,
            to=spec_of(given, "to"),
            include=given.include,
            exclude=given.exclude,
        )

    @classmethod
    def of_backup(cls, given: Backup) -> "Wanted":
        """Return what a ``backup`` copies."""
        options = {**given.options, **_reference(given.credentials)}
        return cls(source=given.dataset, to=OriginSpec(given.to, options), include=given.paths)


def spec_of(given: Migrate, end: str) -> OriginSpec:
    """Return how an end of a ``migrate`` is opened."""
    location = given.from_ if end == "from" else given.to
    options = {
        **given.options.get(end, {}),
        **_reference(given.credentials.get(end, "")),
    }
    return OriginSpec(location.url, options)


def _reference(credentials: str) -> Mapping[str, str]:
    return {"credentials": credentials} if credentials else {}


class Place(NamedTuple):
    """Where ends are opened from."""

    runtime: Runtime
    namespace: str
    """Of datasets that are named without one."""
    pinned: str = ""
    """What a source that moves, such as a branch or a current version, was when it was first opened."""

    @classmethod
    def of_step(cls, context: StepContext) -> "Place":
        """Return where a step is."""
        pinned = str(context.checkpoint().get(_PINNED, ""))
        return cls(context.runtime, context.namespace, pinned)


class Source(NamedTuple):
    """What is copied from."""

    origin: Origin
    spent: Callable[[], int]
    request_bytes_min: int
    part_bytes: int
    charged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Both ends, listed."""

    ends: Ends
    sources: Sequence[FileEntry]
    there: Sequence[FileEntry]
    part_bytes: int
    """Of a usual part."""


class Sites:
    """Opens ends. Shared by the steps of a process."""

    def __init__(
        self,
        cache: Cache,
        config: OriginConfig,
        plane: DataPlane,
        *,
        tenants: Tenants = EVERYBODY,
    ) -> None:
        """Open nothing yet.

        Args:
            cache: Whose datasets.
            config: Limits on origins, and what may be contacted.
            plane: How datasets are read.
            tenants: Says what may be contacted for whom.
        """
        self._tenants = tenants
        self.cache = cache
        self.config = config
        self._plane = plane

    @contextmanager
    def open(self, place: Place, wanted: Wanted, *, streams: int) -> Iterator[Opened]:
        """Open and list both ends.

        Raises:
            OriginError: One of them cannot be listed.
            ConfigError: Nothing can be written to the destination.
        """
        _check_apart(wanted)
        with (
            self.destination(place, wanted) as (destination, there),
            self.source(place, wanted, streams=streams) as source,
        ):
            yield Opened(
                ends=Ends(
                    source.origin,
                    source.spent,
                    destination,
                    there.origin,
                    source.request_bytes_min,
                    source.charged,
                ),
                sources=entries_of(source.origin, place.runtime),
                there=there.list(),
                part_bytes=source.part_bytes,
            )

    @contextmanager
    def destination(self, place: Place, wanted: Wanted) -> Iterator[tuple[Destination, "Reading"]]:
        """Open what writes to the destination, and what reads there."""
        check_destination(wanted.to)
        self._tenants.check_destination(place.namespace, wanted.to)
        to = self._tenants.confined(place.namespace, wanted.to)
        with ExitStack() as owned:
            destination = open_destination(to, self.config)
            owned.callback(destination.close)
            there = Reading(lambda: open_origin(to, self.config, place.runtime), place.runtime)
            owned.callback(there.close)
            yield destination, there

    @contextmanager
    def source(self, place: Place, wanted: Wanted, *, streams: int) -> Iterator[Source]:
        """Open what is copied from."""
        source = wanted.source
        if isinstance(source, DatasetRef):
            with self._dataset(place, source, wanted, streams) as (origin, block_size):
                part_bytes = -(-PART_BYTES // block_size) * block_size
                charged = is_charged(origin.pin().url)
                yield Source(origin, origin.spent, part_bytes, part_bytes, charged)
            return
        spec = replace(source, url=place.pinned) if place.pinned else source
        self._tenants.check_origin(place.namespace, spec)
        spec = self._tenants.confined(place.namespace, spec)
        opened = open_origin(
            spec, self.config, place.runtime, include=wanted.include, exclude=wanted.exclude
        )
        with closing(opened):

            def spent() -> int:
                return opened.statistics().bytes_read

            yield Source(opened, spent, REQUEST_BYTES_MIN, PART_BYTES, is_charged(source.url))

    @contextmanager
    def _dataset(
        self, place: Place, dataset: DatasetRef, wanted: Wanted, streams: int
    ) -> Iterator[tuple[DatasetOrigin, int]]:
        name = DatasetName(dataset.namespace or place.namespace, dataset.name)
        version = place.pinned or dataset.version
        with self._plane.reader(place.runtime, streams) as reader:
            opened = reader.open(name, version)
            globs = Globs(wanted.include, wanted.exclude)
            spec = opened.resolved.origin
            origin = DatasetOrigin(reader, opened, spec, globs)
            yield origin, self._plane.cluster.block_size


def _check_apart(wanted: Wanted) -> None:
    """Refuse a copy into its own source, or over it: it would never be done.

    Raises:
        ConfigError: One of the places is inside of the other.
    """
    if not isinstance(wanted.source, OriginSpec):
        return
    source, to = (_place_of(spec) for spec in (wanted.source, wanted.to))
    if source[:2] == to[:2] and (source[2].startswith(to[2]) or to[2].startswith(source[2])):
        raise ConfigError(
            "source and destination are inside of each other", subject=printable(wanted.to.url)
        )


def _place_of(spec: OriginSpec) -> tuple[str, str, str]:
    """Return store, endpoint, and path with a closing slash; no path for all of a store."""
    url = split_url(spec.url)
    path = os.path.realpath(url.path or "/") if url.scheme == "file" else url.path
    store = "" if url.scheme == "file" else url.host
    inside = f"{path.strip('/')}/".lstrip("/")
    return f"{url.scheme}://{store}", spec.options.get("endpoint_url", ""), inside


def pin_source(context: StepContext, opened: Opened, wanted: Wanted) -> None:
    """Have the source's URL, or the dataset's version, mean the same from now on."""
    origin = opened.ends.source
    if isinstance(origin, DatasetOrigin):
        pinned = origin.version
    else:
        pinned = origin.pin().url
        if isinstance(wanted.source, OriginSpec) and pinned == wanted.source.url:
            return
    if context.checkpoint().get(_PINNED) != pinned:
        context.note({**context.checkpoint(), _PINNED: pinned})


class Reading:
    """What reads at a destination, opened when something is there to read."""

    def __init__(self, opening: Callable[[], Origin], runtime: Runtime) -> None:
        """Open nothing yet."""
        self._runtime = runtime
        self._opening = opening
        self._origin: Origin | None = None

    def origin(self) -> Origin:
        """Return it. Two threads at once may open two, of which one is closed at once."""
        found = self._origin
        if found is None:
            opened = self._opening()
            if self._origin is None:
                self._origin = found = opened
            else:
                opened.close()
                found = self._origin
        return found

    def list(self) -> list[FileEntry]:
        """Return the files that are there."""
        try:
            return entries_of(self.origin(), self._runtime)
        except OriginNotFoundError:
            return []

    def close(self) -> None:
        """Close it."""
        if self._origin is not None:
            self._origin.close()


def entries_of(origin: Origin, runtime: Runtime) -> list[FileEntry]:
    """Return what an origin lists; it is asked again if that may help."""
    return [
        FileEntry(
            file.path,
            file.size,
            file.token,
            file.digest,
            name_file_version("", path=file.path, size=file.size, token=file.token),
        )
        for file in RetryingOrigin(origin, _BACKOFF, runtime).list_files()
    ]
