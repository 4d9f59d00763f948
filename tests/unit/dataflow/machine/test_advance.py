"""The rules of runs, each on a small flow."""

import pytest

from cachefs.dataflow.machine.decisions import Begin, Outcome, Settle, Spent
from cachefs.errors import ConflictError, InvariantError
from tests.unit.dataflow.machine.engines import (
    BUSY,
    DONE,
    FAILED,
    LATE,
    STOPPED,
    PaperEngine,
    fails,
    step,
)
from tests.unit.dataflow.machine.engines import (
    flow_of_steps as flow,
)


def test_a_step_begins_when_all_that_it_needs_has_succeeded():
    engine = PaperEngine(flow(step("a"), step("b"), step("c", "a, b")))
    engine.tick()
    assert set(engine.threads) == {"a", "b"}
    engine.end("a")
    assert engine.tick() == ()
    engine.end("b")
    engine.tick()
    assert set(engine.threads) == {"c"}
    assert engine.play() == "Succeeded"


def test_a_failure_fails_those_below_at_once_though_others_still_run():
    engine = PaperEngine(flow(step("a"), step("b"), step("c", "a, b"), step("d", "c")))
    engine.tick()
    engine.end("a", FAILED)
    engine.tick()
    assert engine.states() == {
        "a": "Failed",
        "b": "Running",
        "c": "UpstreamFailed",
        "d": "UpstreamFailed",
    }
    assert engine.play() == "Failed"
    assert engine.machine.run.failure == "a: boom"


def test_branches_that_do_not_need_what_failed_go_on():
    engine = PaperEngine(flow(step("a"), step("b"), step("c", "b")))
    assert engine.play(fails("a")) == "Failed"
    assert engine.states()["c"] == "Succeeded"


def test_a_step_whose_if_does_not_hold_is_skipped_and_counts_as_satisfied():
    engine = PaperEngine(
        flow(step("a"), step("b", "a", ", if: 1 > 2"), step("c", "b")),
    )
    assert engine.play() == "Succeeded"
    assert engine.states() == {"a": "Succeeded", "b": "Skipped", "c": "Succeeded"}


@pytest.mark.parametrize(
    ("condition", "after_success", "after_failure"),
    [
        ("always()", "Succeeded", "Succeeded"),
        ("failed()", "Skipped", "Succeeded"),
        ("succeeded()", "Succeeded", "UpstreamFailed"),
        ("steps.a.state == 'Succeeded'", "Succeeded", "UpstreamFailed"),
        ("always() && steps.a.state == 'Failed'", "Skipped", "Succeeded"),
        ("succeeded() && 1 > 2", "Skipped", "UpstreamFailed"),
    ],
)
def test_an_if_decides(condition, after_success, after_failure):
    made = flow(step("a"), step("b", "a", f', if: "{condition}"'))
    good, bad = PaperEngine(made), PaperEngine(made)
    good.play()
    bad.play(fails("a"))
    assert (good.states()["b"], bad.states()["b"]) == (after_success, after_failure)


def test_an_if_that_asks_how_others_ended_waits_for_all_of_them():
    engine = PaperEngine(flow(step("a"), step("b"), step("c", "a, b", ", if: failed()")))
    engine.tick()
    engine.end("a", FAILED)
    engine.tick()
    assert "c" not in engine.threads
    engine.end("b")
    engine.tick()
    assert "c" in engine.threads


def test_an_if_that_cannot_be_told_fails_the_step():
    engine = PaperEngine(flow(step("a", "", ', if: "plan.egress_usd > 1"')))
    assert engine.play() == "Failed"
    assert "nothing > a number" in engine.machine.run.failure


def test_a_failure_that_may_be_ignored_satisfies():
    engine = PaperEngine(flow(step("a", "", ", on_failure: continue"), step("b", "a")))
    assert engine.play(fails("a")) == "Succeeded"
    assert engine.states() == {"a": "Failed", "b": "Succeeded"}


def test_a_transient_failure_is_tried_again_after_a_wait_that_grows():
    engine = PaperEngine(
        flow(step("a", "", ", retry: {max: 2, backoff: {base: 10s, factor: 3, max: 25s}}"))
    )
    engine.tick()
    assert engine.end("a", BUSY).not_before == 10
    assert engine.tick() == ()
    assert engine.machine.next_at() == 10
    engine.now = 10
    engine.tick()
    assert engine.end("a", BUSY, draw=0.5).not_before == 10 + 12.5
    engine.now = 22.5
    engine.tick()
    assert engine.end("a", BUSY).state == "Failed"
    assert engine.store["a"].attempt == 3


@pytest.mark.parametrize(
    ("when", "outcome", "state"),
    [
        ("transient", BUSY, "Retrying"),
        ("transient", FAILED, "Failed"),
        ("transient", LATE, "TimedOut"),
        ("timeout", LATE, "Retrying"),
        ("timeout", BUSY, "Failed"),
        ("any", FAILED, "Retrying"),
        ("any", LATE, "Retrying"),
        ("any", STOPPED, "Cancelled"),
    ],
)
def test_what_is_tried_again_depends_on_the_class_of_the_error(when, outcome, state):
    engine = PaperEngine(flow(step("a", "", f", retry: {{max: 1, when: [{when}]}}")))
    engine.tick()
    assert engine.end("a", outcome).state == state


def test_a_retry_waits_at_least_as_long_as_the_other_side_asked():
    engine = PaperEngine(flow(step("a", "", ", retry: {max: 1, backoff: {base: 1s}}")))
    engine.tick()
    asked = Outcome(state="failed", retryable=True, retry_after_seconds=60)
    assert engine.end("a", asked).not_before == 61


def test_a_step_out_of_time_is_stopped_and_has_timed_out():
    engine = PaperEngine(flow(step("a", "", ", timeout: 30s"), step("b", "a")))
    engine.tick()
    engine.now = 29.9
    assert engine.tick() == ()
    assert engine.machine.next_at() == 30
    engine.now = 30
    engine.tick()
    assert engine.log[-1] == "stop a timeout"
    assert engine.end("a", STOPPED).state == "TimedOut"
    assert engine.play() == "Failed"
    assert engine.states()["b"] == "UpstreamFailed"


def test_foreach_makes_an_instance_of_each_value_and_sums_them_up():
    engine = PaperEngine(
        flow(
            "{id: a, kind: process, foreach: {zone: [x, y]}, "
            'with: {command: [go, "${each.zone}", "${each.index}"]}}',
            '{id: b, kind: process, needs: [a], with: {command: ["${steps.a.outputs.n[1]}"]}}',
        )
    )
    engine.tick()
    assert engine.threads["a[1]"].record.arguments == {"command": ["go", "y", 1]}
    engine.end("a[1]", Outcome(state="done", outputs={"n": 7}))
    engine.end("a[0]", Outcome(state="done", outputs={"n": 5}))
    engine.tick()
    assert engine.store["a"].outputs == {"n": [5, 7]}
    assert engine.threads["b"].record.arguments == {"command": [7]}


def test_no_more_instances_run_at_once_than_may():
    engine = PaperEngine(
        flow(
            "{id: a, kind: process, foreach: {i: '${range(7)}', max_parallel: 3}, with: {command: [x]}}"
        )
    )
    most = 0
    while not engine.machine.run.over:
        engine.tick()
        most = max(most, len(engine.threads))
        if engine.threads:
            engine.end(next(iter(engine.threads)))
    assert most == 3
    assert list(engine.states().values()).count("Succeeded") == 8


@pytest.mark.parametrize(("fast", "begun"), [("true", 2), ("false", 4)])
def test_a_failed_instance_keeps_others_from_beginning_if_that_is_said(fast, begun):
    foreach = f"{{i: [1, 2, 3, 4], max_parallel: 2, fail_fast: {fast}}}"
    engine = PaperEngine(
        flow(f"{{id: a, kind: process, foreach: {foreach}, with: {{command: [x]}}}}")
    )
    assert engine.play(fails("a[0]")) == "Failed"
    assert sum(line.startswith("begin") for line in engine.log) == begun
    assert engine.store["a"].failure == "1 of 4 instances failed; a[0]: boom"


def test_foreach_without_values_is_skipped():
    engine = PaperEngine(
        flow("{id: a, kind: process, foreach: {i: []}, with: {command: [x]}}", step("b", "a"))
    )
    assert engine.play() == "Succeeded"
    assert engine.states() == {"a": "Skipped", "b": "Succeeded"}


def test_a_paused_run_begins_nothing_until_it_goes_on():
    engine = PaperEngine(flow(step("a"), step("b", "a")))
    engine.tick()
    engine.want("pause")
    engine.tick()
    engine.end("a")
    engine.tick()
    assert engine.machine.run.state == "Paused"
    assert not engine.threads
    engine.crash()
    engine.want("")
    engine.tick()
    assert set(engine.threads) == {"b"}
    assert engine.machine.run.state == "Running"


def test_finally_runs_whatever_happened_and_knows_how_it_went():
    last = "[{id: good, kind: process, if: succeeded(), with: {command: [x]}},"
    last += " {id: bad, kind: process, if: failed(), with: {command: ['${steps.a.state}']}}]"
    for outcome, states in ((DONE, ("Succeeded", "Skipped")), (FAILED, ("Skipped", "Succeeded"))):
        engine = PaperEngine(flow(step("a"), finally_=last))
        engine.play(lambda one, o=outcome: o if one.record.id == "a" else DONE)
        assert (engine.states()["good"], engine.states()["bad"]) == states


def test_a_failure_in_finally_fails_a_run_that_had_succeeded():
    engine = PaperEngine(flow(step("a"), finally_="[" + step("z") + "]"))
    assert engine.play(fails("z")) == "Failed"
    assert engine.machine.run.failure == "z: boom"


def test_an_approval_waits_for_a_person_without_a_thread():
    engine = PaperEngine(flow("{id: a, kind: approve}", step("b", "a")))
    engine.tick()
    assert engine.states()["a"] == "Blocked"
    assert not engine.threads
    engine.crash()
    with pytest.raises(ConflictError, match="b: it waits for no approval"):
        engine.machine.approved("b", by="ann", now=1, granted=True)
    engine.store["a"] = engine.machine.approved("a", by="ann", now=1, granted=True)
    engine.tick()
    assert set(engine.threads) == {"b"}
    assert engine.store["a"].outputs == {"by": "ann"}


def test_a_refused_or_forgotten_approval_fails():
    made = flow("{id: a, kind: approve, timeout: 1h}", step("b", "a"))
    refused, forgotten = PaperEngine(made), PaperEngine(made)
    refused.tick()
    refused.store["a"] = refused.machine.approved("a", by="ann", now=1, granted=False)
    assert refused.play() == "Failed"
    assert refused.machine.run.failure == "a: refused by ann"
    assert forgotten.play() == "Failed"
    assert forgotten.states()["a"] == "TimedOut"
    assert forgotten.now == 3600


def test_an_eviction_waits_until_it_is_time_without_a_thread():
    engine = PaperEngine(flow("{id: a, kind: evict, with: {dataset: m, after: 1h}}"))
    engine.tick()
    assert engine.states()["a"] == "Blocked"
    engine.crash()
    assert engine.machine.next_at() == 3600
    engine.now = 3600
    engine.tick()
    assert set(engine.threads) == {"a"}


def test_a_run_over_its_budget_is_stopped_and_fails():
    engine = PaperEngine(flow(step("a"), step("b", "a"), budget="{origin_bytes: 100, wall: 60s}"))
    engine.tick()
    engine.spent = Spent(origin_bytes=101)
    engine.tick()
    assert engine.log[-1] == "stop a budget"
    engine.end("a", STOPPED)
    assert engine.play() == "Failed"
    assert engine.machine.run.failure == "over budget: 101 bytes from origins, of 100"
    slow = PaperEngine(engine.flow)
    slow.tick()
    assert slow.machine.next_at() == 60
    slow.now = 60
    slow.tick()
    assert slow.log[-1] == "stop a budget"


def test_arguments_that_do_not_fit_when_rendered_fail_the_step_before_it_begins():
    engine = PaperEngine(
        flow("{id: a, kind: scale, with: {pool: p, workers: '${params.n}'}}", params="{n: many}")
    )
    assert engine.play() == "Failed"
    assert "workers: text, where a whole number is needed" in engine.machine.run.failure
    assert not engine.threads


def test_a_wait_looks_at_what_the_prefetches_filled_that_it_needs():
    engine = PaperEngine(
        flow(
            '{id: warm, kind: prefetch, foreach: {z: [a, b]}, with: {dataset: m, zone: "${each.z}"}}',
            "{id: ready, kind: wait, needs: [warm], with: {condition: verified}}",
        )
    )
    engine.tick()
    for name in list(engine.threads):
        engine.end(name)
    engine.tick()
    of = [{"dataset": "m", "zone": "a"}, {"dataset": "m", "zone": "b"}]
    assert engine.threads["ready"].record.arguments["of"] == of


def test_no_more_begins_than_there_are_slots():
    engine = PaperEngine(flow(*(step(name) for name in "abcde")))
    engine.tick(slots=2)
    assert list(engine.threads) == ["a", "b"]
    engine.tick(slots=1)
    assert list(engine.threads) == ["a", "b", "c"]


def test_outputs_are_made_of_what_a_step_returned():
    engine = PaperEngine(
        flow("{id: a, kind: process, with: {command: [x]}, outputs: {big: 'result.bytes > 1GiB'}}")
    )
    engine.tick()
    done = engine.end("a", Outcome(state="done", outputs={"bytes": 2**31}))
    assert done.outputs == {"bytes": 2**31, "big": True}


def test_an_ended_thread_that_nobody_began_is_a_bug():
    engine = PaperEngine(flow(step("a")))
    with pytest.raises(InvariantError):
        engine.machine.ended("a", DONE, now=0, draw=0)


def test_what_was_begun_is_resumed_with_its_arguments_and_attempt():
    engine = PaperEngine(flow(step("a")))
    begun = next(one for one in engine.tick() if isinstance(one, Begin))
    engine.now = 5
    engine.crash()
    resumed = engine.threads["a"]
    assert (resumed.record.attempt, resumed.record.arguments) == (1, begun.record.arguments)
    assert not any(isinstance(one, Settle) for one in engine.tick())
