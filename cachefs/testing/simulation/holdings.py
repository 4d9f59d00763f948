"""What must be true of what the workers of a simulated cluster hold."""

from collections.abc import Iterator

from cachefs.core.blocks import BlockId, block_count
from cachefs.core.membership import RENEWALS_PER_LEASE
from cachefs.testing.simulation.cluster import SimCluster
from cachefs.testing.simulation.processes.worker import SimWorker
from cachefs.testing.simulation.topology import BLOCK_BYTES
from cachefs.wire.digests import digester
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.tier import Tier


def check_capacity(cluster: SimCluster) -> Iterator[str]:
    """No tier ever takes more than its capacity."""
    for worker in cluster.workers.values():
        for tier in worker.place.tiers:
            most = worker.drives[tier.folder].most_allocated_bytes
            if most > tier.capacity_bytes:
                yield f"{worker.name} took {most} bytes of {tier.capacity_bytes} ({tier.medium})"


def check_idle(cluster: SimCluster) -> Iterator[str]:
    """When nobody reads, nothing is reserved, held or being filled."""
    for worker in cluster.workers.values():
        if worker.filler is None or worker.store is None:
            continue
        filler = worker.filler.statistics()
        if filler.inflight_fills or filler.queued_fills or filler.uncached_blocks:
            yield f"{worker.name} is still filling: {filler}"
        for tier in worker.store.statistics().tiers:
            if tier.reserved_bytes or tier.leased_files:
                yield f"{worker.name} still has reserved or lent: {tier}"
        for inner in worker.store._tiers:
            for file in inner.books.files.values():
                if file.strays and _has_strangers(worker, inner, file):
                    continue
                if file.users or file.held or file.busy or file.strays:
                    yield (
                        f"{worker.name} still uses {file.name}: {file.users} users, "
                        f"held {file.held}, busy {file.busy}, strays {file.strays}"
                    )


def check_drained(cluster: SimCluster, *, calm: bool) -> Iterator[str]:
    """What a worker held when its drain began costs the origin nothing any more.

    While other things go wrong as well, the blocks may get lost again once they are handed over.
    """
    if not calm:
        return
    for drain in cluster.drains:
        if not drain.done:
            yield f"{drain.worker} was not drained"
        paths = {
            entry.file_version: entry.path
            for entry in cluster.coordinator.known_version(None).manifest.files
        }
        held = {(paths[each.file_version], each.index * BLOCK_BYTES) for each in drain.held}
        for request in cluster.origin.requests:
            if request.at >= drain.began and (request.path, request.offset) in held:
                yield (
                    f"{request.client} read {request.path}@{request.offset} from the origin at "
                    f"{request.at:.3f}, which {drain.worker} held when its drain began"
                )


def check_spread(cluster: SimCluster) -> Iterator[str]:
    """After a warm-up without faults, each owner holds its blocks, in as many zones as can be."""
    version = cluster.coordinator.known_version(None)
    zones = {worker.place.zone for worker in cluster.workers.values()}
    for entry in version.manifest.files:
        for index in range(block_count(entry.size, BLOCK_BYTES)):
            holders = [
                worker
                for worker in cluster.workers.values()
                if worker.store is not None and worker.store.holds(entry.file_version, index)
            ]
            lacking = set(cluster.owners(version, BlockId(entry.file_version, index)))
            lacking -= {worker.name for worker in holders}
            if lacking:
                yield f"{', '.join(sorted(lacking))} was warmed and lacks {entry.path}#{index}"
            wanted = min(version.replicas, len(zones), len(cluster.workers))
            if len({worker.place.zone for worker in holders}) < wanted:
                yield f"{entry.path}#{index} is in fewer than {wanted} zones"


def check_scrubbed(cluster: SimCluster) -> Iterator[str]:
    """Where workers scrub, nothing is other than its digest says for longer than a round takes."""
    if not cluster.plan.scrub_seconds:
        return
    digest = digester(cluster.plan.cluster.digest)
    for worker in cluster.workers.values():
        for tier in worker.store._tiers if worker.store is not None else ():
            drive = worker.drives[tier.config.folder]
            for file in tier.books.files.values():
                inode = drive.files.get(file.name)
                for index, block in file.blocks.items():
                    at = file.range_of(index)
                    content = b"" if inode is None else inode.content[at.offset : at.end]
                    if digest(memoryview(content)) != block.digest:
                        yield f"{worker.name} did not find that {file.name}#{index} is bad"


def check_jobs(cluster: SimCluster, *, calm: bool) -> Iterator[str]:
    """Every warm-up has ended, one without faults well; and progress ends exactly at the total."""
    for job in cluster.coordinator.jobs():
        if job.active:
            yield f"the warm-up {job.id} has not ended: {job}"
        elif calm and job.state != "done":
            yield f"the warm-up {job.id} failed without any fault: {job}"
        done = (job.blocks_done, job.bytes_done)
        if job.state == "done" and done != (job.blocks_total, job.bytes_total):
            yield f"the warm-up {job.id} is done before its end: {job}"


def check_expired(cluster: SimCluster) -> Iterator[str]:
    """What has outlived its time to live goes with the next renewal, unless it is pinned or used."""
    ttl = cluster.plan.ttl_seconds
    now = cluster.world.monotonic()
    late = ttl + 2 * cluster.plan.cluster.lease_seconds / RENEWALS_PER_LEASE
    for worker in cluster.workers.values():
        for tier in worker.store._tiers if worker.store is not None and ttl else ():
            for name, file in tier.books.files.items():
                kept = file.leases or name not in tier.books.retention.ttls
                kept = kept or _has_strangers(worker, tier, file)
                for index, block in file.blocks.items():
                    if not kept and now - block.read_at > late:
                        yield f"{worker.name} still holds {file.name}#{index}, which has expired"


def check_guests(cluster: SimCluster) -> Iterator[str]:
    """Copies for a crowd go when it has gone."""
    now = cluster.world.monotonic()
    late = (
        cluster.plan.heat.idle_seconds + 2 * cluster.plan.cluster.lease_seconds / RENEWALS_PER_LEASE
    )
    for worker in cluster.workers.values():
        for tier in worker.store._tiers if worker.store is not None else ():
            for block in tier.books.guests:
                file = tier.books.files[block.file_version]
                kept = file.leases or _has_strangers(worker, tier, file)
                if not kept and now - file.blocks[block.index].read_at > late:
                    yield f"{worker.name} keeps a copy of {block} that nobody reads"


def check_openers(cluster: SimCluster) -> Iterator[str]:
    """Nothing is taken out of a file while somebody else has it open."""
    for worker in cluster.workers.values():
        for drive in worker.drives.values():
            for hole in drive.holes_under_openers:
                yield f"{worker.name} made a hole under others: {hole}"


def _has_strangers(worker: SimWorker, tier: Tier, file: CachedFile) -> bool:
    """Say whether anybody but the worker has a file open."""
    inode = worker.drives[tier.config.folder].files.get(file.name)
    return inode is not None and inode.is_shared(file.handle)
