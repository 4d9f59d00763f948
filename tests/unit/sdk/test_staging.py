"""Staging: a few pinned buffers, copies that overlap, and no buffer used twice at once."""

import math
import threading

import pytest

from cachefs.errors import DeadlineError
from cachefs.sdk.safetensors.header import TensorEntry
from cachefs.sdk.safetensors.plan import make_batches, want
from cachefs.sdk.safetensors.streaming import DevicePlace, Job, Stream
from cachefs.sdk.staging import Staging
from cachefs.transport.runtime import ThreadRuntime
from tests.unit.sdk.sources import MemorySource

np = pytest.importorskip("numpy")

RUNTIME = ThreadRuntime()
SIZE = 4096


class FakeCopier:
    """A device whose copies happen only when somebody waits for them, or when it is told to.

    So a buffer that is filled again too early gives wrong bytes.
    """

    def __init__(self, *, eager=False):
        self.pinned_buffers = []
        self.allocated = []
        self.pending = []
        self.most_pending = 0
        self.is_dead = False
        self._eager = eager
        self._lock = threading.Lock()

    def pin(self, size):
        buffer = bytearray(size)
        self.pinned_buffers.append(buffer)
        return memoryview(buffer), buffer

    def allocate(self, size):
        self.allocated.append(bytearray(b"\xee" * size))
        return self.allocated[-1]

    def start(self, pinned, length, memory, position):
        def copy():
            memory[position : position + length] = pinned[:length]

        ticket = [copy]
        with self._lock:
            self.pending.append(ticket)
            self.most_pending = max(self.most_pending, len(self.pending))
        if self._eager:
            self.is_over(ticket, 0)
        return ticket

    def is_over(self, ticket, timeout_seconds):
        if self.is_dead:
            return False
        with self._lock:
            if ticket:
                ticket.pop()()
                self.pending.remove(ticket)
        return True

    def view(self, memory, position, dtype, shape):
        assert dtype == "U8"
        return np.frombuffer(memory, np.uint8, math.prod(shape), position).reshape(shape)


def stream_of(copier, content, *, count=2, threads=2):
    from cachefs.sdk.numpy import FRAMEWORK  # noqa: PLC0415

    entries = [
        TensorEntry(f"t{at}", "U8", (1000,), at * 1000, 1000) for at in range(len(content) // 1000)
    ]
    (batch,) = make_batches([want(each) for each in entries], limit_bytes=None)
    staging = Staging(RUNTIME, copier, size=SIZE, count=count)
    place = DevicePlace(FRAMEWORK, copier, staging)
    return staging, Stream(RUNTIME, [Job(MemorySource(content), batch)], place, threads=threads)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_tensors_on_a_device_are_the_file_s(eager, count):
    content = bytes(at * 7 % 251 for at in range(100_000))
    copier = FakeCopier(eager=eager)
    staging, stream = stream_of(copier, content, count=count)
    with staging, stream:
        for at, (name, found) in enumerate(stream):
            assert name == f"t{at}"
            assert found.tobytes() == content[at * 1000 : (at + 1) * 1000]
    assert len(copier.pinned_buffers) <= count
    assert [len(each) for each in copier.allocated] == [100_000]


def test_reading_goes_on_while_copies_are_under_way():
    copier = FakeCopier()
    staging, stream = stream_of(copier, bytes(100_000), count=4)
    with staging, stream:
        list(stream)
    assert copier.most_pending >= 2


def test_a_device_that_does_not_copy_is_an_error_and_no_hang():
    copier = FakeCopier()
    copier.is_dead = True
    staging, stream = stream_of(copier, bytes(100_000), count=2)
    with stream, pytest.raises(DeadlineError):
        list(stream)
    copier.is_dead = False
    staging.close()


def write(content):
    def read(into):
        into[:] = content

    return read


def test_a_failed_read_gives_the_buffer_back():
    copier = FakeCopier()
    staging = Staging(RUNTIME, copier, size=SIZE, count=1)
    memory = copier.allocate(10)

    def fail(into):
        raise OSError("the disk")

    for _ in range(3):
        with pytest.raises(OSError, match="the disk"):
            staging.bring(10, memory, 0, fail)
    staging.settle(staging.bring(10, memory, 0, write(b"0123456789")))
    assert memory == b"0123456789"
    staging.close()


def test_closing_waits_for_the_copies_under_way():
    copier = FakeCopier()
    staging = Staging(RUNTIME, copier, size=SIZE, count=2)
    memory = copier.allocate(4)
    staging.bring(4, memory, 0, write(b"abcd"))
    assert memory != b"abcd"
    staging.close()
    assert memory == b"abcd"
    assert copier.pending == []
