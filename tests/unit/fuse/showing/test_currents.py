"""Values that are asked for again when they have become old."""

import threading

import pytest

from cachefs.errors import CoordinatorUnavailableError
from cachefs.fuse.showing.attributes import MOVING_SECONDS, MountOptions, Owner
from cachefs.fuse.showing.currents import Currents, Recent
from cachefs.fuse.showing.memory import NoVersions, VolatileMemory
from cachefs.fuse.showing.trees import Trees
from tests.unit.fuse.worlds import MODEL, Clock


class Source:
    """Answers with numbers that grow, when it is let."""

    def __init__(self):
        self.asked = 0
        self.timeouts = []
        self.failure = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, *, timeout_seconds):
        self.asked += 1
        answer = self.asked
        self.timeouts.append(timeout_seconds)
        self.gate.wait(5)
        if self.failure is not None:
            raise self.failure
        return answer


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def recent(clock, source):
    return Recent(clock, source)


def get(recent, clock):
    return recent.get(deadline=clock.monotonic() + 5)


def test_a_value_is_asked_for_once_in_a_while(recent, clock, source):
    assert [get(recent, clock) for _ in range(3)] == [1, 1, 1]
    clock.ahead += MOVING_SECONDS + 0.01
    assert [get(recent, clock) for _ in range(3)] == [2, 2, 2]


def test_nobody_waits_long_for_a_newer_value(recent, clock, source):
    get(recent, clock)
    clock.ahead += 10
    recent.get(deadline=clock.monotonic() + 100)
    assert source.timeouts[0] == pytest.approx(5, abs=0.5)
    assert source.timeouts[1] <= 2


def test_while_one_asks_the_others_take_the_old_value(recent, clock, source):
    get(recent, clock)
    clock.ahead += 10
    source.gate.clear()
    asker = threading.Thread(target=get, args=(recent, clock))
    asker.start()
    while source.asked < 2:
        pass
    assert get(recent, clock) == 1
    source.gate.set()
    asker.join()
    assert get(recent, clock) == 2


def test_all_wait_for_the_very_first_value(recent, clock, source):
    source.gate.clear()
    got = []
    askers = [threading.Thread(target=lambda: got.append(get(recent, clock))) for _ in range(4)]
    for asker in askers:
        asker.start()
    while source.asked < 1:
        pass
    source.gate.set()
    for asker in askers:
        asker.join()
    assert got == [1, 1, 1, 1]


def test_the_old_value_stays_while_nobody_answers(recent, clock, source):
    get(recent, clock)
    source.failure = CoordinatorUnavailableError("down")
    clock.ahead += 10
    assert get(recent, clock) == 1
    source.failure = None
    clock.ahead += 10
    assert get(recent, clock) == 3


def test_without_any_value_the_failure_is_told_and_remembered_for_a_while(recent, clock, source):
    source.failure = CoordinatorUnavailableError("down")
    for _ in range(3):
        with pytest.raises(CoordinatorUnavailableError):
            get(recent, clock)
    assert source.asked == 1
    source.failure = None
    clock.ahead += 10
    assert get(recent, clock) == 2


def test_without_following_the_version_that_was_first_shown_stays(cloud):
    memory = VolatileMemory()
    trees = Trees(cloud.reader, memory, NoVersions(), Owner.of(MountOptions(uid=7, gid=8)))
    cloud.put("model", {"a": b"1"})
    cloud.put("model", {"a": b"2"})
    first, second = (trees.show(each) for each in cloud.versions[MODEL])
    currents = Currents(cloud.reader, trees, memory, follow=False)
    currents.begin(first)
    currents.begin(second)  # as a thread does that resolved it a moment later
    assert currents.last(MODEL, deadline=0) is first
    assert sum(record["kind"] == "current" for record in memory.records()) == 1
