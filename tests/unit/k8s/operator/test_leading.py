"""The lease: one leads, the next takes over when it is gone, and a holder stops in time."""

import copy
from random import Random

import pytest

from cachefs.errors import ApiServerUnavailableError, ConflictError
from cachefs.k8s.operator.leading import Leading, Times

TIMES = Times(lease_seconds=15.0, renew_seconds=10.0, retry_seconds=2.0)


class World:
    """A lease, and a clock for each contender; clocks differ as they like."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.down = False
        self.on_write = lambda: None

    def get(self, kind, name, namespace):
        if self.down:
            raise ApiServerUnavailableError("gone")
        return copy.deepcopy(self.lease)

    def create(self, document):
        if self.lease is not None:
            raise ConflictError("there")
        self._keep(document)

    def replace(self, document):
        self.on_write()
        if document["metadata"]["resourceVersion"] != str(self.version):
            raise ConflictError("changed")
        self._keep(document)

    def _keep(self, document):
        self.version += 1
        self.lease = copy.deepcopy(document)
        self.lease["metadata"]["resourceVersion"] = str(self.version)

    @property
    def holder(self):
        return self.lease["spec"].get("holderIdentity")


class Condition:
    def __init__(self, runtime):
        self.runtime = runtime

    def __enter__(self):
        return True

    def __exit__(self, *_):
        return None

    def wait(self, seconds=None):
        self.runtime.now += seconds
        if self.runtime.now > self.runtime.ends_at:
            raise TimeoutError
        self.runtime.on_wait()
        return False

    def notify_all(self):
        pass


class Runtime:
    """A clock that waiting moves; threads are kept for the test to run."""

    def __init__(self, now=0.0):
        self.now = now
        self.ends_at = 1e9
        self.random = Random(7)
        self.tasks = {}
        self.on_wait = lambda: None

    def monotonic(self):
        return self.now

    def wall(self):
        return 1.7e9 - self.now  # wrong on purpose: nobody may rely on it

    def condition(self):
        return Condition(self)

    def start(self, name, body):
        self.tasks[name] = body
        return self

    def join(self, seconds=None):
        return True


def contender(world, identity, *, now=0.0):
    runtime = Runtime(now)
    lost = []
    leading = Leading(
        runtime,
        world,
        namespace="cachefs",
        identity=identity,
        lost=lambda: lost.append(runtime.now),
        times=TIMES,
    )
    return leading, runtime, lost


def try_for(leading, runtime, seconds):
    """Try for so long; say whether it leads."""
    runtime.ends_at = runtime.now + seconds
    try:
        return leading.acquire(lambda: False)
    except TimeoutError:
        return False


def test_the_first_one_leads_and_another_does_not():
    world = World()
    one, clock, _ = contender(world, "one")
    other, other_clock, _ = contender(world, "other", now=500.0)
    assert try_for(one, clock, 1.0)
    assert not try_for(other, other_clock, 14.0)
    assert world.holder == "one"


def test_a_lease_that_does_not_change_for_its_time_is_taken_whatever_the_clocks_say():
    world = World()
    one, clock, _ = contender(world, "one", now=9000.0)
    try_for(one, clock, 1.0)
    other, other_clock, _ = contender(world, "other")
    assert try_for(other, other_clock, 20.0)
    assert other_clock.now >= 15.0
    assert (world.holder, world.lease["spec"]["leaseTransitions"]) == ("other", 1)


def test_a_lease_that_is_renewed_is_not_taken():
    world = World()
    one, clock, _ = contender(world, "one")
    try_for(one, clock, 1.0)
    other, other_clock, _ = contender(world, "other")
    other_clock.on_wait = one._attempt
    assert not try_for(other, other_clock, 100.0)


def test_of_two_that_write_at_once_one_is_refused():
    world = World()
    one, clock, _ = contender(world, "one")
    try_for(one, clock, 1.0)
    one.close()
    other, other_clock, _ = contender(world, "other")
    third, third_clock, _ = contender(world, "third")

    def overtake():
        world.on_write = lambda: None
        assert try_for(third, third_clock, 1.0)

    world.on_write = overtake
    assert not try_for(other, other_clock, 5.0)
    assert world.holder == "third"


def test_who_cannot_renew_stops_before_another_may_begin():
    world = World()
    one, clock, lost = contender(world, "one")
    try_for(one, clock, 1.0)
    world.down = True
    clock.ends_at = 1e9
    clock.tasks["lease-watch"]()
    assert lost == [pytest.approx(10.0)]
    assert lost[0] < TIMES.lease_seconds
    assert not one.leads


def test_a_renewal_counts_from_before_its_call_was_made():
    world = World()
    one, clock, _ = contender(world, "one")
    try_for(one, clock, 1.0)

    def slow():
        clock.now += 6.0

    world.on_write = slow
    clock.ends_at = clock.now + 3.0
    with pytest.raises(TimeoutError):
        clock.tasks["lease"]()
    assert one._renewed_at < 3.0


def test_who_ends_in_order_gives_the_lease_back():
    world = World()
    one, clock, _ = contender(world, "one")
    try_for(one, clock, 1.0)
    one.close()
    assert world.holder is None
    other, other_clock, _ = contender(world, "other")
    assert try_for(other, other_clock, 0.5)


def test_who_does_not_hold_it_any_more_gives_nothing_back():
    world = World()
    one, clock, _ = contender(world, "one")
    try_for(one, clock, 1.0)
    other, other_clock, _ = contender(world, "other")
    try_for(other, other_clock, 20.0)
    one.close()
    assert world.holder == "other"
