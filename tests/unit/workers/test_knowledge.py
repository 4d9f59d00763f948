"""What a worker knows of digests, and whom it asks how often."""

import pytest

from cachefs.errors import CoordinatorUnavailableError
from cachefs.testing.blocks import make_file
from cachefs.workers.knowledge import DIGESTS_SECONDS, SILENCE_SECONDS, Knowledge

FILE = make_file("a", 200)


class Clock:
    def __init__(self, now):
        self.now = now

    def monotonic(self):
        return self.now


class Coordinator:
    """Knows some digests, or is down; counts how often it was asked."""

    def __init__(self):
        self.asked = 0
        self.down = False
        self.known = ()

    def digests(self, file, *, deadline):
        self.asked += 1
        if self.down:
            raise CoordinatorUnavailableError("down")
        return self.known


@pytest.fixture
def coordinator():
    return Coordinator()


@pytest.fixture
def clock():
    return Clock(1000.0)


@pytest.fixture
def knowledge(clock, coordinator):
    return Knowledge(clock, coordinator)


def ask(knowledge):
    return tuple(knowledge.digests(FILE, deadline=0.0))


def test_what_is_known_whole_is_asked_for_once(knowledge, coordinator, clock):
    coordinator.known = (b"1", b"2")
    for _ in range(3):
        assert ask(knowledge) == (b"1", b"2")
        clock.now += 100.0
    assert coordinator.asked == 1


def test_a_digest_that_nobody_knows_is_not_asked_for_with_each_block(knowledge, coordinator, clock):
    for _ in range(5):
        assert ask(knowledge) == ()
    coordinator.known = (b"1", None)
    clock.now += DIGESTS_SECONDS
    for _ in range(5):
        assert ask(knowledge) == (b"1", None)
    assert coordinator.asked == 2


def test_the_first_question_is_asked_however_young_the_machine_is(coordinator):
    coordinator.known = (b"1",)
    assert ask(Knowledge(Clock(0.001), coordinator)) == (b"1",)


def test_a_coordinator_that_is_down_is_an_error_while_nothing_is_known(
    knowledge, coordinator, clock
):
    coordinator.down = True
    for _ in range(3):
        with pytest.raises(CoordinatorUnavailableError):
            ask(knowledge)
    assert coordinator.asked == 1, "whoever comes next need not wait for it"
    coordinator.down, coordinator.known = False, (b"1", None)
    clock.now += SILENCE_SECONDS
    assert ask(knowledge) == (b"1", None)
    coordinator.down = True
    clock.now += DIGESTS_SECONDS
    assert ask(knowledge) == (b"1", None), "what is known never changes"
