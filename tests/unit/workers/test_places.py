"""Which fills may run: first in, first out, and spare places for whom a silent origin keeps waiting."""

from types import SimpleNamespace

import pytest

from cachefs.core.names import DatasetName
from cachefs.workers.filling.places import SPARE_PLACES, Places

LIMIT = 3


class Queue:
    """Places, and fills that are known by their dataset and a number."""

    def __init__(self):
        self.places = Places(LIMIT)

    def put(self, *names):
        for name in names:
            dataset = DatasetName("default", name[0])
            self.places.put(SimpleNamespace(name=name, file=SimpleNamespace(dataset=dataset)))

    def take(self):
        """Give places to all who may have one now; return their names."""
        taken = {}
        while (fill := self.places.next()) is not None:
            self.places.take(fill)
            taken[fill.name] = fill
        return taken


@pytest.fixture
def queue():
    return Queue()


def test_places_that_nobody_else_wants_are_all_for_one_dataset(queue):
    queue.put("a1", "a2", "a3", "a4", "a5")
    running = queue.take()
    assert list(running) == ["a1", "a2", "a3"], "the spare ones are not for more of the same"
    assert len(queue.places) == 2
    queue.places.leave(running["a2"])
    assert list(queue.take()) == ["a4"]


def test_a_spare_place_is_for_a_dataset_of_which_nothing_is_being_filled(queue):
    queue.put("a1", "a2", "a3", "a4", "b1", "b2", "c1", "d1")
    running = queue.take()
    assert list(running) == ["a1", "a2", "a3", "b1", "c1"]
    assert len(running) == LIMIT + SPARE_PLACES
    queue.places.leave(running["c1"])
    assert list(queue.take()) == ["d1"], "who has one already has none of the spare ones"


def test_a_spare_place_is_given_back_before_the_next_in_line_has_one(queue):
    queue.put("a1", "a2", "a3", "b1", "a4", "b2")
    running = queue.take()
    assert list(running) == ["a1", "a2", "a3", "b1"]
    queue.places.leave(running["a1"])
    assert list(queue.take()) == [], "as many run as there are places without the spare ones"
    queue.places.leave(running["b1"])
    assert list(queue.take()) == ["a4", "b2"], "b has none any more, and may have a spare one again"
