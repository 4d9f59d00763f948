"""The catalogue: datasets, their versions and manifests, and which version a reader gets.

Every change is one transaction, and begins by adding to the ``catalogue`` counter. That makes the
changes queue up, so each can check what it relies on; and whoever keeps something computed from the
catalogue, in whichever coordinator, sees that it is out of date.

Origins are listed outside of transactions. A listing that leads to the manifest that is current
already changes nothing but the time of the last listing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from cachefs.config.schema import CoordinatorConfig
from cachefs.coordinator.declaring import (
    DatasetChange,
    changed,
    check_dataset,
    check_digest,
    check_keeping,
    difference,
    listed_from,
    means,
)
from cachefs.coordinator.events import Events
from cachefs.coordinator.listing import Carried, Flights, Lister, Listing
from cachefs.coordinator.manifests import Manifests
from cachefs.coordinator.pins import Pins
from cachefs.coordinator.store import counters
from cachefs.coordinator.store import datasets as rows
from cachefs.coordinator.store import jobs as job_rows
from cachefs.coordinator.store import labels as label_rows
from cachefs.coordinator.store import pools as pool_rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Dataset, OriginSpec, Version
from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.names import DatasetName, parse_label, parse_path, printable
from cachefs.core.tenants import Tenants
from cachefs.errors import ConfigError, NotKnownError, OriginUnavailableError
from cachefs.ports import Runtime

_LISTING_SECONDS_MAX = 600.0
"""Longest that ``add`` and ``update`` wait for a listing."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A version, and how the dataset keeps it."""

    version: Version
    pool: str
    replicas: int


class Catalogue:
    """Datasets and versions. Safe from any thread."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        config: CoordinatorConfig,
        events: Events,
        lister: Lister,
    ) -> None:
        """Work on a store."""
        self._store = store
        self._runtime = runtime
        self._config = config
        self._events = events
        self._lister = lister
        self._tenants = Tenants(config.tenants.trusted, config.tenants.sources)
        self._flights: Flights[Dataset] = Flights(runtime)
        self._manifests = Manifests(store, runtime)
        self.pins = Pins(self._manifests)
        self._unlistable: dict[DatasetName, float] = {}
        self._listed: dict[DatasetName, tuple[float, float]] = {}
        self._live: tuple[int, dict[FileVersionId, int]] = (-1, {})

    # ---- datasets -----------------------------------------------------------------------------

    def add(self, dataset: Dataset, checksums: Mapping[str, str]) -> Dataset:
        """Declare a dataset and list its origin; when that fails, nothing has changed.

        Raises:
            ConfigError: Something in the declaration is not acceptable.
            ConflictError: There is one of that name, or a namespace; or the pool is exclusive to
                another namespace.
            NotAllowedError: It takes more of its pool than its namespace may.
            OriginError: The origin cannot be listed.
        """
        check_dataset(dataset)
        for path, digest in checksums.items():
            check_digest(parse_path(path), digest)
        with self._store.read() as connection:
            rows.check_free(connection, dataset.name)
            self._check_keeping(connection, dataset)
        listing = self._lister.list(dataset, checksums=checksums, carried={})
        declared = replace(dataset, current=listing.version.id)
        with self._store.write() as connection:
            counters.add(connection, "catalogue")
            rows.check_free(connection, dataset.name)
            pool_rows.check_admitted(connection, dataset.pool, dataset.name.namespace)
            self._check_keeping(connection, dataset)
            rows.add(connection, declared, at=listing.version.listed_at)
            rows.add_version(connection, listing.version, listing.manifest.encoded)
            self.pins.note(connection, None, declared)
            self._events.record(
                connection,
                "dataset-added",
                dataset.name,
                f"{listing.version.file_count} files, {listing.version.size} bytes, "
                f"version {listing.version.id}",
            )
        self._note_listed(listing)
        return declared

    def change(self, name: DatasetName, change: DatasetChange) -> Dataset:
        """Change how a dataset is kept.

        Raises:
            NotKnownError: There is no such dataset or version.
            ConfigError: Something in the change is not acceptable.
            NotAllowedError: It would take more of its pool than its namespace may.
        """
        with self._store.write() as connection:
            counters.add(connection, "catalogue")
            old = _known(connection, name)
            new = changed(old, change)
            if change.current is not None:
                chosen = self._find_version(connection, name, change.current)
                label = label_rows.find(connection, name, change.current)
                label = label or label_rows.of_version(connection, name, chosen.id)
                # A version from elsewhere takes its origin along, or the next listing would undo it.
                origin = listed_from(new, chosen) if label is None else label.origin
                new = replace(new, current=chosen.id, origin=origin)
                if new.consistency.max_age_seconds is not None and new.current != old.current:
                    raise ConfigError(
                        f"the dataset follows its origin ({new.consistency})",
                        subject=str(name),
                        hint="set its consistency to pinned, to stay at a version",
                    )
            check_dataset(new)
            if new.pool != old.pool:
                pool_rows.check_admitted(connection, new.pool, name.namespace)
            if (new.pool, new.pins, new.replicas) != (old.pool, old.pins, old.replicas):
                self._check_keeping(connection, new)
            if new != old:
                rows.change(connection, new)
                self.pins.note(connection, old, new)
                self._events.record(connection, "dataset-changed", name, difference(old, new))
        return new

    def declare(self, dataset: Dataset) -> Dataset:
        """Make a dataset as it is declared here, whatever it was; when that fails, nothing has changed.

        The origin is listed if other files are meant than before; else the current version stays.

        Raises:
            ConfigError: Something in the declaration is not acceptable.
            ConflictError: There is a namespace of that name; or the pool is exclusive to another one.
            NotAllowedError: It takes more of its pool than its namespace may.
            OriginError: The origin cannot be listed.
        """
        check_dataset(dataset)
        name = dataset.name
        with self._store.read() as connection:
            known = rows.find(connection, name)
            self._check_keeping(connection, dataset)
        if known is None:
            return self.add(dataset, {})
        listing = None
        if means(dataset) != means(known):
            listing = self._lister.list(dataset, checksums={}, carried=self._carried(name))
        with self._store.write() as connection:
            counters.add(connection, "catalogue")
            old = _known(connection, name)
            current = old.current if listing is None else listing.version.id
            new = replace(dataset, current=current)
            if new.pool != old.pool:
                pool_rows.check_admitted(connection, new.pool, name.namespace)
            self._check_keeping(connection, new)
            if listing is not None:
                rows.add_version(connection, listing.version, listing.manifest.encoded)
                rows.set_listed(connection, name, at=listing.version.listed_at)
                self._record_version(connection, listing.version)
            if new != old:
                rows.change(connection, new)
                self.pins.note(connection, old, new)
                self._drop_old_versions(connection, new)
                self._events.record(connection, "dataset-changed", name, difference(old, new))
        if listing is not None:
            self._note_listed(listing)
        return new

    def remove(self, name: DatasetName) -> None:
        """Forget a dataset; workers drop its blocks.

        Raises:
            NotKnownError: There is no such dataset.
        """
        with self._store.write() as connection:
            counters.add(connection, "catalogue")
            dataset = _known(connection, name)
            rows.remove(connection, name)
            self.pins.note(connection, dataset, None)
            self._events.record(connection, "dataset-removed", name, "its blocks are dropped")

    def get(self, name: DatasetName) -> Dataset:
        """Return a dataset.

        Raises:
            NotKnownError: There is no such dataset.
        """
        with self._store.read() as connection:
            return _known(connection, name)

    def every(self, *, after: str = "", limit: int | None = None) -> tuple[Dataset, ...]:
        """Return the datasets whose full name comes after another, sorted by it."""
        with self._store.read() as connection:
            return rows.every(connection, after=after, limit=limit)

    def count(self) -> int:
        """Return how many datasets there are."""
        with self._store.read() as connection:
            return rows.count(connection)

    # ---- versions -----------------------------------------------------------------------------

    def update(self, name: DatasetName) -> Version:
        """List the origin again, and make what it holds the current version.

        Raises:
            NotKnownError: There is no such dataset.
            OriginError: The origin cannot be listed.
        """
        self.get(name)
        dataset = self._flights.join(
            name, lambda: self._relist(name), wait_seconds=_LISTING_SECONDS_MAX
        )
        return self._current(dataset)

    def versions(self, name: DatasetName) -> tuple[Version, ...]:
        """Return the versions that are kept, the newest first.

        Raises:
            NotKnownError: There is no such dataset.
        """
        with self._store.read() as connection:
            _known(connection, name)
            return rows.versions(connection, name)

    def publish(self, name: DatasetName, origin: OriginSpec, label: str) -> Version:
        """List an origin as a version of a dataset, and label it; what is current stays current.

        The dataset is declared if there is none of the name, and the version is current then.
        Publishing the same again changes nothing.

        Args:
            name: The dataset.
            origin: Where the version's files are; it may be another than the dataset's.
            label: A label that another version has moves to this one. Empty for none.

        Raises:
            ConfigError: Something in it is not acceptable.
            ConflictError: There is a namespace of the name.
            OriginError: The origin cannot be listed.
        """
        if label:
            parse_label(label)
        with self._store.read() as connection:
            known = rows.find(connection, name)
        if known is None:
            known = self.add(Dataset(name=name, origin=origin), {})
        listing = self._lister.list(
            replace(known, origin=origin), checksums={}, carried=self._carried(name)
        )
        version = listing.version
        with self._store.write() as connection:
            counters.add(connection, "catalogue")
            dataset = _known(connection, name)
            is_new = rows.find_version(connection, name, version.id) is None
            rows.add_version(connection, version, listing.manifest.encoded)
            if label:
                label_rows.put(connection, name, label_rows.Label(label, version.id, origin))
            self._drop_old_versions(connection, dataset)
            if is_new:
                self._record_version(connection, version, f", label {label}" if label else "")
        self._manifests.put(listing.manifest)
        return version

    def labels(self, name: DatasetName) -> Mapping[VersionId, tuple[str, ...]]:
        """Return the labels of a dataset's versions."""
        with self._store.read() as connection:
            found: dict[VersionId, tuple[str, ...]] = {}
            for label in label_rows.every(connection, name):
                found[label.version] = (*found.get(label.version, ()), label.name)
            return found

    def resolve(self, name: DatasetName, version: str | None) -> Resolved:
        """Return a version by id, by unambiguous prefix, by label, or the current one for ``None``.

        For ``None`` the dataset's consistency policy is applied first: it may list the origin. When
        the origin is down, ``max_age`` gets the last version, ``validate_on_open`` an error.

        Raises:
            NotKnownError: There is no such dataset or version.
            OriginError: The origin must be listed, and cannot be.
        """
        if version is not None:
            with self._store.read() as connection:
                dataset = _known(connection, name)
                return _resolved(dataset, self._find_version(connection, name, version))
        with self._store.read() as connection:
            dataset = _known(connection, name)
            listed_at = rows.listed_at(connection, name)
        if dataset.consistency.is_due(self._listed_seconds_ago(name, listed_at)):
            dataset = self._listed_again(dataset)
        return _resolved(dataset, self._current(dataset))

    def manifest(self, version: str) -> Manifest:
        """Return a manifest.

        Raises:
            NotKnownError: No dataset has that version.
        """
        return self._manifests.get(version)

    # ---- what follows from the whole ----------------------------------------------------------

    def live(self, connection: Connection) -> Mapping[FileVersionId, int]:
        """Return every file version that some dataset has, with its size."""
        revision = counters.read(connection)["catalogue"]
        if self._live[0] != revision:
            live: dict[FileVersionId, int] = {}
            for version in rows.version_ids(connection):
                manifest = self._manifests.find(connection, version)
                for entry in manifest.files if manifest is not None else ():
                    live[entry.file_version] = entry.size
            self._live = (revision, live)
        return self._live[1]

    def close(self) -> None:
        """Leave listings alone after a moment."""
        self._flights.close(wait_seconds=1.0)

    def _check_keeping(self, connection: Connection, dataset: Dataset) -> None:
        check_keeping(dataset, pool_rows.find(connection, dataset.pool), self._tenants)

    def _current(self, dataset: Dataset) -> Version:
        with self._store.read() as connection:
            if dataset.current is not None:
                version = rows.find_version(connection, dataset.name, dataset.current)
                if version is not None:
                    return version
        raise NotKnownError("it has no version yet", subject=str(dataset.name))

    def _find_version(self, connection: Connection, name: DatasetName, text: str) -> Version:
        label = label_rows.find(connection, name, text)
        prefix = text if label is None else label.version
        found = [one for one in rows.versions(connection, name) if one.id.startswith(prefix)]
        if len(found) == 1 and text:
            return found[0]
        if found:
            raise ConfigError(
                f"several versions begin with {printable(text)!r}",
                subject=str(name),
                hint="give more digits",
            )
        raise NotKnownError(
            f"it has no version {printable(text)!r}",
            subject=str(name),
            hint="`cachefs dataset versions` lists those that are kept",
        )

    def _listed_again(self, dataset: Dataset) -> Dataset:
        """Apply a consistency policy whose time has come."""
        strict = dataset.consistency.max_age_seconds == 0
        retry_at = self._unlistable.get(dataset.name)
        if not strict and retry_at is not None and self._runtime.monotonic() < retry_at:
            return dataset
        try:
            return self._flights.join(
                dataset.name,
                lambda: self._relist(dataset.name),
                wait_seconds=self._config.listing_wait_seconds,
            )
        except OriginUnavailableError as error:
            if strict:
                raise
            self._serve_last(dataset, error)
            return dataset

    def _serve_last(self, dataset: Dataset, error: OriginUnavailableError) -> None:
        known = dataset.name in self._unlistable
        self._unlistable[dataset.name] = (
            self._runtime.monotonic() + self._config.listing_retry_seconds
        )
        if not known:
            with self._store.write() as connection:
                self._events.record(
                    connection,
                    "origin-unavailable",
                    dataset.name,
                    f"the last version is served: {error}",
                )

    def _relist(self, name: DatasetName) -> Dataset:
        dataset = self.get(name)
        listing = self._lister.list(dataset, checksums={}, carried=self._carried(name))
        dataset = self._store_listing(name, listing)
        if self._unlistable.pop(name, None) is not None:
            with self._store.write() as connection:
                self._events.record(connection, "origin-available", name, "it was listed again")
        self._note_listed(listing)
        return dataset

    def _carried(self, name: DatasetName) -> Carried:
        """Return the digests of whole files that earlier versions know."""
        carried: dict[tuple[str, int, str], str] = {}
        with self._store.read() as connection:
            for version in reversed(rows.versions(connection, name)):
                manifest = self._manifests.find(connection, version.id)
                if manifest is not None:
                    carried.update(_digests(manifest))
        return carried

    def _store_listing(self, name: DatasetName, listing: Listing) -> Dataset:
        version = listing.version
        with self._store.write() as connection:
            dataset = _known(connection, name)
            if dataset.current == version.id:
                rows.set_listed(connection, name, at=version.listed_at)
                return dataset
            counters.add(connection, "catalogue")
            before = _known(connection, name)
            dataset = replace(before, current=version.id)
            rows.add_version(connection, version, listing.manifest.encoded)
            rows.change(connection, dataset)
            self.pins.note(connection, before, dataset)
            rows.set_listed(connection, name, at=version.listed_at)
            self._drop_old_versions(connection, dataset)
            self._record_version(connection, version)
        return dataset

    def _record_version(self, connection: Connection, version: Version, more: str = "") -> None:
        self._events.record(
            connection,
            "version-added",
            version.dataset,
            f"{version.file_count} files, {version.size} bytes, version {version.id}{more}",
        )

    def _drop_old_versions(self, connection: Connection, dataset: Dataset) -> None:
        in_use = {job.version for job in job_rows.unreleased(connection) if job.active}
        in_use.add(dataset.current or VersionId(""))
        old = rows.versions(connection, dataset.name)[dataset.versions_kept :]
        dropped = [version.id for version in old if version.id not in in_use]
        if dropped:
            rows.remove_versions(connection, dataset.name, dropped)

    def _note_listed(self, listing: Listing) -> None:
        self._listed[listing.version.dataset] = (
            listing.version.listed_at,
            self._runtime.monotonic(),
        )
        self._manifests.put(listing.manifest)

    def _listed_seconds_ago(self, name: DatasetName, wall: float) -> float:
        """Return the age of the last listing, on our own clock if we made it."""
        noted = self._listed.get(name)
        if noted is not None and noted[0] >= wall:
            return self._runtime.monotonic() - noted[1]
        # Another coordinator listed, or another life of ours: only the calendar is left to tell. A
        # listing that is still to come, as calendars have it, has an age that nobody knows.
        age = self._runtime.wall() - wall
        return age if age >= 0 else float("inf")


def _known(connection: Connection, name: DatasetName) -> Dataset:
    dataset = rows.find(connection, name)
    if dataset is None:
        raise NotKnownError(
            "no such dataset", subject=str(name), hint="`cachefs dataset list` shows all"
        )
    return dataset


def _resolved(dataset: Dataset, version: Version) -> Resolved:
    return Resolved(version, dataset.pool, dataset.replicas)


def _digests(manifest: Manifest) -> Carried:
    return {(one.path, one.size, one.token): one.digest for one in manifest.files if one.digest}
