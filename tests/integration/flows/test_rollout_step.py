"""``rollout`` to this machine: batches, gates, updates, and going back, with real processes."""

import pytest

from cachefs.dataflow.ports import NoHints, Soonest
from cachefs.dataflow.steps.programs.inrooms import RoomPrograms
from cachefs.dataflow.steps.programs.rooms import look, notes_of, tail
from cachefs.dataflow.steps.rollingout import RolloutStep
from cachefs.dataflow.steps.rollouts.local import LocalTargets
from cachefs.dataflow.steps.rollouts.targets import NoCluster
from cachefs.errors import ConfigError, DeadlineError, FlowError, StepCancelledError
from tests.integration.flows.places import places_in, until
from tests.unit.dataflow.steps.contexts import RUNTIME, Steps, carry_out


class Coordinator:
    """What rolls out; another one on the same folder goes on where it was."""

    def __init__(self, open_places, folder, hints=None):
        self.places = open_places()
        targets = LocalTargets(self.places, NoCluster())
        self.step = RolloutStep(targets, RoomPrograms(self.places), hints or NoHints())
        self._folder = folder

    def roll(self, context, replicas, revision="v1", *, text="exec sleep 600", **arguments):
        return carry_out(self.step, context, given(replicas, revision, text=text, **arguments))

    def rooms(self):
        return [file.parent for file in self._folder.rglob("start.json")]

    def live(self):
        """Return the revisions of the replicas that live, and their numbers."""
        notes = [notes_of(room) for room in self.rooms() if look(room).active]
        return sorted((note["revision"], note["index"]) for note in notes if note)


def given(replicas, revision="v1", *, text="exec sleep 600", **arguments):
    return {
        "target": "local/llama",
        "replicas": replicas,
        "revision": revision,
        "command": ["/bin/sh", "-c", f"echo {{replica}} of {{revision}}; echo ready; {text}"],
        "ready": {"line": "ready"},
        **arguments,
    }


@pytest.fixture
def open_coordinator(tmp_path):
    with places_in(tmp_path) as open_:
        yield lambda **given: Coordinator(open_, tmp_path, **given)


@pytest.fixture
def coordinator(open_coordinator):
    return open_coordinator()


@pytest.mark.slow
def test_a_hundred_replicas_start_in_batches(coordinator):
    step = Steps()
    context = step.attempt(seconds=60.0)
    began = RUNTIME.monotonic()
    observed = coordinator.roll(context, 100, batch=[1, 10, 100], health={"ready_p95": "20s"})
    assert RUNTIME.monotonic() - began < 40.0  # some 4 s on two idle cores
    assert observed.outputs["replicas"] == 100
    assert coordinator.live() == [("v1", index) for index in range(100)]
    told = [message for _, message in context.take_told()]
    assert told == [f"{count} replicas of v1 are ready" for count in (1, 10, 100)]
    assert step.checkpoint["passed"] == 3
    began = RUNTIME.monotonic()
    coordinator.roll(Steps("down").attempt(), 0)
    assert RUNTIME.monotonic() - began < 8.0
    assert coordinator.live() == []


class Foresight:
    """Hints whose seconds are those that the test says, one after the other; the last stays."""

    def __init__(self, *seconds):
        self.left = list(seconds)
        self.asked = []

    def soonest(self, name, version):
        self.asked.append((str(name), version))
        seconds = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return None if seconds is None else Soonest("n1", seconds, "nvme:n1")


IN_TIME = {"hint": {"dataset": "llama@v2", "deadline": "10s"}}


def test_a_batch_waits_until_a_replica_would_be_ready_in_time(open_coordinator):
    hints = Foresight(95.0, 40.0, 9.0, 9.5, 30.0, 1.0)
    coordinator = open_coordinator(hints=hints)
    seen = []
    context = Steps().attempt(meanwhile=lambda: seen.append(coordinator.live()))
    coordinator.roll(context, 2, batch=[1, 2], **IN_TIME)
    assert seen[:2] == [[], []]
    assert set(hints.asked) == {("team/llama", "v2")}
    assert hints.left == [
        30.0,
        1.0,
    ]  # of two batches: three times for the first, once for the other
    told = [message for _, message in context.take_told()]
    assert told[0] == (
        "a replica would be ready in 95 s, on n1, which waits for nvme:n1; 10 s are allowed"
    )
    assert len(told) == 3


def test_a_batch_that_would_never_be_ready_in_time_is_out_of_time_and_says_why(open_coordinator):
    coordinator = open_coordinator(hints=Foresight(95.0))
    context = Steps().attempt(seconds=1.5)
    with pytest.raises(DeadlineError):
        coordinator.roll(context, 1, **IN_TIME)
    assert "waits for nvme:n1" in context.progress.note
    assert coordinator.live() == []


@pytest.mark.parametrize(
    ("seconds", "hint"),
    [(None, IN_TIME), (95.0, {}), (95.0, {"hint": {"deadline": "10s"}})],
    ids=["no opinion", "no hint", "no dataset"],
)
def test_who_has_no_opinion_or_is_not_asked_keeps_no_batch_waiting(open_coordinator, seconds, hint):
    coordinator = open_coordinator(hints=Foresight(seconds))
    assert coordinator.roll(Steps().attempt(), 1, **hint).done


def test_a_replica_knows_its_number_and_revision(coordinator):
    coordinator.roll(Steps().attempt(), 2, text="echo $CACHEFS_REPLICA; exec sleep 600")
    logs = {tail(room, 100) for room in coordinator.rooms()}
    until(lambda: {tail(room, 100) for room in coordinator.rooms()} == logs)
    assert {log.splitlines()[0] for log in logs} == {"0 of v1", "1 of v1"}


def test_a_batch_that_fails_is_the_last_one(coordinator):
    text = 'test {replica} -lt 3 || { echo "no GPU"; exit 1; }; exec sleep 600'
    with pytest.raises(FlowError, match=r"local/llama is not healthy.*0 may.*no GPU"):
        coordinator.roll(Steps().attempt(), 50, batch=[1, 5, 50], text=text)
    assert len(coordinator.rooms()) <= 6


def test_replicas_that_fail_less_often_than_they_may_start_again(coordinator, tmp_path):
    text = f"mkdir {tmp_path}/failed 2>/dev/null && exit 1; exec sleep 600"
    observed = coordinator.roll(Steps().attempt(), 10, text=text, health={"error_rate": 0.1})
    assert observed.outputs["replicas"] == 10
    assert len(coordinator.rooms()) == 11


def test_replicas_that_are_late_stop_the_rollout(coordinator):
    arguments = {"health": {"ready_p95": "300ms"}, "ready": {"line": "never"}}
    with pytest.raises(FlowError, match=r"1 of 1 replicas were not ready within 0.3 s"):
        coordinator.roll(Steps().attempt(), 10, batch=[1], **arguments)


def test_a_program_can_say_that_a_batch_is_not_healthy(coordinator, tmp_path):
    check = [
        "/bin/sh",
        "-c",
        f"echo $CACHEFS_REPLICAS >> {tmp_path}/asked; test $CACHEFS_REPLICAS != 4",
    ]
    with pytest.raises(FlowError, match="ended with 1"):
        coordinator.roll(Steps().attempt(), 8, batch=[2, 4], health={"command": check})
    assert (tmp_path / "asked").read_text() == "2\n4\n"
    assert len(coordinator.live()) == 4


def test_a_replica_that_says_nothing_is_ready_when_it_has_lived_for_a_while(coordinator):
    observed = coordinator.roll(Steps().attempt(), 1, ready={"after": "300ms"})
    assert 0.3 <= observed.outputs["ready_p95"] < 2.0


def test_an_update_replaces_replicas_and_never_has_too_few_or_too_many(coordinator):
    coordinator.roll(Steps("one").attempt(), 6)
    seen = []
    target = coordinator.step._targets.open(Steps().attempt(), "local/llama")
    reshape = type(target).reshape

    def watched(self, context, shape, *, towards):
        seen.append((dict(shape), [one.state for one in self.replicas()].count("ready")))
        reshape(self, context, shape, towards=towards)

    try:
        type(target).reshape = watched
        coordinator.roll(Steps("two").attempt(), 6, "v2", batch=[1, 6], surge=2)
    finally:
        type(target).reshape = reshape
    assert [revision for revision, _ in coordinator.live()] == ["v2"] * 6
    assert all(sum(shape.values()) <= 8 for shape, _ in seen)
    assert all(ready >= 6 for _, ready in seen)


def test_batches_wait_for_each_other(coordinator):
    began = RUNTIME.monotonic()
    coordinator.roll(Steps().attempt(), 3, batch=[1, 2], interval="400ms")
    assert RUNTIME.monotonic() - began >= 0.8


def test_a_successor_goes_on_with_the_batch_and_starts_no_replica_twice(open_coordinator, tmp_path):
    step = Steps()
    first, context = open_coordinator(), step.attempt()
    # What is not ready yet when the coordinator goes: it waits for a file before it says so.
    command = [
        "/bin/sh",
        "-c",
        f"while ! test -e {tmp_path}/go; do sleep 0.02; done; echo ready; sleep 600",
    ]
    arguments = {"batch": [2, 6], "command": command}
    task = RUNTIME.start("first", lambda: _swallow(lambda: first.roll(context, 6, **arguments)))
    until(lambda: len(first.live()) == 2)
    context.abandon()
    assert task.join(5.0)
    first.places.rooms.close()
    second = open_coordinator()
    assert len(second.live()) == 2
    (tmp_path / "go").touch()
    second.roll(step.attempt(), 6, **arguments)
    assert len(second.rooms()) == 6
    assert step.checkpoint["passed"] == 2


def _swallow(body):
    with pytest.raises(StepCancelledError):
        body()


def test_a_rollout_goes_back_to_the_revision_as_it_was(coordinator):
    coordinator.roll(Steps("one").attempt(), 4)
    step = Steps("two")
    arguments = given(4, "v2", text="exit 1", batch=[1, 4])
    with pytest.raises(FlowError):
        carry_out(coordinator.step, step.attempt(), arguments)
    assert ("v1", 0) in coordinator.live()
    back = step.attempt(2, undo=True)
    coordinator.step.compensate(back, arguments, {"to_revision": "v1"})
    assert [revision for revision, _ in coordinator.live()] == ["v1"] * 4


def test_a_rollout_goes_back_to_a_number(coordinator):
    step = Steps()
    coordinator.roll(step.attempt(), 3)
    coordinator.step.compensate(step.attempt(2, undo=True), given(3), {"replicas": 0})
    assert coordinator.live() == []


def test_a_second_attempt_forgives_what_failed_in_the_first(coordinator, tmp_path):
    step = Steps()
    text = f"test -e {tmp_path}/fixed || exit 1; exec sleep 600"
    with pytest.raises(FlowError):
        coordinator.roll(step.attempt(1), 3, text=text)
    (tmp_path / "fixed").touch()
    assert coordinator.roll(step.attempt(2), 3, text=text).done


def test_a_rollout_that_is_there_already_is_done_at_once(coordinator):
    coordinator.roll(Steps("one").attempt(), 2)
    again = Steps("two")
    assert coordinator.step.observe(again.attempt(), given(2)).done
    assert not coordinator.step.observe(again.attempt(), given(3)).done
    assert not coordinator.step.observe(again.attempt(), given(2, "v2")).done


def test_another_namespace_has_targets_of_its_own(coordinator):
    coordinator.roll(Steps().attempt(), 1)
    coordinator.roll(Steps(namespace="other").attempt(), 2, "v2")
    assert coordinator.live() == [("v1", 0), ("v2", 0), ("v2", 1)]


def test_a_cluster_is_refused_where_there_is_none(coordinator):
    arguments = {"target": "deployment/llama", "replicas": 1, "revision": "v1"}
    with pytest.raises(ConfigError, match="no cluster"):
        coordinator.step.observe(Steps().attempt(), arguments)
