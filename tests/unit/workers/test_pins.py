"""Pins that arrive on two ways, in any order: the newest decision stands."""

import pytest

from cachefs.core.blocks import FileVersionId
from cachefs.core.eviction import Retention
from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.pins import Pins


class Store:
    """Remembers what it must keep."""

    def __init__(self):
        self.kept = None

    def set_pins(self, pinned, ttls):
        self.kept = "".join(sorted(pinned))


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def pins(store):
    return Pins(ThreadRuntime(), store)


def keeping(name, revision):
    return Retention(frozenset({FileVersionId(name)}), {}, revision)


def test_pins_pushed_in_the_wrong_order_leave_the_newest(pins, store):
    assert pins.push(keeping("b", 2)) == 2
    assert pins.push(keeping("a", 1)) == 2
    assert pins.push(keeping("again", 2)) == 2
    assert (store.kept, pins.revision) == ("b", 2)


def test_what_a_renewal_brings_is_obeyed(pins, store):
    pins.renew(keeping("a", 3), named=0)
    assert (store.kept, pins.revision) == ("a", 3)


def test_an_answer_that_was_on_its_way_does_not_undo_what_was_pushed_meanwhile(pins, store):
    named = pins.revision
    pins.push(keeping("b", 2))
    pins.renew(keeping("a", 1), named=named)
    assert (store.kept, pins.revision) == ("b", 2)


def test_a_coordinator_whose_store_was_set_back_is_believed_by_the_next_renewal(pins, store):
    pins.push(keeping("b", 20))
    assert pins.push(keeping("a", 3)) == 20
    pins.renew(keeping("a", 3), named=20)
    assert (store.kept, pins.revision) == ("a", 3)


def test_after_a_registration_any_revision_is_news_and_the_pins_stay_until_then(pins, store):
    pins.push(keeping("b", 20))
    pins.forget_revision()
    assert (store.kept, pins.revision) == ("b", 0)
    pins.push(keeping("a", 1))
    assert (store.kept, pins.revision) == ("a", 1)
