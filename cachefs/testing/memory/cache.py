"""A cache in memory, as the steps of flows see one; the test decides who works and how far they are.

It keeps the sentences of :class:`cachefs.dataflow.ports.Cache`, and the contract suite holds it to them
like the coordinator's own. Nothing happens by itself: a test adds and removes workers, lets warm-ups come
further with :meth:`MemoryCache.fill`, and pools become what they shall be with
:meth:`MemoryCache.provide`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cachefs.core.blocks import block_count
from cachefs.core.coverage import Coverage, cover
from cachefs.core.datasets import DEFAULT_POOL, OriginSpec
from cachefs.core.jobs import Assignment, WantedFile, WarmJob, advance, assign, end, plan, total
from cachefs.core.manifest import FileEntry, Manifest, name_file_version
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.pools import Pool, PoolChange, Provided, changed, compare
from cachefs.core.residency import Holding, ResidencyIndex, indexes, mask_bytes
from cachefs.dataflow.ports import PoolStatus
from cachefs.errors import NotKnownError, OriginNotFoundError
from cachefs.ports import FileRef, ResolvedVersion
from cachefs.testing.blocks import block_digest

BLOCK_SIZE = 100
"""Bytes: files of some hundred bytes have several blocks."""


@dataclass
class _Dataset:
    current: str
    versions: dict[str, ResolvedVersion] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    pool: str = DEFAULT_POOL


class MemoryCache:
    """Implements :class:`cachefs.dataflow.ports.Cache`. For one thread at a time."""

    def __init__(self, origins: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Know no worker and no dataset.

        Args:
            origins: URL → path → size of what :meth:`publish` finds there.
        """
        self.origins: dict[str, dict[str, int]] = {
            url: dict(files) for url, files in (origins or {}).items()
        }
        self.origin_bytes = 0
        """Bytes that warm-ups have taken from origins: what no worker held."""
        self._members: dict[WorkerId, Member] = {}
        self._epoch = 0
        self._datasets: dict[DatasetName, _Dataset] = {}
        self._index = ResidencyIndex()
        self._jobs: dict[str, WarmJob] = {}
        self._pools: dict[str, Pool] = {}

    # ---- what a test does -----------------------------------------------------------------------

    def add_worker(
        self, name: str, zone: str = "", pool: str = DEFAULT_POOL, *, capacity: int = 10**9
    ) -> None:
        """Have a worker join, which holds nothing."""
        worker = WorkerId(name)
        self._members[worker] = Member(
            worker=worker,
            incarnation="1",
            node="node",
            zone=zone,
            pool=pool,
            weight=float(capacity),
            data_address=name,
            control_address=name,
            socket_path="",
        )
        self._index.set_known(worker, known=True)
        self._epoch += 1

    def remove_worker(self, name: str) -> None:
        """Have a worker die, with what it holds."""
        worker = WorkerId(name)
        del self._members[worker]
        for holding in list(self._index.recorded(worker)):
            self._index.put(holding._replace(mask=0))
        self._epoch += 1

    def provide(self) -> None:
        """Start and stop workers, so that all pools are as they shall be."""
        for pool in self._pools.values():
            here = [Provided(one.worker, one.pool, one.zone) for one in self._members.values()]
            difference = compare(pool, here)
            for worker in difference.leave:
                self.remove_worker(worker)
            for zone in difference.start:
                number = 1
                while WorkerId(f"worker-{number}") in self._members:
                    number += 1
                self.add_worker(f"worker-{number}", zone, pool.name)

    def fill(self, blocks: int | None = None) -> None:
        """Let warm-ups fill so many blocks, all that they want by default."""
        left = [blocks]
        for job in list(self._jobs.values()):
            if job.active:
                self._fill_job(job, left)

    # ---- what steps do --------------------------------------------------------------------------

    def view(self) -> View:
        """Return the members."""
        members = sorted(self._members.values(), key=lambda member: member.worker)
        return View(self._epoch, tuple(members))

    def resolve(self, name: DatasetName, version: str | None) -> ResolvedVersion:
        """Return a version with its manifest."""
        dataset = self._dataset(name)
        wanted = dataset.current if version is None else dataset.labels.get(version, version)
        found = [one for key, one in dataset.versions.items() if wanted and key.startswith(wanted)]
        if len(found) != 1:
            raise NotKnownError(f"it has no version {version!r}", subject=str(name))
        return replace(found[0], pool=dataset.pool)

    def publish(
        self, name: DatasetName, url: str, options: Mapping[str, str], *, label: str
    ) -> ResolvedVersion:
        """List an origin as a version of a dataset, and label it."""
        files = self.origins.get(url)
        if not files:
            raise OriginNotFoundError("nothing is there", subject=url)
        entries = []
        for path, size in files.items():
            token = f"{path} of {size}"
            name_of_bytes = name_file_version("memory://", path=path, size=size, token=token)
            entries.append(FileEntry(path, size, token, "", name_of_bytes))
        manifest = Manifest.of(entries)
        dataset = self._datasets.setdefault(name, _Dataset(manifest.id))
        dataset.versions[manifest.id] = ResolvedVersion(
            name, OriginSpec(url, dict(options)), "memory", dataset.pool, 1, manifest
        )
        if label:
            dataset.labels[label] = manifest.id
        return dataset.versions[manifest.id]

    def labelled(self, name: DatasetName) -> Sequence[str]:
        """Return the ids of the versions that have labels."""
        return tuple(dict.fromkeys(self._dataset(name).labels.values()))

    def make_current(self, name: DatasetName, version: str) -> None:
        """Have new opens see a version that is kept already."""
        self._dataset(name).current = self.resolve(name, version).manifest.id

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
        for asked_before in self._jobs.values():
            if key and asked_before.key == key and asked_before.active:
                return asked_before
        resolved = self.resolve(name, version)
        wanted = self._wanted(resolved.manifest, paths)
        blocks, size = total(wanted, block_size=BLOCK_SIZE)
        job = WarmJob(
            id=f"{len(self._jobs) + 1:016x}",
            dataset=name,
            version=resolved.manifest.id,
            paths=tuple(paths),
            key=key,
            zone=zone,
            copies=copies,
            rate=rate,
            bytes_total=size,
            blocks_total=blocks,
        )
        self._jobs[job.id] = job
        return job

    def warm_job(self, job: str) -> WarmJob:
        """Return a warm-up as it stands."""
        if job not in self._jobs:
            raise NotKnownError("no such warm-up", subject=job)
        return self._jobs[job]

    def cancel_warm(self, job: str) -> None:
        """End a warm-up; what it has filled stays."""
        self._jobs[job] = end(self.warm_job(job), "cancelled", wall=0.0)

    def residency(self, name: DatasetName, version: str | None, paths: Sequence[str]) -> Coverage:
        """Say how much of the files is resident, at this moment."""
        resolved = self.resolve(name, version)
        sizes = {one.file_version: one.size for one in self._wanted(resolved.manifest, paths)}
        held = {
            file_version: {
                (one.worker, one.tier): one.mask
                for one in self._index.holders(file_version, self._members)
            }
            for file_version in sizes
        }
        return cover(sizes, held, self._members.values(), pool=resolved.pool, block_size=BLOCK_SIZE)

    def holders(self, file: FileRef) -> Mapping[WorkerId, int]:
        """Return which members hold which blocks of a file version, as masks."""
        held: dict[WorkerId, int] = {}
        for one in self._index.holders(file.entry.file_version, self._members):
            held[one.worker] = held.get(one.worker, 0) | one.mask
        return held

    def digests(self, file: FileRef) -> Sequence[bytes | None]:
        """Return the digests of held blocks: their bytes are those of :mod:`cachefs.testing.blocks`."""
        held = 0
        for mask in self.holders(file).values():
            held |= mask
        return [
            block_digest(file, index, BLOCK_SIZE) if held >> index & 1 else None
            for index in range(block_count(file.entry.size, BLOCK_SIZE))
        ]

    def evict(self, name: DatasetName, version: str | None, paths: Sequence[str]) -> int:
        """Drop files from all workers; return the bytes that went."""
        size = 0
        for file in self._wanted(self.resolve(name, version).manifest, paths):
            for holding in list(self._index.holders(file.file_version, self._members)):
                size += mask_bytes(holding.mask, file.size, BLOCK_SIZE)
                self._index.put(holding._replace(mask=0))
        return size

    def pool(self, name: str) -> PoolStatus:
        """Return a pool as it stands."""
        pool = self._pools.get(name, Pool(name=name))
        live = [member for member in self._members.values() if member.pool == name]
        by_zone: dict[str, int] = {}
        for member in live:
            by_zone[member.zone] = by_zone.get(member.zone, 0) + 1
        return PoolStatus(
            name, pool.wanted, pool.wanted_by_zone, len(live), by_zone, 0, pool.exclusive
        )

    def give_pool(self, name: str, namespace: str) -> None:
        """Make a pool a namespace's own."""
        before = self._pools.get(name, Pool(name=name))
        self._pools[name] = changed(before, PoolChange(exclusive=namespace), at=0.0)

    def pool_of(self, name: DatasetName) -> str:
        """Return the pool of a dataset."""
        return self._dataset(name).pool

    def scale(self, pool: str, workers: int, *, by_zone: Mapping[str, int]) -> None:
        """Say how many workers a pool shall have; :meth:`provide` makes it so."""
        change = PoolChange(wanted=workers, wanted_by_zone=by_zone)
        before = self._pools.get(pool, Pool(name=pool))
        self._pools[pool] = changed(before, change, at=0.0)

    def _dataset(self, name: DatasetName) -> _Dataset:
        if name not in self._datasets:
            raise NotKnownError("no such dataset", subject=str(name))
        return self._datasets[name]

    @staticmethod
    def _wanted(manifest: Manifest, paths: Sequence[str]) -> list[WantedFile]:
        sizes = {entry.file_version: entry.size for entry in manifest.chosen(paths)}
        return [WantedFile(*one) for one in sizes.items()]

    def _fill_job(self, job: WarmJob, left: list[int | None]) -> None:
        resolved = self.resolve(job.dataset, job.version)
        files = self._wanted(resolved.manifest, job.paths)
        assignment = assign(
            files,
            self._members.values(),
            pool=resolved.pool,
            replicas=job.copies or resolved.replicas,
            block_size=BLOCK_SIZE,
            zone=job.zone,
            workers=job.workers,
        )
        for file in files:
            self._fill_file(file, assignment, left)
        found = plan(files, assignment, self._index, block_size=BLOCK_SIZE)
        self._jobs[job.id] = advance(replace(job, state="running"), found, wall=0.0)

    def _fill_file(self, file: WantedFile, assignment: Assignment, left: list[int | None]) -> None:
        for worker, wanted in assignment.by_worker.items():
            for index in indexes(wanted.get(file.file_version, 0)):
                held = self._index.resident(worker, file.file_version)
                if held >> index & 1 or left[0] == 0:
                    continue
                anywhere = self._index.holders(file.file_version, self._members)
                if not any(one.mask >> index & 1 for one in anywhere):
                    self.origin_bytes += mask_bytes(1 << index, file.size, BLOCK_SIZE)
                self._index.put(Holding(worker, file.file_version, "disk", held | 1 << index))
                left[0] = None if left[0] is None else left[0] - 1
