"""An executor that is killed before or after any of its calls, and followed by another: each program runs once."""

import copy
import itertools

import pytest

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.handing.desk import Desk
from cachefs.dataflow.handing.programs import HandedOutPrograms
from cachefs.dataflow.handing.store import Report
from cachefs.dataflow.serving.handing import HandedBody, ProgramBody
from cachefs.dataflow.steps.programs.running import Wanted
from cachefs.errors import ConflictError
from cachefs.k8s.kinds import JOBS
from cachefs.k8s.names import FLOW_RUNS
from cachefs.k8s.operator.programs.executing import Executor
from cachefs.k8s.operator.programs.jobs import CONTAINER
from tests.integration.flows.executors import add_run
from tests.unit.dataflow.steps.contexts import RUNTIME, Steps

NAMESPACE = Steps().attempt().namespace
WANTED = Wanted(command=("train",), image="trainer:1")


class Killed(BaseException):
    """The process is gone."""


class Fate:
    """Kills at one call, before it or after it."""

    def __init__(self, at=0):
        self.at = at
        self.calls = 0

    def __call__(self, work):
        self.calls += 1
        if self.calls == self.at:
            raise Killed
        result = work()
        self.calls += 1
        if self.calls == self.at:
            raise Killed
        return result


class Api:
    """The coordinator's API, as far as an executor calls it."""

    def __init__(self, desk, fate):
        self._desk = desk
        self._fate = fate

    def get(self, path):
        def work():
            if path.startswith("/v1/runs/"):
                run = path.rpartition("/")[2]
                key = f"kubernetes {NAMESPACE}/{run} u"
                return {"run": {"id": run, "key": key, "cause": "manual", "flow": "team/flow"}}
            found = self._desk.wanted()
            programs = [ProgramBody.of(row) for row in found.programs]
            return HandedBody(programs=programs, targets=[]).model_dump()

        return self._fate(work)

    def post(self, path, body):
        state = body.pop("state")
        program = path.rpartition("/")[2]

        def work():
            return ProgramBody.of(
                self._desk.tell_program(program, state, Report(**body))
            ).model_dump()

        return self._fate(work)


class Cluster:
    """Jobs and their pods in memory; a program runs as soon as its Job is there."""

    def __init__(self):
        self.jobs = {}
        self.pods = {}
        self.started = []
        self.fate = Fate()
        self._uids = itertools.count()

    def find(self, kind, *, labels):
        del labels
        found = self.jobs if kind is JOBS else self.pods
        return self.fate(lambda: copy.deepcopy(list(found.values())))

    def get(self, kind, name, _namespace):
        if kind is FLOW_RUNS:
            return self.fate(lambda: {"metadata": {"uid": "u"}, "status": {"run": name}})
        return self.fate(lambda: copy.deepcopy(self.jobs.get(name)))

    def create(self, document):
        return self.fate(lambda: self._create(document))

    def delete(self, _kind, name, _namespace, *, uid):
        def work():
            if self.jobs.get(name, {}).get("metadata", {}).get("uid") == uid:
                del self.jobs[name]

        return self.fate(work)

    def log(self, *_, **__):
        return self.fate(lambda: "it trained\n")

    def _create(self, document):
        name = document["metadata"]["name"]
        if name in self.jobs:
            raise ConflictError("it is there", subject=name)
        made = copy.deepcopy(document)
        made["metadata"]["uid"] = f"u{next(self._uids)}"
        self.jobs[name] = made
        self.started.append(name)
        template = copy.deepcopy(document["spec"]["template"]["metadata"])
        template["namespace"] = made["metadata"]["namespace"]
        template["ownerReferences"] = [{"uid": made["metadata"]["uid"], "controller": True}]
        self.pods[name] = {"metadata": {"name": f"{name}-x", **template}, "status": {}}
        self.set_state({"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "Running")
        return made

    def set_state(self, state, phase):
        for pod in self.pods.values():
            statuses = [{"name": CONTAINER, "state": state}]
            pod["status"] = {"phase": phase, "containerStatuses": statuses}

    def move(self):
        """Let time pass: pods whose Job was removed end, others have run."""
        for name in [name for name in self.pods if name not in self.jobs]:
            del self.pods[name]


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    store.close()


class Site:
    """A coordinator that hands one program out, and a cluster."""

    def __init__(self, store, name):
        add_run(store, name)
        self.programs = HandedOutPrograms(store, RUNTIME, executor_seconds=60.0)
        self.context = Steps(run=name).attempt()
        self.desk = Desk(store, RUNTIME)
        self.cluster = Cluster()
        self.programs.begin(self.context, WANTED)

    def executor(self, at=0):
        self.cluster.fate = Fate(at)
        api = Api(self.desk, self.cluster.fate)
        return Executor(RUNTIME, self.cluster, api, namespace="cachefs")

    def rounds(self, executor, count, then=lambda _: None):
        for number in range(count):
            executor.look()
            self.cluster.move()
            then(number)

    def end_well(self, number):
        if number == 2:
            times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:09Z"}
            self.cluster.set_state({"terminated": {"exitCode": 0, **times}}, "Succeeded")

    def stop(self, number):
        if number == 2:
            with_patience = self.programs
            with_patience._runtime = NoWaiting()
            with_patience.stop(self.context)


class NoWaiting:
    """A clock on which all waits are over at once."""

    def __init__(self):
        self._now = 0.0

    def monotonic(self):
        self._now += 10.0
        return self._now

    def sleep(self, _seconds):
        return


def carried_out(site, at, then):
    """Have an executor work until it is killed, and another go on; return whether the first was."""
    killed = False
    try:
        site.rounds(site.executor(at), 6, then)
    except Killed:
        killed = True
    then(2)
    site.rounds(site.executor(), 4)
    return killed


def test_a_program_runs_once_whenever_its_executor_is_killed(store):
    for at in itertools.count(1):
        site = Site(store, f"run-{at}")
        killed = carried_out(site, at, site.end_well)
        if not site.cluster.started or site.programs.look(site.context).standing != "ended":
            site.end_well(2)
            site.rounds(site.executor(), 2)
        found = site.programs.look(site.context)
        assert len(site.cluster.started) == 1, f"killed at call {at}"
        assert (found.standing, found.code) == ("ended", 0), f"killed at call {at}"
        assert site.programs.tail(site.context, 100) == "it trained\n"
        if not killed:
            break
    assert at > 20, "it was killed at each of its calls"


def test_a_program_that_is_stopped_leaves_nothing_behind_whenever_its_executor_is_killed(store):
    for at in itertools.count(1):
        site = Site(store, f"run-{at}")
        killed = carried_out(site, at, site.stop)
        assert len(site.cluster.started) <= 1, f"killed at call {at}"
        assert not site.cluster.jobs, f"killed at call {at}"
        assert not site.cluster.pods, f"killed at call {at}"
        assert site.programs.look(site.context).stopped, f"killed at call {at}"
        if not killed:
            break
    assert at > 20


def test_the_job_of_a_program_that_nobody_wants_is_removed(store):
    site = Site(store, "run-1")
    site.rounds(site.executor(), 3)
    assert site.cluster.jobs
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM runs")
    executor = site.executor()
    site.rounds(executor, 1)
    assert site.cluster.jobs, "what the executor knew may have been old"
    site.rounds(executor, 1)
    assert not site.cluster.jobs


def test_of_two_executors_side_by_side_one_makes_the_job(store):
    site = Site(store, "run-1")
    first, second = site.executor(), site.executor()
    create = site.cluster.create

    def meanwhile(document):
        site.cluster.create = create
        second.look()  # it has not seen a Job either
        return create(document)

    site.cluster.create = meanwhile
    first.look()
    assert len(site.cluster.started) == 1
    site.rounds(second, 4, site.end_well)
    assert site.programs.look(site.context).code == 0


def test_an_executor_that_was_stopped_for_a_while_begins_nothing_that_has_ended(store):
    site = Site(store, "run-1")
    row = site.desk.wanted().programs[0]
    site.desk.tell_program(row.id, "claimed", Report())
    stopped = site.executor()
    find = site.cluster.find

    def later(kind, *, labels):
        site.cluster.find = find
        site.desk.tell_program(row.id, "ended", Report(stopped=True))
        return find(kind, labels=labels)

    site.cluster.find = later  # after it was told what is wanted
    stopped.look()
    assert site.cluster.started == []
