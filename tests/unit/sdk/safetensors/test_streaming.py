"""Streams: tensors in order, as they arrive, within a budget, and an error instead of a hang."""

import threading

import pytest

from cachefs.errors import CapacityError
from cachefs.sdk.memory import HUGE_PAGE_BYTES
from cachefs.sdk.safetensors import streaming
from cachefs.sdk.safetensors.header import TensorEntry
from cachefs.sdk.safetensors.plan import make_batches, want
from cachefs.sdk.safetensors.streaming import HostPlace, Job, Stream
from cachefs.transport.runtime import ThreadRuntime
from tests.unit.sdk.sources import MemorySource

pytest.importorskip("numpy")

RUNTIME = ThreadRuntime()
MIB = 1024 * 1024


def host():
    from cachefs.sdk.numpy import FRAMEWORK  # noqa: PLC0415

    return HostPlace(FRAMEWORK)


def jobs_of(*sources, size=1000, limit=None):
    return [
        Job(source, batch)
        for source in sources
        for batch in make_batches(
            [
                want(TensorEntry(f"{source.name}{at}", "U8", (size,), at * size, size))
                for at in range(source.size // size)
            ],
            limit_bytes=limit,
        )
    ]


def content_of(size, seed=3):
    return bytes((at * seed + at // 251) % 256 for at in range(size))


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(HostPlace, "piece_bytes", 4096)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_tensors_come_in_order_and_are_the_file_s(threads):
    sources = [MemorySource(content_of(50_000, seed), f"s{seed}-") for seed in (3, 5)]
    with Stream(RUNTIME, jobs_of(*sources), host(), threads=threads) as stream:
        found = list(stream)
    assert [name for name, _ in found] == [f"s{seed}-{at}" for seed in (3, 5) for at in range(50)]
    for name, tensor in found:
        source = sources[0] if name.startswith("s3") else sources[1]
        at = int(name.partition("-")[2])
        assert tensor.tobytes() == source.content[at * 1000 : (at + 1) * 1000]
    assert all(source.bytes_read == source.size for source in sources)


@pytest.mark.usefixtures("small_pieces")
def test_the_first_tensor_does_not_wait_for_the_last():
    source = MemorySource(content_of(50_000))
    source.gated_from = 4096
    source.gate.clear()
    with Stream(RUNTIME, jobs_of(source), host()) as stream:
        tensors = iter(stream)
        assert next(tensors)[1].tobytes() == source.content[:1000]
        source.gate.set()
        assert len(list(tensors)) == 49


@pytest.mark.usefixtures("small_pieces")
def test_what_came_before_a_failure_is_delivered_and_then_the_failure_raised():
    source = MemorySource(content_of(50_000))
    source.fail_beyond = 20_000
    delivered = []
    with Stream(RUNTIME, jobs_of(source), host(), threads=1) as stream:
        tensors = iter(stream)
        while len(delivered) < 16:  # what lies in the four pieces before the failure
            delivered.append(next(tensors)[1])
        with pytest.raises(OSError, match="fails here"):
            next(tensors)
    assert b"".join(tensor.tobytes() for tensor in delivered) == source.content[:16_000]
    assert source.bytes_read < 20_000


@pytest.mark.usefixtures("small_pieces")
def test_who_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    source = MemorySource(content_of(500_000))
    with Stream(RUNTIME, jobs_of(source), host()) as stream:
        next(iter(stream))
    assert threading.active_count() == before


SIZE = 3 * MIB


class Watch:
    """Counts the bytes of buffers that are alive."""

    def __init__(self, monkeypatch):
        self.now = self.most = 0
        allocate = streaming.allocate

        def counted(size):
            view, owner = allocate(size)
            assert owner is not None
            self.now += size
            self.most = max(self.most, self.now)
            streaming.weakref.finalize(owner, self._gone, size)
            return view, owner

        monkeypatch.setattr(streaming, "allocate", counted)

    def _gone(self, size):
        self.now -= size


def test_a_budget_holds_for_who_drops_each_tensor(monkeypatch):
    watch = Watch(monkeypatch)
    source = MemorySource(content_of(HUGE_PAGE_BYTES) * 30, "t")
    jobs = jobs_of(source, size=SIZE, limit=SIZE)
    total = 0
    with Stream(RUNTIME, jobs, host(), budget_bytes=3 * SIZE) as stream:
        for _, tensor in stream:
            total += tensor.size
            del tensor
    assert total == source.size // SIZE * SIZE
    assert watch.most <= 3 * SIZE
    assert len(jobs) == 20


def test_without_a_budget_reading_does_not_wait_for_the_consumer(monkeypatch):
    watch = Watch(monkeypatch)
    source = MemorySource(bytes(6 * SIZE), "t")
    with Stream(RUNTIME, jobs_of(source, size=SIZE, limit=SIZE), host()) as stream:
        kept = list(stream)
    assert watch.most == 6 * SIZE == sum(tensor.size for _, tensor in kept)


def test_who_keeps_everything_within_a_budget_is_told_and_does_not_hang(monkeypatch):
    monkeypatch.setattr(streaming, "_KEPT_SECONDS", 0.2)
    monkeypatch.setattr(streaming, "_LOOK_SECONDS", 0.05)
    source = MemorySource(bytes(6 * SIZE), "t")
    jobs = jobs_of(source, size=SIZE, limit=SIZE)
    kept = []
    with (
        Stream(RUNTIME, jobs, host(), budget_bytes=3 * SIZE) as stream,
        pytest.raises(CapacityError, match=r"t3: .*copy or drop them"),
    ):
        kept.extend(stream)


def test_who_drops_a_tensor_late_goes_on(monkeypatch):
    monkeypatch.setattr(streaming, "_LOOK_SECONDS", 0.05)
    source = MemorySource(bytes(6 * SIZE), "t")
    jobs = jobs_of(source, size=SIZE, limit=SIZE)
    with Stream(RUNTIME, jobs, host(), budget_bytes=3 * SIZE) as stream:
        tensors = iter(stream)
        kept = [next(tensors) for _ in range(3)]
        timer = threading.Timer(0.3, kept.clear)
        timer.start()
        try:
            assert len([name for name, _ in tensors]) == 3
        finally:
            timer.join()
