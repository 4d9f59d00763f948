"""The contract of :class:`cachefs.dataflow.steps.rollouts.targets.RolloutTarget`.

A target of another kind is held to it by another world: what makes its replicas ready, and what breaks one. The
one of a cluster is carried out by the operator's own rules, on a model of a deployment's controller.
"""

import os
import signal
import threading

import pytest

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.handing.desk import Desk
from cachefs.dataflow.handing.targets import HandedOutTargets
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.steps.programs.rooms import look
from cachefs.dataflow.steps.rollouts.local import LocalTargets
from cachefs.dataflow.steps.rollouts.targets import NoCluster, Towards
from cachefs.errors import ConflictError
from cachefs.k8s.operator.programs.rollouts import Shape, report
from tests.integration.flows.places import places_in, until
from tests.unit.dataflow.steps.contexts import RUNTIME, Steps
from tests.unit.k8s.operator.targets import Model, merge, status


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


class ClusterWorld:
    """A deployment that an executor changes and looks at, and whose controller makes it so."""

    def __init__(self, store):
        self._store = store
        self._desk = Desk(store, RUNTIME)
        self._deployment = Model("Deployment", 0)
        merge(self._deployment.target, {"spec": {"template": {"metadata": {"annotations": NAMED}}}})
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.open()

    def open(self):
        """Begin anew, as a coordinator's successor does."""
        targets = HandedOutTargets(self._store, RUNTIME, executor_seconds=10.0)
        self.target = targets.open(Steps().attempt(), "deployment/llama")

    def close(self):
        self._over.set()
        self._thread.join()

    def wanted(self, text="llama:1"):
        arguments = {"target": "deployment/llama", "replicas": 1, "image": text.split()[-1]}
        return kinds.check("rollout", arguments)

    def break_one(self, revision):
        """Have a pod's program end; the kubelet starts it again once that was seen."""
        with self._guard:
            pod = self._deployment.of(revision)[0]
            pod["status"] = status(ready=False) | FAILED

    def _run(self):
        while not self._over.wait(0.01):
            with self._guard:
                for row in self._desk.wanted().targets:
                    if "revision" in row.shape:
                        self._deployment.look(Shape.of(row.shape))
                    told = report(self._deployment.target, self._deployment.pods)
                    self._desk.tell_target(row.name, asked=row.asked, report=told)
                    if any(one["state"] == "failed" for one in told["replicas"]):
                        self._mend()
                self._deployment.control()
                if not any("containerStatuses" in one["status"] for one in self._deployment.pods):
                    self._deployment.become_ready()

    def _mend(self):
        for pod in self._deployment.pods:
            if "containerStatuses" in pod["status"]:
                pod["status"] = status(ready=True) | FAILED


NAMED = {"cachefs.io/version": "v0"}
FAILED = {
    "containerStatuses": [
        {
            "restartCount": 1,
            "lastState": {"terminated": {"exitCode": 1, "startedAt": "2026-01-01T00:00:00Z"}},
        }
    ]
}


@pytest.fixture(params=["local", "handed-out"])
def world(request, tmp_path):
    if request.param == "local":
        with places_in(tmp_path) as open_:
            yield LocalWorld(open_, tmp_path)
        return
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    made = ClusterWorld(store)
    try:
        yield made
    finally:
        made.close()
        store.close()


@pytest.fixture
def target(world):
    for revision in ("v1", "v2"):
        world.target.keep(revision, world.wanted())
    return world.target


def reshape(target, shape):
    """Have a target take a shape on its way to the last of its revisions."""
    revision = next(reversed(shape), "v1")
    towards = Towards(revision, shape.get(revision, 0), sum(shape.values()), 1)
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
    if target.exact:
        reshape(target, {"v1": 1, "v2": 2})
        until(lambda: ready(target) == {"v1": 1, "v2": 2})
    reshape(target, {"v2": 3})
    until(lambda: ready(target) == {"v2": 3})
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
