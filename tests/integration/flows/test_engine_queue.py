"""The queue: whose turn it is, who stands aside, and that no flow waits for what waits for it."""

from contextlib import contextmanager

import pytest

from cachefs.dataflow.steps.subflows import FlowStep
from tests.integration.flows.engines import Kit, flow, states_of, step

HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {{name: {0}, namespace: team}}\nspec:\n"
INNER = HEAD.format("inner") + "  steps: [{id: x, kind: process, with: {command: [do]}}]\n"
MIDDLE = HEAD.format("middle") + "  steps: [{id: m, kind: flow, with: {name: inner}}]\n"
GROUPED = HEAD.format("grouped") + (
    "  concurrency: {group: one, policy: queue}\n"
    "  steps: [{id: g, kind: process, with: {command: [do]}}]\n"
)
DOCUMENTS = {"team/inner": INNER, "team/middle": MIDDLE, "team/grouped": GROUPED}


@contextmanager
def few_places(url, effects, **limits):
    with Kit(url, effects, **limits) as kit:
        kit.engine._kinds["flow"] = FlowStep(kit.service, DOCUMENTS.get)
        yield kit


def sub(name, inner, rest=""):
    return f"id: {name}, kind: flow, with: {{name: {inner}}}{rest}"


@pytest.mark.slow
def test_runs_within_runs_do_not_wait_for_the_places_of_those_that_wait_for_them(url, effects):
    with few_places(url, effects, runs_limit=1) as kit:
        runs = [kit.submit(flow(sub("a", "middle"))) for _ in range(3)]
        for run in runs:
            assert kit.wait(run).run.state == "Succeeded"
    assert len(effects.keys()) == 3


@pytest.mark.slow
def test_steps_of_runs_within_do_not_wait_for_the_threads_of_those_that_wait_for_them(url, effects):
    with few_places(url, effects, steps_limit=2) as kit:
        run = kit.submit(flow(sub("a", "middle", ", foreach: {n: [1, 2, 3, 4, 5]}")))
        assert kit.wait(run).run.state == "Succeeded"
    assert len(effects.keys()) == 5


def test_a_run_that_only_waits_gives_its_place_to_one_that_it_waits_for(url, effects):
    with few_places(url, effects, runs_limit=1) as kit:
        outer = kit.submit(flow(step("s", "sleep", "0.4"), sub("a", "grouped", ", needs: [s]")))
        kit.wait_for_step(outer, "s", "Running")
        before = kit.submit(GROUPED)  # the inner run comes after it in their group
        assert kit.wait(outer).run.state == "Succeeded"
        assert kit.service.get(before).run.state == "Succeeded"


@pytest.mark.slow
def test_other_runs_still_wait_for_a_place(url, effects):
    with few_places(url, effects, runs_limit=1) as kit:
        busy = kit.submit(flow(step("s", "sleep", "60"), sub("a", "inner")))
        kit.wait_for_step(busy, "a", "Succeeded")
        other = kit.submit(INNER)
        kit.runtime.sleep(1.2)
        assert kit.service.get(other).run.state == "Queued"
        kit.service.cancel(busy, keep_cache=True)
        assert kit.wait(other).run.state == "Succeeded"


def test_a_flow_within_one_of_its_own_group_is_refused_instead_of_waiting_for_itself(url, effects):
    with few_places(url, effects) as kit:
        head = "  concurrency: {group: one, policy: queue}"
        status = kit.wait(kit.submit(flow(sub("a", "grouped"), head=head)))
        assert status.run.state == "Failed"
        assert f"{status.run.id} of the group team/one waits for it" in status.steps[0].failure


@pytest.fixture
def waiting(url, effects):
    """An engine with one place, which is taken, and a run that waits for it."""
    with Kit(url, effects, runs_limit=1) as kit:
        first = kit.submit(flow(step("a", "sleep", "60")))
        kit.wait(first, "Running")
        yield kit, first, kit.submit(flow(step("b")))


def test_a_run_that_is_paused_in_the_queue_is_shown_so_and_keeps_its_place_there(waiting):
    kit, first, second = waiting
    third = kit.submit(flow(step("c")))
    assert kit.service.pause(second, by="ann").state == "Paused"
    assert kit.service.pause(second).state == "Paused"
    assert kit.kinds(second, "") == ["run-queued", "run-pause-asked", "run-paused"]
    kit.service.cancel(first, keep_cache=True)
    assert kit.wait(third).run.state == "Succeeded"
    kit.runtime.sleep(0.6)
    assert kit.service.get(second).run.state == "Paused"
    assert states_of(kit.service.get(second)) == {"b": "Pending"}
    assert kit.service.resume(second).state == "Queued"
    assert kit.wait(second).run.state == "Succeeded"
    assert kit.kinds(second, "")[3:5] == ["run-resume-asked", "run-queued"]


def test_a_run_that_goes_on_in_the_queue_still_waits_for_its_turn(waiting):
    kit, first, second = waiting
    kit.service.pause(second)
    kit.service.resume(second)
    kit.runtime.sleep(0.6)
    assert kit.service.get(second).run.state == "Queued"
    kit.service.cancel(first, keep_cache=True)
    assert kit.wait(second).run.state == "Succeeded"


def test_a_run_that_is_paused_in_the_queue_can_be_cancelled(waiting):
    kit, _, second = waiting
    kit.service.pause(second)
    kit.service.cancel(second, keep_cache=False)
    status = kit.wait(second)
    assert (status.run.state, states_of(status)) == ("Cancelled", {"b": "Cancelled"})


@pytest.mark.slow
def test_another_coordinator_leaves_a_run_paused_in_the_queue(url, effects):
    with Kit(url, effects, runs_limit=1) as kit:
        first = kit.submit(flow(step("a", "sleep", "60")))
        kit.wait(first, "Running")
        run = kit.submit(flow(step("b")))
        kit.service.pause(run)
        kit.service.cancel(first, keep_cache=True)
        kit.wait(first)
    with Kit(url, effects, runs_limit=1) as kit:
        kit.runtime.sleep(0.7)
        assert kit.service.get(run).run.state == "Paused"
        kit.service.resume(run)
        assert kit.wait(run).run.state == "Succeeded"


def test_a_retry_of_a_run_can_be_paused_in_the_queue_too(waiting):
    kit, first, second = waiting
    kit.service.cancel(second, keep_cache=True)
    kit.wait(second)
    kit.service.retry(second)
    assert kit.service.pause(second).state == "Paused"
    kit.service.cancel(first, keep_cache=True)
    kit.runtime.sleep(0.7)
    assert kit.service.get(second).run.state == "Paused"
    kit.service.resume(second)
    assert kit.wait(second).run.state == "Succeeded"
