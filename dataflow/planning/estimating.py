"""Estimates of single steps.

Bytes are exact as far as they are known: what a prefetch will fetch is what no worker holds when it
begins, and what earlier steps of the run bring is there by then. Seconds follow from bytes and from
configured rates, as if the step had its link to itself; who shares it is known to :mod:`.walking`. What nobody can know (how long
a program runs, a person thinks) is ``None`` and said.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cachefs.config.schema import PlanningConfig
from cachefs.core.coverage import Coverage
from cachefs.core.datasets import DEFAULT_POOL
from cachefs.core.manifest import FileEntry
from cachefs.core.names import DatasetName
from cachefs.dataflow import costs
from cachefs.dataflow.copying.plans import CopySizes
from cachefs.dataflow.ports import Cache
from cachefs.dataflow.spec import arguments as kinds_of
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.model import Kind, Value
from cachefs.dataflow.spec.shapes import DatasetRef
from cachefs.dataflow.steps.choosing import matching
from cachefs.errors import CacheFSError, CapacityError, NotKnownError
from cachefs.ports import ResolvedVersion

MeasureCopy = Callable[[str, kinds_of.Migrate | kinds_of.Backup], CopySizes]
"""Lists both ends of a copy, for a flow in a namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a step would take."""

    seconds: float | None = 0.0
    """``None``: nobody knows."""
    link: str = ""
    """What it shares evenly with other steps that have the same, so that each takes longer."""
    bytes_total: int = 0
    """Of the files that it is about."""
    bytes_cached: int = 0
    """Of these, where they shall be before it begins."""
    origin_bytes: int = 0
    peer_bytes: int = 0
    egress_usd: float = 0.0
    zone: str = ""
    tier: str = ""
    outputs: Mapping[str, Value] = field(default_factory=dict)
    note: str = ""
    """For people."""
    refusal: str = ""
    """Why it cannot be."""


@dataclass(slots=True)
class _Pool:
    """A pool as the steps so far would leave it."""

    workers: int
    by_zone: dict[str, int]
    capacity: float
    """Of one worker, in bytes; 0 while there is none to tell."""
    promised: dict[str, int] = field(default_factory=dict)
    """File version → bytes, copies included, that earlier steps brought."""


class _Moves(NamedTuple):
    """Bytes of a step."""

    missing: int
    """Not where they shall be."""
    origin: int
    peer: int


class Estimator:
    """Estimates the steps of one run in the order in which they would begin."""

    def __init__(
        self, cache: Cache, rates: PlanningConfig, namespace: str, measure: MeasureCopy
    ) -> None:
        """Begin with the cache as it is."""
        self._cache = cache
        self._rates = rates
        self._namespace = namespace
        self._measure = measure
        self._pools: dict[str, _Pool] = {}
        self._current: dict[DatasetName, str] = {}
        """Versions that an earlier step makes current."""
        self._anywhere: set[str] = set()
        """File versions that an earlier step brings."""
        self._copies: dict[tuple[str, str], int] = {}
        """Zone (empty for anywhere) and file version → copies that an earlier step brings."""

    def estimate(self, kind: Kind, given: Mapping[str, Value]) -> Estimate:
        """Return what a step would take; changes nothing but what later steps find."""
        try:
            wanted = kinds.check(kind, given)
            return self._estimate(wanted)
        except CapacityError as error:
            return Estimate(seconds=None, refusal=str(error))
        except CacheFSError as error:
            return Estimate(seconds=None, note=f"not known beforehand: {error}")

    def _estimate(self, wanted: Any) -> Estimate:  # Any: one of kinds.Arguments
        match wanted:
            case kinds_of.Prefetch():
                found = self._prefetch(wanted)
            case kinds_of.Scale():
                found = self._scale(wanted)
            case kinds_of.Wait():
                found = Estimate(seconds=wanted.duration)
            case kinds_of.Rollout():
                found = _rollout(wanted)
            case kinds_of.Notify() | kinds_of.Evict():
                found = Estimate()
            case kinds_of.Publish():
                found = self._publish(wanted)
            case kinds_of.Migrate() | kinds_of.Backup():
                found = self._copy(wanted)
            case kinds_of.Process():
                outputs = {"exit_code": 0, "log": ""}
                found = Estimate(seconds=None, outputs=outputs, note="takes as long as it takes")
            case kinds_of.Approve():
                found = Estimate(seconds=None, note="waits for somebody's approval")
            case _:
                found = Estimate(seconds=None, note="takes as long as it takes")
        return found

    def _prefetch(self, wanted: kinds_of.Prefetch) -> Estimate:
        resolved = self._resolve(wanted.dataset)
        files = matching(resolved.manifest, wanted.paths)
        version = resolved.manifest.id
        pool = self._pool(resolved.pool)
        copies = max(1, wanted.copies or (1 if wanted.zone else resolved.replicas))
        workers = self._workers(resolved.pool, wanted.zone)
        copies = min(copies, workers)
        moved = self._moves(resolved, files, wanted.zone, copies)
        total = sum(entry.size for entry in files)
        self._promise(pool, resolved.pool, files, copies)
        self._anywhere |= {entry.file_version for entry in files}
        for entry in files:
            here = (wanted.zone, entry.file_version)
            self._copies[here] = max(copies, self._copies.get(here, 0))
        seconds = moved.origin / (self._rates.origin_bytes_per_second * workers)
        seconds += moved.peer / (self._rates.peer_bytes_per_second * workers)
        link = f"{resolved.pool}/{wanted.zone}"
        if wanted.rate and seconds < (limited := (moved.origin + moved.peer) / wanted.rate):
            seconds, link = limited, ""
        charged = moved.origin if costs.is_charged(resolved.origin.url) else 0
        return Estimate(
            seconds=seconds,
            link=link,
            bytes_total=total,
            bytes_cached=total - moved.missing,
            origin_bytes=moved.origin,
            peer_bytes=moved.peer,
            egress_usd=costs.usd(charged, self._rates.egress_usd_per_gb),
            zone=wanted.zone,
            tier=wanted.tier,
            outputs={"dataset": str(resolved.dataset), "version": version, "bytes": total},
        )

    def _copy(self, wanted: kinds_of.Migrate | kinds_of.Backup) -> Estimate:
        sizes = self._measure(self._namespace, wanted)
        # Of a dataset that is backed up, what is cached costs the origin nothing; that is not looked at.
        origin = sizes.bytes_to_copy if isinstance(wanted, kinds_of.Migrate) else 0
        charged = origin if isinstance(wanted, kinds_of.Migrate) and self._charges(wanted) else 0
        rate, link = self._rates.origin_bytes_per_second, "copies"
        if isinstance(wanted, kinds_of.Migrate) and wanted.to.dataset is not None:
            pool = self._pool_of(wanted.to.dataset)
            rate, link = rate * self._workers(pool, wanted.zone), f"{pool}/{wanted.zone}"
        if wanted.rate and wanted.rate < rate:
            rate, link = wanted.rate, ""
        return Estimate(
            seconds=sizes.bytes_to_copy / rate,
            link=link,
            bytes_total=sizes.bytes,
            bytes_cached=sizes.bytes - sizes.bytes_to_copy,
            origin_bytes=origin,
            egress_usd=costs.usd(charged, self._rates.egress_usd_per_gb),
        )

    def _pool_of(self, dataset: DatasetRef) -> str:
        try:
            return self._cache.pool_of(self._name(dataset))
        except NotKnownError:  # the step declares it
            return DEFAULT_POOL

    def _charges(self, wanted: kinds_of.Migrate) -> bool:
        source = wanted.from_
        if source.dataset is None:
            return costs.is_charged(source.url)
        return costs.is_charged(self._resolve(source.dataset).origin.url)

    def _moves(
        self, resolved: ResolvedVersion, files: Sequence[FileEntry], zone: str, copies: int
    ) -> _Moves:
        """Say what must move for so many copies of files to be in a zone."""
        brought = {entry: self._copies.get((zone, entry.file_version), 0) for entry in files}
        peer = sum(max(0, copies - there) * entry.size for entry, there in brought.items() if there)
        fresh = [entry for entry, there in brought.items() if not there]
        if not fresh:
            return _Moves(0, 0, peer)
        found = self._residency(resolved, fresh)
        here = found.bytes_by_zone.get(zone, 0) if zone else found.bytes_resident
        known = found.copies_by_zone.get(zone, 0) if zone else found.copies
        missing = found.bytes_total - here
        new = [entry for entry in fresh if entry.file_version not in self._anywhere]
        if len(new) < len(fresh):
            found = self._residency(resolved, new)
        origin = found.bytes_total - found.bytes_resident
        peer += max(0, missing - origin) + missing * (copies - 1)
        peer += here * max(0, copies - max(1, known))
        return _Moves(missing, origin, peer)

    def _residency(self, resolved: ResolvedVersion, files: Sequence[FileEntry]) -> Coverage:
        if not files:
            return Coverage(0, 0, {}, {}, 0, {})
        paths = [entry.path for entry in files]
        return self._cache.residency(resolved.dataset, resolved.manifest.id, paths)

    def _workers(self, name: str, zone: str) -> int:
        """Return how many workers would fill.

        Raises:
            CapacityError: None would.
        """
        pool = self._pool(name)
        workers = pool.by_zone.get(zone, 0) if zone else pool.workers
        if not workers:
            where = f"zone {zone}" if zone else f"pool {name}"
            raise CapacityError(f"{where} would have no worker")
        return workers

    def _promise(self, pool: _Pool, name: str, files: tuple[FileEntry, ...], copies: int) -> None:
        for entry in files:
            before = pool.promised.get(entry.file_version, 0)
            pool.promised[entry.file_version] = max(before, entry.size * copies)
        needed = sum(pool.promised.values())
        room = pool.capacity * pool.workers
        if pool.capacity and needed > room:
            raise CapacityError(
                f"pool {name} would have {room:.0f} bytes, and {needed} are to be kept in it",
                hint="more workers, fewer copies, fewer paths",
            )

    def _scale(self, wanted: kinds_of.Scale) -> Estimate:
        name = (
            wanted.pool
            if wanted.dataset is None
            else self._cache.pool_of(self._name(wanted.dataset))
        )
        pool = self._pool(name)
        more = wanted.workers - pool.workers
        zones = wanted.zones or tuple(sorted(zone for zone in pool.by_zone if zone))
        pool.workers = wanted.workers
        if wanted.per_zone:
            pool.by_zone = dict.fromkeys(zones, wanted.per_zone)
        elif zones:
            share, rest = divmod(wanted.workers, len(zones))
            pool.by_zone = {zone: share + (at < rest) for at, zone in enumerate(zones)}
        if wanted.workers == 0:
            self._anywhere.clear()
            self._copies.clear()
            pool.promised.clear()
        outputs = {"pool": name, "workers": wanted.workers}
        if more < 0:
            note = "those that leave hand over first what only they hold" if wanted.workers else ""
            return Estimate(seconds=self._rates.worker_seconds, outputs=outputs, note=note)
        return Estimate(seconds=self._rates.worker_seconds if more else 0.0, outputs=outputs)

    def _pool(self, name: str) -> _Pool:
        if name not in self._pools:
            members = [one for one in self._cache.view().members if one.pool == name]
            live = [one for one in members if not one.draining]
            by_zone: dict[str, int] = {}
            for member in live:
                by_zone[member.zone] = by_zone.get(member.zone, 0) + 1
            capacity = sum(one.weight for one in live) / len(live) if live else 0.0
            self._pools[name] = _Pool(len(live), by_zone, capacity)
        return self._pools[name]

    def _publish(self, wanted: kinds_of.Publish) -> Estimate:
        name = self._name(wanted.dataset)
        version = wanted.dataset.version or ""
        with suppress(NotKnownError):  # an earlier step may be about to make it
            version = self._cache.resolve(name, version).manifest.id
        self._current[name] = version
        return Estimate(outputs={"dataset": str(name), "version": version, "before": ""})

    def _resolve(self, dataset: DatasetRef) -> ResolvedVersion:
        name = self._name(dataset)
        return self._cache.resolve(name, dataset.version or self._current.get(name))

    def _name(self, dataset: DatasetRef) -> DatasetName:
        return DatasetName(dataset.namespace or self._namespace, dataset.name)


def _rollout(wanted: kinds_of.Rollout) -> Estimate:
    batches = max(1, sum(1 for size in wanted.batch if size < wanted.replicas) + 1)
    pauses = wanted.interval * (batches - 1)
    outputs = {"target": wanted.target, "replicas": wanted.replicas, "revision": wanted.revision}
    if wanted.health.ready_p95 is None:
        note = f"{batches} batches, each until it is ready"
        return Estimate(seconds=None, outputs=outputs, note=note)
    return Estimate(
        outputs=outputs,
        seconds=batches * wanted.health.ready_p95 + pauses,
        note=f"{batches} batches of {wanted.health.ready_p95:g} s at most",
    )
