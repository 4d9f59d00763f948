"""When what a worker awaits will be there, and who sends it."""

import pytest

from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import FileEntry
from cachefs.core.names import DatasetName
from cachefs.ports import FileRef
from cachefs.workers.filling.fills import Underway
from cachefs.workers.filling.warming import JobTerms, WarmLeft
from cachefs.workers.reporting.traffic import GUESSED_RATE, Pace, Sending, Traffic

BLOCK = 100_000


def file(name, size=1_000_000, dataset="model"):
    entry = FileEntry(name, size, "t", "", FileVersionId(name * 40))
    return FileRef(
        dataset=DatasetName.parse(dataset), version="v", entry=entry, pool="default", replicas=1
    )


A, B, C = file("a"), file("b", 250_000), file("c", dataset="other")


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


class World:
    """A worker that has filled some bytes."""

    def __init__(self, *, begun=(), queued=(), jobs=()):
        self.clock = Clock()
        self.underway = Underway(tuple(begun), tuple(queued), tuple(jobs))
        self.filled = 0
        self.sending = Sending()
        self.traffic = Traffic(
            self.clock,
            block_size=BLOCK,
            underway=lambda _limit: self.underway,
            filled_bytes=lambda: self.filled,
            sending=self.sending,
        )

    def at_pace(self, rate):
        """Report once blocks have come in at a rate."""
        self.traffic.report()
        self.clock.now += 1
        self.filled += rate
        return self.traffic.report()


def test_what_is_begun_comes_before_what_reads_wait_for_and_that_before_warm_ups():
    jobs = [WarmLeft(JobTerms(), ((C, 0), (C, 1)), 0)]
    world = World(begun=[(A, 3, "origin")], queued=[(A, 4), (B, 2)], jobs=jobs)
    report = world.at_pace(100_000)
    # A's blocks 3 and 4 are 200 kB, B's last one 50, C's two 200.
    assert [(each.file_version[0], each.mask) for each in report.awaited] == [
        ("a", 0b11000),
        ("b", 0b100),
        ("c", 0b11),
    ]
    assert [each.seconds for each in report.awaited] == pytest.approx([2.0, 2.5, 4.5])
    assert (report.queued_bytes, report.queued_reads_bytes) == (350_000, 150_000)


def test_warm_ups_take_turns_and_one_with_a_rate_keeps_it():
    jobs = [
        WarmLeft(JobTerms(), ((A, 0), (A, 1)), 0),
        WarmLeft(JobTerms(rate=10_000.0), ((B, 0),), 0),
    ]
    report = World(jobs=jobs).at_pace(100_000)
    seconds = {each.file_version[0]: each.seconds for each in report.awaited}
    assert seconds == pytest.approx({"a": 4.0, "b": 10.0})


def test_blocks_beyond_the_limit_are_queued_bytes_all_the_same():
    report = World(jobs=[WarmLeft(JobTerms(), ((A, 0),), 7)]).traffic.report()
    assert report.queued_bytes == 800_000


def test_transfers_are_told_apart_by_who_sends():
    begun = [
        (A, 0, "origin"),
        (A, 1, "origin"),
        (C, 0, "origin"),
        (A, 2, "worker w2"),
        (A, 3, ""),
    ]
    report = World(begun=begun).traffic.report()
    assert report.from_origins == {"model": 2, "other": 1}
    assert report.from_workers == {"w2": 1}


def test_what_is_sent_is_counted_while_it_is_sent():
    world = World()
    with world.sending.of("disk"), world.sending.of("memory"):
        report = world.traffic.report()
    assert (report.sending, report.from_disk) == (2, 1)
    assert world.traffic.report().sending == 0


def test_before_blocks_have_come_their_rate_is_a_guess():
    pace = Pace()
    assert pace.note(now=0, total=0, busy=True) == GUESSED_RATE
    assert pace.note(now=5, total=0, busy=True) == GUESSED_RATE
    assert pace.note(now=6, total=7000, busy=True) == pytest.approx(7000)


def test_the_pace_follows_what_happens_and_a_pause_is_no_standstill():
    pace = Pace()
    pace.note(now=0, total=0, busy=True)
    pace.note(now=1, total=1000, busy=True)
    assert pace.note(now=60, total=1000, busy=False) == pytest.approx(1000)
    pace.note(now=63, total=1000, busy=True)
    assert pace.note(now=90, total=1000 + 27 * 50_000, busy=True) == pytest.approx(50_000, rel=0.01)


def test_a_standstill_takes_ever_longer():
    pace = Pace()
    pace.note(now=0, total=0, busy=True)
    pace.note(now=1, total=1_000_000, busy=True)
    rates = [pace.note(now=1 + 3 * n, total=1_000_000, busy=True) for n in range(1, 4)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 60_000
