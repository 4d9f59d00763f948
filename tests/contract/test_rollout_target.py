"""The contract of :class:`cachefs.dataflow.steps.rollouts.targets.RolloutTarget`.

A target of another kind is held to it by another world: what makes its replicas ready, and what breaks one.
"""

import os
import signal

import pytest

from cachefs.dataflow.spec import kinds
from cachefs.dataflow.steps.programs.rooms import look
from cachefs.dataflow.steps.rollouts.local import LocalTargets
from cachefs.dataflow.steps.rollouts.targets import NoCluster, Towards
from cachefs.errors import ConflictError
from tests.integration.flows.places import places_in, until
from tests.unit.dataflow.steps.contexts import Steps


class LocalWorld:
    """Processes of this machine."""

    def __init__(self, open_places, folder):
        self._open_places = open_places
        self._folder = folder
        self.open()

    def open(self):
        """Begin anew, as a coordinator's successor does."""
        self.places = self._open_places()
        self.target = LocalTargets(self.places, NoCluster()).open(Steps().attempt(), "local/llama")

    def wanted(self, text="exec sleep 600"):
        command = ["/bin/sh", "-c", f"echo ready; {text}", "{replica}", "{revision}"]
        arguments = {"target": "local/llama", "replicas": 1, "command": command}
        return kinds.check("rollout", arguments | {"ready": {"line": "ready"}})

    def break_one(self, revision):
        """End a replica that nobody asked to end."""
        for room in self._rooms():
            if look(room).active and f'"{revision}"' in (room / "start.json").read_text():
                running = (room / "running.json").read_text()
                os.kill(int(running.partition(": ")[2].partition(",")[0]), signal.SIGKILL)
                return

    def _rooms(self):
        return [file.parent for file in self._folder.rglob("start.json")]


@pytest.fixture(params=["local"])
def world(tmp_path):
    with places_in(tmp_path) as open_:
        yield LocalWorld(open_, tmp_path)


@pytest.fixture
def target(world):
    for revision in ("v1", "v2"):
        world.target.keep(revision, world.wanted())
    return world.target


def reshape(target, shape):
    """Have a target take a shape on its way to the last of its revisions."""
    towards = Towards(next(reversed(shape), "v1"), 1, sum(shape.values()), 1)
    target.reshape(Steps().attempt(), shape, towards=towards)


def ready(target):
    found = {}
    for one in target.replicas():
        if one.state == "ready":
            found[one.revision] = found.get(one.revision, 0) + 1
    return found


def test_nothing_is_there_at_first(world):
    assert list(world.target.replicas()) == []
    assert not world.target.knows("v1")


def test_a_shape_is_made_so_and_replicas_become_ready(target):
    reshape(target, {"v1": 3})
    until(lambda: ready(target) == {"v1": 3})
    for one in target.replicas():
        assert one.started_at > 0
        assert one.ready_seconds < 10.0


def test_the_same_shape_again_is_nothing(target):
    for _ in range(3):
        reshape(target, {"v1": 2})
    until(lambda: ready(target) == {"v1": 2})
    before = {one.id for one in target.replicas()}
    reshape(target, {"v1": 2})
    assert {one.id for one in target.replicas()} == before


def test_a_shape_has_no_other_replicas(target):
    reshape(target, {"v1": 3})
    until(lambda: ready(target) == {"v1": 3})
    reshape(target, {"v1": 1, "v2": 2})
    until(lambda: ready(target) == {"v1": 1, "v2": 2})
    reshape(target, {})
    until(lambda: not list(target.replicas()))


def test_a_replica_that_ends_by_itself_has_failed_and_another_takes_its_place(world, target):
    reshape(target, {"v1": 2})
    until(lambda: ready(target) == {"v1": 2})
    before = {one.id for one in target.replicas()}
    world.break_one("v1")
    until(lambda: [one.state for one in target.replicas()].count("failed") == 1)
    reshape(target, {"v1": 2})
    until(lambda: ready(target) == {"v1": 2})
    assert len({one.id for one in target.replicas()} - before) == 1


def test_a_successor_finds_the_replicas_and_what_their_revisions_are(world, target):
    reshape(target, {"v1": 2})
    until(lambda: ready(target) == {"v1": 2})
    before = {one.id for one in target.replicas()}
    world.open()
    assert world.target.knows("v1")
    reshape(world.target, {"v1": 3})
    until(lambda: ready(world.target) == {"v1": 3})
    assert before < {one.id for one in world.target.replicas()}


def test_a_revision_that_runs_cannot_become_something_else(world, target):
    reshape(target, {"v1": 1})
    with pytest.raises(ConflictError):
        target.keep("v1", world.wanted("exec sleep 601"))
    target.keep("v1", world.wanted())
    target.keep("v2", world.wanted("exec sleep 601"))
