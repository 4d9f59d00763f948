"""Records that outlive the process which wrote them, torn ends included."""

import os

import pytest

from cachefs.fuse.keeping import keptmemory
from cachefs.fuse.keeping.keptmemory import KeptMemory, make_memory
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()
PAGE = 4096
RECORDS = [{"kind": "tree", "tree": n, "dataset": f"d\n{n}"} for n in range(3)]


@pytest.fixture
def descriptor():
    made = make_memory()
    yield made
    os.close(made)


def memory(descriptor):
    return KeptMemory(RUNTIME, descriptor)


def test_a_successor_reads_what_was_written_in_order(descriptor):
    first = memory(descriptor)
    for record in RECORDS:
        first.append(record)
    assert first.records() == memory(descriptor).records() == RECORDS


def test_a_successor_goes_on_where_another_ended(descriptor):
    for record in RECORDS:
        memory(descriptor).append(record)
    assert memory(descriptor).records() == RECORDS


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_torn_record_is_cut_off_and_does_not_spoil_the_next(descriptor, cut):
    first = memory(descriptor)
    for record in RECORDS:
        first.append(record)
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - cut)
    second = memory(descriptor)
    assert second.records() == RECORDS[:2]
    second.append({"kind": "after"})
    assert memory(descriptor).records() == [*RECORDS[:2], {"kind": "after"}]


def test_a_flipped_bit_ends_what_is_believed(descriptor):
    first = memory(descriptor)
    for record in RECORDS:
        first.append(record)
    log = os.pread(descriptor, 10_000, PAGE)
    at = PAGE + log.index(b"\n") + 20  # in the second record
    byte = os.pread(descriptor, 1, at)
    os.pwrite(descriptor, bytes([byte[0] ^ 1]), at)
    assert memory(descriptor).records() == RECORDS[:1]


def keyed(number, times):
    return {"kind": "mode", "key": f"mode {number}", "times": times, "filling": "x" * 200}


def churn(to, rounds):
    """Write the state of ten things again and again, between records that stay."""
    for times in range(rounds):
        if times % 500 == 0:
            to.append({"kind": "tree", "tree": times})
        to.append(keyed(times % 10, times))


def expected(rounds):
    stay = [{"kind": "tree", "tree": times} for times in range(0, rounds, 500)]
    return stay, [keyed(times % 10, times) for times in range(rounds - 10, rounds)]


def test_a_record_with_a_key_takes_the_place_of_earlier_ones_and_the_memory_stays_small(descriptor):
    churn(memory(descriptor), 20_000)
    assert os.fstat(descriptor).st_size < 2_000_000
    records = memory(descriptor).records()
    stay, newest = expected(20_000)
    assert [each for each in records if each["kind"] == "tree"] == stay
    assert [each for each in records if each["kind"] == "mode"] == newest


def test_whenever_the_writer_is_killed_every_record_is_there(descriptor, monkeypatch):
    # The last write, before any other, is the one that does not happen: at each place in turn.
    class Killed(BaseException):
        pass

    real = os.pwrite
    monkeypatch.setattr(keptmemory, "_GARBAGE_BYTES_MIN", 8000)
    for allowed in range(250):
        os.ftruncate(descriptor, 0)
        left, promised = allowed, []

        def pwrite(*arguments):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*arguments)

        monkeypatch.setattr(os, "pwrite", pwrite)
        try:
            writer = memory(descriptor)
            for times in range(300):
                writer.append(keyed(times % 10, times))
                promised.append(times)
        except Killed:
            pass
        monkeypatch.setattr(os, "pwrite", real)
        records = memory(descriptor).records()
        newest = {each["key"]: each["times"] for each in records}
        for times in promised[-10:]:
            # The one that was being written may be there already.
            assert newest[f"mode {times % 10}"] in (times, times + 10)
