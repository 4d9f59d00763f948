"""The cache as steps see it, inside the coordinator's own process.

Everything is asked of the service directly, so a step needs neither a port nor a token, and what it
observes is what the coordinator knows at this moment: the blocks that live workers have reported, each
of which they had verified before.
"""

from collections.abc import Mapping, Sequence

from cachefs.coordinator.declaring import DatasetChange
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.warming import WarmOptions
from cachefs.core.coverage import Coverage, cover
from cachefs.core.datasets import OriginSpec
from cachefs.core.jobs import WarmJob
from cachefs.core.membership import View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.pools import PoolChange
from cachefs.dataflow.ports import PoolStatus
from cachefs.errors import NotKnownError
from cachefs.ports import FileRef, ResolvedVersion

SCALED_BY = "a flow"
"""Who changed a pool, as its events say it."""


class CoordinatorCache:
    """Implements :class:`cachefs.dataflow.ports.Cache` on the coordinator's service."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Ask this coordinator."""
        self._coordinator = coordinator

    def view(self) -> View:
        """Return the members."""
        return self._coordinator.members.view

    def resolve(self, name: DatasetName, version: str | None) -> ResolvedVersion:
        """Return a version with its manifest; the current one is what it is, and not listed again."""
        catalogue = self._coordinator.catalogue
        found = catalogue.resolve(name, version or self._current(name))
        return ResolvedVersion(
            dataset=name,
            origin=found.version.origin,
            client=found.version.client,
            pool=found.pool,
            replicas=found.replicas,
            manifest=catalogue.manifest(found.version.id),
            listed_at=found.version.listed_at,
        )

    def publish(
        self, name: DatasetName, url: str, options: Mapping[str, str], *, label: str
    ) -> ResolvedVersion:
        """List an origin as a version of a dataset, and label it."""
        published = self._coordinator.catalogue.publish(name, OriginSpec(url, dict(options)), label)
        return self.resolve(name, published.id)

    def labelled(self, name: DatasetName) -> Sequence[str]:
        """Return the ids of the versions that have labels."""
        self._coordinator.catalogue.get(name)
        return tuple(self._coordinator.catalogue.labels(name))

    def make_current(self, name: DatasetName, version: str) -> None:
        """Have new opens see a version that is kept already."""
        self._coordinator.change(name, DatasetChange(current=version))

    def warm(
        self,
        name: DatasetName,
        version: str | None,
        paths: Sequence[str],
        *,
        key: str,
        zone: str = "",
        copies: int = 0,
        rate: int = 0,
    ) -> WarmJob:
        """Start a warm-up, or return the one with the same key that runs."""
        options = WarmOptions(key=key, zone=zone, copies=copies, rate=rate)
        chosen = version or self._current(name)
        return self._coordinator.warm(name, chosen, tuple(paths), options)

    def warm_job(self, job: str) -> WarmJob:
        """Return a warm-up as it stands."""
        return self._coordinator.warming.get(job)

    def cancel_warm(self, job: str) -> None:
        """End a warm-up; what it has filled stays."""
        self._coordinator.warming.cancel(job)

    def residency(self, name: DatasetName, version: str | None, paths: Sequence[str]) -> Coverage:
        """Say how much of the files is resident and verified, at this moment."""
        resolved = self.resolve(name, version)
        sizes = {entry.file_version: entry.size for entry in resolved.manifest.chosen(paths)}
        service = self._coordinator
        view = service.members.view
        return cover(
            sizes,
            service.residency.masks(sizes, view),
            view.members,
            pool=resolved.pool,
            block_size=service.cluster.block_size,
        )

    def holders(self, file: FileRef) -> Mapping[WorkerId, int]:
        """Return which live members hold which blocks of a file version, as masks."""
        service = self._coordinator
        held: dict[WorkerId, int] = {}
        for one in service.residency.holders(file.entry.file_version, service.members.view):
            held[one.worker] = held.get(one.worker, 0) | one.mask
        return held

    def digests(self, file: FileRef) -> Sequence[bytes | None]:
        """Return the known digest of each block."""
        return self._coordinator.digests(file.entry.file_version)

    def evict(self, name: DatasetName, version: str | None, paths: Sequence[str]) -> int:
        """Drop files from all workers; return the bytes that went."""
        return self._coordinator.evict(name, version, paths).size

    def pool(self, name: str) -> PoolStatus:
        """Return a pool as it stands."""
        standing = self._coordinator.pools.get(name)
        return PoolStatus(
            name=name,
            wanted=standing.pool.wanted,
            wanted_by_zone=standing.pool.wanted_by_zone,
            live=standing.live,
            live_by_zone=standing.live_by_zone,
            draining=len(standing.draining),
            exclusive=standing.pool.exclusive,
        )

    def pool_of(self, name: DatasetName) -> str:
        """Return the pool of a dataset."""
        return self._coordinator.catalogue.get(name).pool

    def scale(self, pool: str, workers: int, *, by_zone: Mapping[str, int]) -> None:
        """Say how many workers a pool shall have; returns at once, and says nothing twice."""
        before = self._coordinator.pools.get(pool).pool
        zones = {zone: count for zone, count in by_zone.items() if count}
        if before.wanted == workers and dict(before.wanted_by_zone) == zones:
            return
        change = PoolChange(wanted=workers, wanted_by_zone=zones, by=SCALED_BY)
        self._coordinator.pools.change(pool, change)

    def _current(self, name: DatasetName) -> str:
        current = self._coordinator.catalogue.get(name).current
        if current is None:
            raise NotKnownError("it has no version yet", subject=str(name))
        return current
