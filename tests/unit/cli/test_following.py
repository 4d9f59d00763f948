"""Following the pools: what is done with workers that are too few, too many, or cannot hand over."""

import pytest

from cachefs.cli.system.following import GIVE_UP_SECONDS, LINGER_SECONDS, Following
from cachefs.errors import ConflictError, DeadlineError, WorkerUnavailableError
from cachefs.testing.memory.provider import MemoryProvider

DONE = {"blocks": 0, "bytes": 0, "seconds": 0.0, "done": True}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def condition(self):
        return None


class Coordinator:
    """As much of the API as the one who follows asks for."""

    def __init__(self):
        self.pools = {}
        self.members = set()
        self.drains = {}
        self.reports = []

    def want(self, wanted, *, leaving=()):
        self.pools["default"] = {
            "name": "default",
            "wanted": wanted,
            "wanted_by_zone": {},
            "leaving": list(leaving),
            "problem": self.pools.get("default", {}).get("problem", ""),
        }

    def get(self, path, *, timeout_seconds):
        if path == "/v1/view":
            return {"members": [{"worker": name} for name in sorted(self.members)]}
        return {"pools": list(self.pools.values())}

    def post(self, path, body, *, timeout_seconds):
        if path.endswith("/report"):
            self.reports.append(body)
            self.pools["default"]["problem"] = body["problem"]
            return {}
        worker = path.split("/")[3]
        answer = self.drains.get(worker, DONE)
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    def __init__(self, room=100):
        self.clock = Clock()
        self.coordinator = Coordinator()
        self.provider = MemoryProvider(room=room)
        self.following = Following(
            self.clock, self.provider, lambda: self.coordinator, say=lambda _: None
        )

    def look(self, seconds=1.0):
        self.clock.now += seconds
        self.following.look()

    def man(self, wanted):
        self.coordinator.want(wanted)
        self.look()
        self.coordinator.members = {one.worker for one in self.provider.provided()}

    @property
    def names(self):
        return [one.worker for one in self.provider.provided()]


@pytest.fixture
def world():
    return World()


def test_missing_workers_are_started_once(world):
    world.man(3)
    world.look()
    assert world.names == ["worker-1", "worker-2", "worker-3"]


def test_who_leaves_is_stopped_after_it_has_handed_over_and_readers_know(world):
    world.man(2)
    world.coordinator.drains["worker-2"] = {"blocks": 5, "bytes": 5, "seconds": 1.0, "done": False}
    world.coordinator.want(1)
    world.look()
    world.look(30.0)
    assert world.provider.stopped == []
    world.coordinator.drains["worker-2"] = DONE
    world.look()
    world.coordinator.members.discard("worker-2")
    world.look()
    assert world.provider.stopped == []
    world.look(LINGER_SECONDS)
    assert world.provider.stopped == ["worker-2"]
    assert world.names == ["worker-1"]


def test_the_last_ones_are_stopped_at_once_when_nobody_shall_be_left(world):
    world.man(2)
    for name in world.names:
        world.coordinator.drains[name] = ConflictError("nobody else is there to take the blocks")
    world.coordinator.want(0)
    world.look()
    assert sorted(world.provider.stopped) == ["worker-1", "worker-2"]


def test_while_others_shall_come_a_worker_waits_for_them(world):
    world.man(1)
    world.coordinator.drains["worker-1"] = ConflictError("nobody else is there to take the blocks")
    world.coordinator.want(1, leaving=["worker-1"])
    world.look()
    world.look()
    assert world.names == ["worker-1", "worker-2"]
    assert world.provider.stopped == []


@pytest.mark.parametrize(
    "failure", [DeadlineError("no progress"), WorkerUnavailableError("silent")]
)
def test_a_drain_that_comes_no_further_is_given_up_and_said(world, failure):
    world.man(2)
    world.coordinator.drains["worker-2"] = failure
    world.coordinator.want(1)
    world.look()
    world.look(GIVE_UP_SECONDS / 2)
    assert world.provider.stopped == []
    world.look(GIVE_UP_SECONDS)
    assert world.provider.stopped == ["worker-2"]
    assert "could not hand over" in world.coordinator.reports[-1]["stopped"]["worker-2"]


def test_a_drain_that_moves_is_never_given_up(world):
    world.man(2)
    world.coordinator.want(1)
    for blocks in range(50, 0, -1):
        world.coordinator.drains["worker-2"] = {"blocks": blocks, "done": False}
        world.look(GIVE_UP_SECONDS / 2)
    assert world.provider.stopped == []


def test_why_there_are_too_few_is_reported_once_and_taken_back(world):
    world.provider.room = 1
    world.coordinator.want(2)
    world.look()
    world.look()
    assert [each["problem"] for each in world.coordinator.reports] == [
        "there is no room for another worker"
    ]
    world.coordinator.want(1)
    world.look()
    assert world.coordinator.reports[-1]["problem"] == ""


def test_who_was_named_and_is_gone_is_reported(world):
    world.man(1)
    world.coordinator.want(1, leaving=["worker-7"])
    world.look()
    assert world.coordinator.reports[-1]["left"] == ["worker-7"]


def test_one_that_starts_again_in_the_middle_of_its_drain_is_waited_for(world):
    """It was killed: its blocks are there again in a moment, and nobody else may have them."""
    world.man(2)
    world.coordinator.members.discard("worker-2")
    world.coordinator.want(1)
    world.look()
    world.look(10.0)
    assert world.provider.stopped == []
