"""The desk: each object is looked at by one thread at a time, again when it is due, later when it failed."""

import threading

import pytest

from cachefs.errors import CoordinatorUnavailableError
from cachefs.k8s.operator.desk import Desk
from cachefs.transport.runtime import ThreadRuntime

SECONDS = 10.0


class Keeper:
    """Looks as it is told to; says what it was asked."""

    name = "things"
    watched = ()

    def __init__(self, there=()):
        self.there = there
        self.looks = []
        self.look = lambda _: None
        self._changed = threading.Condition()
        self._busy = set()

    def keep(self, namespace, name):
        with self._changed:
            assert name not in self._busy, "two look at one object"
            self._busy.add(name)
        try:
            return self.look(name)
        finally:
            with self._changed:
                self._busy.discard(name)
                self.looks.append(name)
                self._changed.notify_all()

    def sweep(self):
        return tuple(("team", name) for name in self.there)

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.looks) >= count, SECONDS), self.looks


@pytest.fixture
def open_desk():
    desks = []

    def begin(keeper):
        desk = Desk(ThreadRuntime(), [keeper])
        desks.append(desk)
        desk.start()
        return desk

    yield begin
    for desk in desks:
        desk.close()


def test_what_is_there_at_the_beginning_is_looked_at(open_desk):
    keeper = Keeper(there=("a", "b"))
    open_desk(keeper)
    keeper.wait(2)
    assert sorted(keeper.looks) == ["a", "b"]


def test_what_is_put_on_the_desk_while_it_is_looked_at_is_looked_at_once_more(open_desk):
    keeper, begun, go_on = Keeper(), threading.Event(), threading.Event()

    def slow(_):
        begun.set()
        assert go_on.wait(SECONDS)

    keeper.look = slow
    desk = open_desk(keeper)
    desk.put("things", "team", "a")
    assert begun.wait(SECONDS)
    for _ in range(5):
        desk.put("things", "team", "a")
    go_on.set()
    keeper.wait(2)
    desk.close()
    assert keeper.looks == ["a", "a"]


def test_an_object_is_looked_at_again_when_the_look_said(open_desk):
    keeper = Keeper()
    keeper.look = lambda _: 0.0 if len(keeper.looks) < 3 else None
    desk = open_desk(keeper)
    desk.put("things", "team", "a")
    keeper.wait(4)
    desk.close()
    assert keeper.looks == ["a"] * 4


@pytest.mark.parametrize("error", [CoordinatorUnavailableError("gone"), RuntimeError("a bug")])
def test_a_look_that_failed_is_repeated_and_others_go_on(open_desk, error):
    keeper = Keeper()

    def look(name):
        if name == "bad" and "bad" not in keeper.looks:
            raise error

    keeper.look = look
    desk = open_desk(keeper)
    desk.put("things", "team", "bad")
    desk.put("things", "team", "good")
    keeper.wait(3)
    assert sorted(keeper.looks) == ["bad", "bad", "good"]
    desk.close()
    seen = desk.statistics()
    assert (seen.looks, seen.failures) == ({"things": 3}, {"things": 1})


def test_what_failed_is_looked_at_at_once_when_it_has_changed(open_desk):
    keeper = Keeper()

    def fail(_):
        raise CoordinatorUnavailableError("gone")

    keeper.look = fail
    desk = open_desk(keeper)
    for count in range(1, 12):
        # After some failures the pause alone would take minutes.
        desk.put("things", "team", "a")
        keeper.wait(count)


def test_a_sweep_does_not_hurry_what_failed(open_desk):
    keeper = Keeper(there=("a",))

    def fail(_):
        raise CoordinatorUnavailableError("gone")

    keeper.look = fail
    desk = open_desk(keeper)
    keeper.wait(1)
    for _ in range(20):
        desk._piles["things"].sweep()
    desk.close()
    assert len(keeper.looks) <= 2


def test_a_sweep_is_not_repeated_because_something_else_happens(open_desk):
    keeper, sweeps = Keeper(), []
    keeper.sweep = lambda: sweeps.append(1) or ()
    desk = open_desk(keeper)
    for number in range(20):
        desk.put("things", "team", f"{number}")
        keeper.wait(number + 1)
    assert len(sweeps) == 1


def test_a_sweep_that_fails_ends_nothing(open_desk):
    keeper = Keeper()

    def fail():
        raise CoordinatorUnavailableError("gone")

    keeper.sweep = fail
    desk = open_desk(keeper)
    desk.put("things", "team", "a")
    keeper.wait(1)
