"""What is handed out: what executors see, and what becomes of steps without one."""

import threading

import pytest

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.engine import store as runs
from cachefs.dataflow.handing.desk import Desk
from cachefs.dataflow.handing.programs import HandedOutPrograms
from cachefs.dataflow.handing.store import STATES, Report
from cachefs.dataflow.handing.targets import HandedOutTargets
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.steps.processing import ProcessStep
from cachefs.dataflow.steps.programs.running import Wanted
from cachefs.dataflow.steps.rollouts.targets import Towards
from cachefs.errors import (
    CapacityError,
    ConfigError,
    FlowError,
    NotKnownError,
    StepTransientError,
)
from tests.integration.flows.executors import add_run
from tests.unit.dataflow.steps.contexts import RUNTIME, Steps

WANTED = Wanted(command=("train",), image="trainer:1")


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    add_run(store)
    yield store
    store.close()


@pytest.fixture
def programs(store):
    return HandedOutPrograms(store, RUNTIME, executor_seconds=60.0)


@pytest.fixture
def desk(store):
    return Desk(store, RUNTIME)


def begin(programs, desk, attempt=1):
    programs.begin(Steps().attempt(attempt), WANTED)
    return next(row for row in desk.wanted().programs if row.attempt == attempt)


def test_an_executor_is_told_all_that_it_needs(programs, desk):
    arguments = {
        "command": ["train", "--fast"],
        "image": "trainer:1",
        "env": {"BATCH": 16},
        "secrets": {"HF_TOKEN": "secret:hub/token"},
        "workdir": "/job",
        "mounts": [{"dataset": "llama@v2", "path": "data"}, {"dataset": "o/t", "path": "/t"}],
        "resources": {"cpu": 4, "memory": "16GiB", "gpu": 1},
        "queue": "gpu",
    }
    wanted = Wanted.of(kinds.check("process", arguments), ("train", "--fast"))
    programs.begin(Steps().attempt(seconds=60.0), wanted)
    (row,) = desk.wanted().programs
    assert row.namespace == "team"
    assert 55.0 < row.wanted.pop("seconds") <= 60.0
    assert row.wanted == {
        "command": ["train", "--fast"],
        "image": "trainer:1",
        "variables": {
            "CACHEFS_RUN_ID": "run-1",
            "CACHEFS_STEP": "step",
            "CACHEFS_ATTEMPT": "1",
            "CACHEFS_NAMESPACE": "team",
            "BATCH": "16",
        },
        "secrets": {"HF_TOKEN": "secret:hub/token"},
        "workdir": "/job",
        "mounts": [
            {"dataset": "team/llama", "version": "v2", "path": "/job/data"},
            {"dataset": "o/t", "version": "", "path": "/t"},
        ],
        "resources": {"cpu": 4.0, "memory": 16 * 1024**3, "gpu": 1.0},
        "queue": "gpu",
    }


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(command=("train",)), "needs an image"),
        (Wanted(command=("t",), image="t", secrets={"A": "env:A"}), "secret:NAME/KEY"),
        (
            Wanted.of(
                kinds.check(
                    "process",
                    {"command": ["t"], "image": "t", "mounts": [{"dataset": "d", "path": "x"}]},
                ),
                ("t",),
            ),
            "begins with /",
        ),
    ],
)
def test_what_no_cluster_can_run_is_refused(programs, desk, wanted, message):
    with pytest.raises(ConfigError, match=message):
        programs.begin(Steps().attempt(), wanted)
    assert not desk.wanted().programs


def test_a_report_never_goes_back(programs, desk):
    row = begin(programs, desk)
    for number, state in enumerate(STATES[1:], 1):
        desk.tell_program(row.id, state, Report(code=number))
        for older in STATES[:number]:
            told = desk.tell_program(row.id, older, Report(code=99))
            assert (told.state, told.report.code) == (state, number)
    assert desk.tell_program(row.id, "ended", Report(code=99)).report.code == len(STATES) - 1
    assert programs.look(Steps().attempt()).code == len(STATES) - 1


def test_what_is_stopped_before_it_is_claimed_is_never_begun(programs, desk):
    row = begin(programs, desk)
    programs.stop(Steps().attempt())
    assert desk.tell_program(row.id, "claimed", Report()).stop
    assert programs.look(Steps().attempt()).stopped
    assert not desk.wanted().programs


def test_an_attempt_is_hidden_until_the_one_before_it_is_over(programs, desk):
    first = begin(programs, desk)
    desk.tell_program(first.id, "running", Report())
    programs.begin(Steps().attempt(2), WANTED)
    (shown,) = desk.wanted().programs
    assert (shown.id, shown.stop) == (first.id, True)
    desk.tell_program(first.id, "ended", Report(stopped=True))
    (shown,) = desk.wanted().programs
    assert (shown.attempt, shown.stop) == (2, False)


def test_without_an_executor_a_step_fails_after_a_bound_and_its_program_is_to_end(store, desk):
    programs = HandedOutPrograms(store, RUNTIME, executor_seconds=0.3)
    context = Steps().attempt()
    arguments = {"command": ["train"], "image": "trainer:1"}
    with pytest.raises(StepTransientError, match="no executor"):
        ProcessStep(programs).apply(context, arguments)
    assert not desk.wanted().programs, "nobody had begun it, so nobody ever will"


def test_a_program_that_is_lost_may_be_tried_again(programs, desk):
    row = begin(programs, desk)
    desk.tell_program(row.id, "running", Report())
    desk.tell_program(row.id, "ended", Report(lost=True, note="the node is gone"))
    with pytest.raises(StepTransientError, match="the node is gone"):
        ProcessStep(programs).observe(
            Steps().attempt(), {"command": ["train"], "image": "trainer:1"}
        )


def test_logs_are_found_by_step_and_attempt(programs, desk):
    for attempt in (1, 2):
        row = begin(programs, desk, attempt)
        desk.tell_program(row.id, "ended", Report(log=f"first\nattempt {attempt}\n"))
    assert programs.log("run-1/step", None, 1000) == (2, "first\nattempt 2\n")
    assert programs.log("run-1/step", 1, 12) == (1, "attempt 1\n")
    assert programs.log("run-1/other", None, 1000) is None


def test_reports_that_say_too_much_or_of_nothing_are_refused(programs, desk):
    row = begin(programs, desk)
    with pytest.raises(CapacityError):
        desk.tell_program(row.id, "ended", Report(log="x" * 100_000))
    with pytest.raises(NotKnownError):
        desk.tell_program("other", "ended", Report())
    with pytest.raises(NotKnownError):
        desk.tell_target("team/deployment/llama", asked=1, report={})


def test_programs_go_with_their_run(store, programs, desk):
    begin(programs, desk)
    with store.write() as connection:
        connection.execute(runs.RUNS.delete())
    assert not desk.wanted().programs
    assert programs.look(Steps().attempt()).standing == "none"


# ---- targets of rollouts ------------------------------------------------------------------------


class Cluster(threading.Thread):
    """Answers for a deployment, always the same."""

    def __init__(self, desk, **report):
        super().__init__()
        self.desk, self.report = desk, {"revision": "", "image": "llama:1", **report}
        self.shapes = []
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.01):
            for row in self.desk.wanted().targets:
                self.shapes.append(dict(row.shape))
                self.desk.tell_target(row.name, asked=row.asked, report=self.report)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def opened(store, step="roll", *, seconds=10.0):
    targets = HandedOutTargets(store, RUNTIME, executor_seconds=seconds)
    return targets.open(Steps(step).attempt(), "deployment/llama")


def test_a_target_that_is_not_there_fails_the_step_with_the_reason(store, desk):
    refusal = pytest.raises(FlowError, match="there is no deployment/llama")
    with Cluster(desk, failure="there is no deployment/llama"), refusal:
        opened(store).replicas()


def test_a_rollout_without_an_executor_fails_after_a_bound(store):
    with pytest.raises(StepTransientError, match="no executor"):
        opened(store, seconds=0.3).replicas()


def test_what_another_step_wanted_of_a_target_is_wanted_no_more(store, desk):
    towards = Towards("v2", 3, 3, 1)
    with Cluster(desk) as cluster:
        first = opened(store, "monday")
        first.replicas()
        first.reshape(Steps("monday").attempt(), {"v2": 3}, towards=towards)
        first.replicas()
        assert cluster.shapes[-1]["goal"] == 3
        opened(store, "monday").replicas()
        assert cluster.shapes[-1]["goal"] == 3, "a successor goes on with the same"
        opened(store, "tuesday").replicas()
        by = {"by": "run-1/tuesday"}
        assert cluster.shapes[-1] == by, "somebody may have changed it since"


def test_what_was_there_before_the_first_rollout_can_come_back_under_any_name(store, desk):
    with Cluster(desk) as cluster:
        target = opened(store)
        target.replicas()
        assert target.knows("v1")
        target.reshape(Steps("roll").attempt(), {"v1": 1}, towards=Towards("v1", 1, 1, 1))
        target.replicas()
        assert (cluster.shapes[-1]["revision"], cluster.shapes[-1]["image"]) == ("v1", "llama:1")


def test_other_kinds_of_targets_are_refused(store):
    targets = HandedOutTargets(store, RUNTIME, executor_seconds=1.0)
    with pytest.raises(ConfigError, match="no such kind"):
        targets.open(Steps().attempt(), "daemonset/llama")


@pytest.mark.postgres
def test_a_shared_store_hands_out_to_any_coordinator(postgres_url):
    one, other = Store(postgres_url), Store(postgres_url)
    add_run(one)
    first, second = (HandedOutPrograms(it, RUNTIME, executor_seconds=60.0) for it in (one, other))
    desk = Desk(other, RUNTIME)
    row = begin(first, desk)
    second.begin(Steps().attempt(), WANTED)
    assert not desk.tell_program(row.id, "claimed", Report()).stop
    assert second.look(Steps().attempt()).standing == "starting"
    desk.tell_program(row.id, "ended", Report(code=7, log="seven\n"))
    assert first.look(Steps().attempt()).code == 7
    assert second.log("run-1/step", None, 100) == (1, "seven\n")
    with Cluster(desk) as cluster:
        target = opened(one)
        target.replicas()
        target.reshape(Steps("roll").attempt(), {"v2": 2}, towards=Towards("v2", 2, 2, 1))
        target.replicas()
        assert cluster.shapes[-1]["goal"] == 2
    one.close()
    other.close()
