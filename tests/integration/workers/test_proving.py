"""Files whose digest is known beforehand, over whole workers, a real origin and real readers."""

import hashlib
from contextlib import closing
from random import Random

import pytest

from cachefs.client.reader import Reader
from cachefs.config.schema import ClusterConfig, FillConfig, ReaderConfig, TierConfig, WorkerConfig
from cachefs.config.secrets import Secret
from cachefs.core import placement
from cachefs.core.blocks import BlockId, block_count
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest, name_file_version
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError, DeadlineError, DeniedError, IntegrityError
from cachefs.ports import BlockRequest, CancelToken, ResolvedVersion
from cachefs.testing.faulty_origin import Fault, FaultyOrigin, etag
from cachefs.testing.memory.coordinator import MemoryCoordinator
from cachefs.transport.blocks import HttpBlockSource
from cachefs.transport.local import LocalNode
from cachefs.transport.metadata import HttpMetadata
from cachefs.transport.nearby import NearbyBlockSource
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire.digests import digest_size, digester, unpack
from cachefs.workers.process import Worker

BLOCK = 64 * 1024
TOKEN = Secret("the-token")
KEY = "d/model.bin"
CONTENT = Random(3).randbytes(9 * BLOCK + 4321)
COUNT = block_count(len(CONTENT), BLOCK)
DIGEST = digester("xxh3-128")
MEMORY_SECONDS = 0.2


class Cluster:
    """Workers around an HTTP origin, with one file whose sha256 is known."""

    def __init__(self, folder, origin, workers):
        self.folder = folder
        self.origin = origin
        self.runtime = ThreadRuntime()
        self.config = ClusterConfig(block_size=BLOCK, lease_seconds=2.0)
        self.coordinator = MemoryCoordinator(self.runtime, self.config, TOKEN).start()
        spec = OriginSpec(f"{origin.url}/d/")
        token, digest = etag(CONTENT), f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
        name = name_file_version(
            spec.identity, path="model.bin", size=len(CONTENT), token=token, digest=digest
        )
        entry = FileEntry("model.bin", len(CONTENT), token, digest, name)
        self.version = ResolvedVersion(
            DatasetName("default", "m"), spec, "http", "default", 1, Manifest.of([entry])
        )
        self.file = self.version.file(entry)
        self.coordinator.versions.append(self.version)
        self.workers = {}
        self.closing = []
        for number in range(workers):
            self.add(f"w{number}")
        self.requests_before = origin.requests[KEY]

    def add(self, name):
        tier = self.folder / f"{name}-tier"
        tier.mkdir(mode=0o700, exist_ok=True)
        config = WorkerConfig(
            name=name,
            state_folder=self.folder / name,
            tiers=(TierConfig(folder=tier, medium="disk", capacity_bytes=64 << 20),),
            coordinator=self.coordinator.address,
            fill=FillConfig(
                backoff_seconds=0.01,
                peer_timeout_seconds=1.0,
                failure_memory_seconds=MEMORY_SECONDS,
                attempts_limit=2,
            ),
        )
        worker = self.workers[name] = Worker(config, self.config, TOKEN, self.runtime)
        worker.start()
        self.wait_until(self.agree)
        return worker

    def agree(self):
        """Say whether all workers see the same members, all of them."""
        members = {worker.member for worker in self.workers.values()}
        views = [worker.knowledge.view(deadline=0.0) for worker in self.workers.values()]
        return all(set(view.members) == members for view in views)

    @property
    def view(self):
        return next(iter(self.workers.values())).knowledge.view(deadline=0.0)

    def owner(self, index):
        block = BlockId(self.file.entry.file_version, index)
        return placement.order(block, self.view.members, pool="default")[0].worker

    def reader(self, *, local=False, seconds=10.0):
        config = ReaderConfig(deadline_seconds=seconds, local=local)
        addresses = [member.data_address for member in self.view.members]
        metadata = HttpMetadata(self.runtime, None, TOKEN, workers=addresses)
        blocks = self.source()
        nearby = NearbyBlockSource(self.runtime, TOKEN, blocks, block_size=BLOCK)
        node = LocalNode(self.runtime, TOKEN, block_size=BLOCK, digest="xxh3-128")
        reader = Reader(
            self.runtime,
            config,
            self.config,
            metadata=metadata,
            blocks=nearby if local else blocks,
            local=node if local else None,
        )
        self.closing += [reader, metadata, blocks, node, nearby]
        return reader

    def source(self, *, token=TOKEN, unproven=False):
        return HttpBlockSource(self.runtime, token, block_size=BLOCK, unproven=unproven)

    def read(self, reader, offset=0, length=1 << 30):
        with reader.open("m").file("model.bin") as file:
            return file.read(offset, length)

    def origin_reads(self):
        return self.origin.requests[KEY] - self.requests_before

    def reported(self):
        """Digests that the coordinator has heard of."""
        return self.coordinator.known.get(self.file.entry.file_version, {})

    def wait_until(self, condition, seconds=10.0):
        deadline = self.runtime.monotonic() + seconds
        while not condition():
            assert self.runtime.monotonic() < deadline, "it did not happen"
            self.runtime.sleep(0.01)

    def close(self):
        for each in self.closing:
            each.close()
        for worker in self.workers.values():
            worker.close()
        self.coordinator.close()


@pytest.fixture
def origin():
    with FaultyOrigin({KEY: CONTENT}) as running:
        yield running


@pytest.fixture
def cluster(tmp_path, origin):
    with closing(Cluster(tmp_path, origin, 3)) as built:
        yield built


@pytest.mark.parametrize("local", [False, True], ids=["remote", "local"])
def test_a_file_that_matches_is_read_and_the_origin_pays_once(cluster, local):
    first, second = cluster.reader(local=local), cluster.reader(local=local)
    assert cluster.read(first) == CONTENT
    assert cluster.read(second, BLOCK // 2, 3 * BLOCK) == CONTENT[BLOCK // 2 : 7 * BLOCK // 2]
    assert cluster.read(second) == CONTENT
    assert cluster.origin_reads() == COUNT
    statistics = second.statistics()
    assert statistics.bytes_delivered == len(CONTENT) + 3 * BLOCK
    if local:
        assert statistics.bytes_by_source["local"] > 0


@pytest.mark.parametrize("local", [False, True], ids=["remote", "local"])
def test_a_flipped_byte_at_the_origin_is_an_error_for_every_block_until_it_is_mended(
    cluster, origin, local
):
    origin.fail_always(KEY, Fault("flip"))
    reader = cluster.reader(local=local)
    for index in range(COUNT):
        with pytest.raises(IntegrityError, match="sha256"):
            cluster.read(reader, index * BLOCK, BLOCK)
    assert not cluster.reported(), "a wrong digest would stand for ever"
    origin.heal()
    cluster.runtime.sleep(2 * MEMORY_SECONDS)
    deadline = cluster.runtime.monotonic() + 10
    while True:
        try:
            assert cluster.read(reader) == CONTENT
            break
        except IntegrityError:
            # Refuted several times, and so remembered for longer.
            assert cluster.runtime.monotonic() < deadline
            cluster.runtime.sleep(0.1)
    for index in range(COUNT):
        assert cluster.read(cluster.reader(), index * BLOCK, 10) == CONTENT[index * BLOCK :][:10]


def test_an_origin_that_begins_to_lie_is_found_out_by_the_proof_that_was_made_before(
    cluster, origin
):
    reader = cluster.reader()
    assert cluster.read(reader) == CONTENT
    for worker in cluster.workers.values():
        worker.store.evict([cluster.file.entry.file_version])
    origin.fail_always(KEY, Fault("flip"))
    middle = len(CONTENT) // 2
    assert cluster.read(cluster.reader(), 0, BLOCK) == CONTENT[:BLOCK]
    with pytest.raises(IntegrityError):
        cluster.read(cluster.reader(), middle, 1)


def test_a_wrong_block_that_was_lent_out_is_not_read_through_its_descriptor(cluster, origin):
    origin.fail_always(KEY, Fault("flip"))
    wrong = len(CONTENT) // 2 // BLOCK
    owner = cluster.workers[cluster.owner(wrong)]
    deadline = cluster.runtime.monotonic() + 10
    owner.filler.obtain(cluster.file, wrong, only_cached=False, deadline=deadline).close()
    reader = cluster.reader(local=True)
    with reader.open("m").file("model.bin") as file:
        with pytest.raises(IntegrityError):
            file.read(wrong * BLOCK, BLOCK)
        origin.heal()
        cluster.wait_until(lambda: _read_or_none(file, wrong) is not None)
        assert file.read(wrong * BLOCK, BLOCK) == CONTENT[wrong * BLOCK :][:BLOCK]


def _read_or_none(file, index):
    try:
        return file.read(index * BLOCK, BLOCK)
    except IntegrityError:
        return None


def test_digests_are_reported_only_after_the_proof_and_block_0_with_it(cluster):
    owner = cluster.workers[cluster.owner(0)]
    deadline = cluster.runtime.monotonic() + 10
    owner.filler.obtain(cluster.file, 0, only_cached=False, deadline=deadline).close()
    assert owner.renewal.tell(5)
    name = cluster.file.entry.file_version
    told = [each for renewal in cluster.coordinator.renewals for each in renewal.residency]
    assert [each.resident for each in told if each.file_version == name] == [b""]
    assert not cluster.reported()
    cluster.read(cluster.reader())
    right = {at: DIGEST(CONTENT[at * BLOCK :][:BLOCK]) for at in range(COUNT)}
    cluster.wait_until(lambda: cluster.reported().get(0) == right[0])
    assert cluster.reported().items() <= right.items()


def test_a_proof_is_begun_ahead_by_the_owner_of_the_first_block_only(cluster):
    for worker in cluster.workers.values():
        worker.prover.begin([cluster.file])
    prover = cluster.workers[cluster.owner(0)].prover
    cluster.wait_until(lambda: prover.known(cluster.file) is not None)
    proven = {
        name
        for name, worker in cluster.workers.items()
        if worker.prover.known(cluster.file) is not None
    }
    assert proven == {cluster.owner(0)}
    assert cluster.origin_reads() == COUNT


def test_a_refuted_file_is_told_to_the_coordinator_as_a_failure_that_lasts(cluster, origin):
    origin.fail_always(KEY, Fault("flip"))
    with pytest.raises(IntegrityError):
        cluster.read(cluster.reader())
    cluster.wait_until(
        lambda: any(
            "OriginContentError" in each.failure
            for renewal in cluster.coordinator.renewals
            for each in renewal.failures
        )
    )


def test_the_next_worker_proves_when_the_prover_is_dead(cluster):
    reader = cluster.reader()
    dead = cluster.workers.pop(cluster.owner(0))
    # Killed, not left: the others still believe in it.
    dead.renewal.leave = lambda: None
    dead._stack.close()
    assert cluster.read(reader) == CONTENT


def test_a_prover_that_dies_in_the_middle_costs_no_read(cluster, origin):
    prover = cluster.workers.pop(cluster.owner(0))
    prover.prover.begin([cluster.file])
    cluster.wait_until(lambda: cluster.origin_reads() > COUNT // 2)
    prover.renewal.leave = lambda: None
    prover._stack.close()
    assert cluster.read(cluster.reader()) == CONTENT


def test_a_worker_that_is_started_again_does_not_prove_again(cluster, origin):
    cluster.read(cluster.reader())
    name = cluster.owner(0)
    cluster.workers[name].close()
    worker = cluster.add(name)
    assert worker.prover.known(cluster.file) is not None
    cluster.read(cluster.reader())
    assert cluster.origin_reads() == COUNT


def test_a_proof_on_disk_that_is_damaged_is_made_again(cluster):
    cluster.read(cluster.reader())
    name = cluster.owner(0)
    cluster.workers[name].close()
    path = cluster.folder / name / "proofs" / cluster.file.entry.file_version
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    worker = cluster.add(name)
    assert worker.prover.known(cluster.file) is None
    assert cluster.read(cluster.reader()) == CONTENT
    assert len(path.read_bytes()) > COUNT * digest_size("xxh3-128")
    assert cluster.origin_reads() == COUNT


def test_files_are_proven_while_the_coordinator_is_down(cluster):
    reader = cluster.reader()
    assert reader.open("m").version == cluster.version.manifest.id
    cluster.coordinator.close()
    assert cluster.read(reader) == CONTENT


@pytest.mark.slow
@pytest.mark.parametrize("local", [False, True], ids=["remote", "local"])
def test_a_deadline_says_that_the_file_is_being_verified_and_a_later_read_succeeds(cluster, local):
    last = cluster.workers[cluster.owner(COUNT - 1)]
    obtain = last.filler.obtain
    slow = [True]

    def slowly(file, index, **options):
        while slow[0] and index == COUNT - 1:
            cluster.runtime.sleep(0.05)
            if options["on_wait"] is not None:
                options["on_wait"]()
        return obtain(file, index, **options)

    last.filler.obtain = lambda file, index, **options: slowly(
        file, index, **{"on_wait": None, **options}
    )
    with pytest.raises(DeadlineError) as raised:
        cluster.read(cluster.reader(seconds=2.5, local=local), 0, 10)
    said = str(raised.value)
    assert f"verifying the file against its known digest, {COUNT - 1} of {COUNT}" in said
    assert "cachefs warm m model.bin" in said
    slow[0] = False
    assert cluster.read(cluster.reader(), 0, 10) == CONTENT[:10]
    assert cluster.origin_reads() == COUNT


def test_an_unproven_block_is_not_served_from_cache_but_to_workers(cluster):
    owner = cluster.workers[cluster.owner(1)]
    deadline = cluster.runtime.monotonic() + 10
    owner.filler.obtain(cluster.file, 1, only_cached=False, deadline=deadline).close()
    assert owner.prover.obtain(cluster.file, 1, only_cached=True, deadline=deadline) is None
    assert owner.prover.vouched(cluster.file, [b"1", b"2"]) == [None, None]
    fetched = {}
    for unproven in (False, True):
        with closing(cluster.source(unproven=unproven)) as source:
            request = BlockRequest(
                file=cluster.file,
                index=1,
                into=memoryview(bytearray(BLOCK)),
                only_cached=True,
                deadline=deadline,
                cancel=CancelToken(),
            )
            fetched[unproven] = source.fetch(owner.member, request)
    assert fetched[False] is None
    assert fetched[True].digest == DIGEST(CONTENT[BLOCK : 2 * BLOCK])


def test_a_worker_gives_its_proof_to_those_with_the_token(cluster):
    worker = cluster.workers["w0"]
    deadline = cluster.runtime.monotonic() + 10

    def ask(source, *, only_cached):
        return source.proof(
            worker.member,
            cluster.file,
            only_cached=only_cached,
            deadline=deadline,
            on_wait=lambda _: None,
        )

    with closing(cluster.source()) as source:
        assert ask(source, only_cached=True) is None
        proof = ask(source, only_cached=False)
        assert unpack(proof, 16) == [DIGEST(CONTENT[at * BLOCK :][:BLOCK]) for at in range(COUNT)]
        assert ask(source, only_cached=True) == proof
    with closing(cluster.source(token=Secret("guess"))) as source, pytest.raises(DeniedError):
        ask(source, only_cached=True)
    assert worker.statistics().proof.proven_files == 1


def test_a_file_version_that_is_dropped_takes_its_proof_along(cluster):
    cluster.read(cluster.reader())
    worker = cluster.workers[cluster.owner(0)]
    assert worker.prover.known(cluster.file) is not None
    cluster.coordinator.answer.dropped.append(cluster.file.entry.file_version)
    cluster.wait_until(lambda: worker.prover.known(cluster.file) is None)


def test_an_origin_that_fails_fails_the_reads_with_its_own_error(cluster, origin):
    origin.fail_always(KEY, Fault("status", 403))
    with pytest.raises(CacheFSError, match="origin"):
        cluster.read(cluster.reader())
