"""The engine: it carries out what the machine decides, and obeys whoever asks something of a run."""

import pytest

from cachefs.config.schema import PlanningConfig
from cachefs.dataflow.engine.running import GRACE_SECONDS
from cachefs.errors import (
    CapacityError,
    ConfigError,
    ConflictError,
    DeniedError,
    NotKnownError,
)
from tests.integration.flows.engines import Kit, flow, states_of, step


@pytest.fixture
def priced(url, effects):
    """An engine where 10⁹ bytes of an origin cost 2 USD."""
    with Kit(url, effects, planning=PlanningConfig(egress_usd_per_gb=2.0)) as made:
        yield made


def test_a_run_does_its_steps_in_order_and_tells_the_story(kit):
    run = kit.submit(
        flow(step("a"), step("b", needs=["a"]), step("c", needs=["b"]), finally_=[step("z")])
    )
    status = kit.wait(run)
    assert status.run.state == "Succeeded"
    assert states_of(status) == dict.fromkeys("abcz", "Succeeded")
    assert kit.effects.keys() == ["a", "b", "c", "z"]
    assert kit.kinds(run, "a") == ["step-began", "step-told", "step-succeeded"]
    assert kit.kinds(run, "") == ["run-queued", "run-running", "run-ending", "run-succeeded"]
    numbers = [event.number for event in kit.service.events(run, after=0)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert status.steps[0].outputs == {"did": "do"}


def test_a_step_that_is_done_already_is_not_applied(kit):
    document = flow(step("a"))
    kit.effects.apply("x/a")
    first = kit.submit(document)
    kit.wait(first)
    again = kit.service.retry(first, start="a").id
    assert again == first
    assert kit.wait(first).run.state == "Succeeded"
    assert kit.effects.calls("a") == 2  # ours and the first run's: the second try found it done


def test_every_instance_of_foreach_has_its_own_effect(kit):
    document = flow(
        step("a", rest="foreach: {zone: [x, y, z], max_parallel: 2}"), step("b", needs=["a"])
    )
    run = kit.submit(document)
    status = kit.wait(run)
    assert [one.id for one in status.steps] == ["a", "a[0]", "a[1]", "a[2]", "b"]
    assert set(kit.effects.keys()[:3]) == {"a[0]", "a[1]", "a[2]"}
    assert status.run.state == "Succeeded"


def test_a_failure_that_may_pass_is_tried_again(kit):
    document = flow(step("a", "flaky", "2", rest="retry: {max: 3, backoff: {base: 20ms}}"))
    run = kit.submit(document)
    assert kit.wait(run).run.state == "Succeeded"
    assert kit.kinds(run, "a").count("step-retrying") == 2


def test_who_depends_on_a_failed_step_is_told_at_once_and_finally_runs(kit):
    run = kit.submit(
        flow(
            step("a", "fail"), step("b", needs=["a"]), step("c", needs=["b"]), finally_=[step("z")]
        )
    )
    status = kit.wait(run, seconds=2.0)
    assert status.run.state == "Failed"
    assert states_of(status) == {
        "a": "Failed",
        "b": "UpstreamFailed",
        "c": "UpstreamFailed",
        "z": "Succeeded",
    }
    events = kit.service.events(run, after=0)
    at = {(event.kind, event.step): event.at for event in events}
    assert at["step-upstream-failed", "c"] - at["step-failed", "a"] < 1.0


def test_a_bug_in_a_step_fails_that_step(kit):
    status = kit.wait(kit.submit(flow(step("a", "bug"), step("b"))))
    assert states_of(status) == {"a": "Failed", "b": "Succeeded"}
    assert "ZeroDivisionError" in status.steps[0].failure


def test_a_rollback_undoes_what_succeeded_the_newest_first(kit):
    run = kit.submit(
        flow(
            step("a", rest="compensate: {command: [undo]}"),
            step("b", needs=["a"], rest="compensate: {command: [undo]}"),
            step("c", "fail", needs=["b"], rest="on_failure: rollback"),
        )
    )
    assert kit.wait(run).run.state == "RolledBack"
    assert kit.effects.keys() == ["a", "b", "b/undo", "a/undo"]


def test_a_cancelled_run_stops_at_once_and_begins_nothing(kit):
    run = kit.submit(
        flow(
            step("a", rest="compensate: {command: [undo]}"),
            step("b", "sleep", "60", needs=["a"]),
            step("c", needs=["b"]),
        )
    )
    kit.wait_for_step(run, "b", "Running")
    began = kit.runtime.monotonic()
    kit.service.cancel(run, keep_cache=False)
    status = kit.wait(run)
    assert kit.runtime.monotonic() - began < 2.0
    assert status.run.state == "Cancelled"
    assert states_of(status) == {"a": "Compensated", "b": "Cancelled", "c": "Cancelled"}
    assert kit.effects.keys() == ["a", "a/undo"]
    assert kit.service.cancel(run, keep_cache=False) == status.run


def test_a_run_that_has_succeeded_cannot_be_cancelled(kit):
    run = kit.submit(flow(step("a")))
    kit.wait(run)
    for ask in (
        kit.service.pause,
        kit.service.resume,
        lambda it: kit.service.cancel(it, keep_cache=True),
    ):
        with pytest.raises(ConflictError):
            ask(run)


def test_a_cancelled_run_keeps_what_it_did_if_that_is_asked(kit):
    run = kit.submit(
        flow(step("a", rest="compensate: {command: [undo]}"), step("b", "sleep", "60", needs=["a"]))
    )
    kit.wait_for_step(run, "b", "Running")
    kit.service.cancel(run, keep_cache=True)
    assert kit.wait(run).run.state == "Cancelled"
    assert kit.effects.keys() == ["a"]


def test_a_step_that_does_not_stop_is_left_behind(kit):
    run = kit.submit(flow(step("a", "stuck", "5")))
    kit.wait_for_step(run, "a", "Running")
    began = kit.runtime.monotonic()
    kit.service.cancel(run, keep_cache=False)
    status = kit.wait(run)
    assert GRACE_SECONDS - 0.5 < kit.runtime.monotonic() - began < GRACE_SECONDS + 1.5
    assert "left behind" in status.steps[0].failure
    assert kit.engine.statistics().left_behind == 1


def test_a_step_has_so_much_time_and_no_more(kit):
    run = kit.submit(flow(step("a", "sleep", "60", rest="timeout: 300ms")))
    status = kit.wait(run)
    assert (status.run.state, states_of(status)) == ("Failed", {"a": "TimedOut"})


def test_nothing_begins_in_a_paused_run(kit):
    run = kit.submit(flow(step("a", "sleep", "0.3"), step("b", needs=["a"])))
    kit.wait_for_step(run, "a", "Running")
    kit.service.pause(run)
    kit.wait_for_step(run, "a", "Succeeded")
    kit.runtime.sleep(0.3)
    assert states_of(kit.service.get(run))["b"] == "Pending"
    assert kit.service.get(run).run.state == "Paused"
    with pytest.raises(ConflictError):
        kit.service.retry(run)
    kit.service.resume(run)
    assert kit.wait(run).run.state == "Succeeded"


def test_a_gate_opens_when_somebody_says_so(kit):
    document = flow("id: gate, kind: approve", step("a", needs=["gate"]))
    run = kit.submit(document)
    kit.wait_for_step(run, "gate", "Blocked")
    with pytest.raises(NotKnownError, match="gate"):
        kit.service.approve(run, "gatt", granted=True, by="ann")
    kit.service.approve(run, "", granted=True, by="ann", message="looks good")
    assert kit.wait(run).run.state == "Succeeded"
    told = {event.kind: event.message for event in kit.service.events(run, after=0)}
    assert told["step-approved"] == "by ann: looks good"


def test_only_those_whom_the_step_names_may_answer_it(kit):
    run = kit.submit(flow("id: gate, kind: approve, with: {approvers: [ann, bob]}"))
    kit.wait_for_step(run, "gate", "Blocked")
    with pytest.raises(DeniedError, match="eve may not answer it"):
        kit.service.approve(run, "gate", granted=True, by="eve")
    kit.service.approve(run, "gate", granted=True, by="bob")
    assert kit.wait(run).run.state == "Succeeded"


def test_a_gate_that_is_refused_fails(kit):
    run = kit.submit(flow("id: gate, kind: approve", step("a", needs=["gate"])))
    kit.wait_for_step(run, "gate", "Blocked")
    kit.service.approve(run, "gate", granted=False, by="ann")
    assert states_of(kit.wait(run)) == {"gate": "Failed", "a": "UpstreamFailed"}


def test_a_key_makes_two_submissions_one_run(kit):
    document = flow(step("a"))
    first = kit.service.submit(document, {}, key="k")
    second = kit.service.submit(document, {}, key="k")
    assert (first.run.id, first.is_new, second.is_new) == (second.run.id, True, False)
    with pytest.raises(ConflictError, match="another flow"):
        kit.service.submit(flow(step("b")), {}, key="k")
    kit.wait(first.run.id)
    assert kit.effects.calls("a") == 1


def test_a_parameter_that_there_is_not_is_refused(kit):
    document = flow(step("a", '"${params.verb}"'), head="  params: {verb: do}")
    with pytest.raises(ConfigError, match="did you mean"):
        kit.service.submit(document, {"verbb": "do"})
    assert kit.wait(kit.submit(document, {"verb": "fail"})).run.state == "Failed"


def test_runs_of_a_group_go_one_after_another(kit):
    head = "  concurrency: {group: one, policy: queue}"
    slow = flow(step("a", "sleep", "0.4"), head=head)
    first, second = kit.submit(slow), kit.submit(slow)
    kit.wait(first, "Running")
    assert kit.service.get(second).run.state == "Queued"
    assert kit.wait(first).run.ended_at <= kit.wait(second).run.started_at


def test_a_group_can_cancel_who_is_before_or_refuse_who_comes(kit):
    slow = step("a", "sleep", "60")
    first = kit.submit(flow(slow, head="  concurrency: {group: one, policy: cancel}"))
    kit.wait_for_step(first, "a", "Running")
    with pytest.raises(ConflictError, match="not over"):
        kit.submit(flow(slow, head="  concurrency: {group: one, policy: reject}"))
    second = kit.submit(flow(step("a"), head="  concurrency: {group: one, policy: cancel}"))
    assert kit.wait(second).run.state == "Succeeded"
    assert kit.service.get(first).run.state == "Cancelled"


def test_a_queued_run_can_be_cancelled_and_has_no_effect(url, effects):
    with Kit(url, effects, runs_limit=1, queued_runs_limit=1) as kit:
        first = kit.submit(flow(step("a", "sleep", "60")))
        kit.wait(first, "Running")
        second = kit.submit(flow(step("b"), finally_=[step("z")]))
        with pytest.raises(CapacityError):
            kit.submit(flow(step("c")))
        kit.service.cancel(second, keep_cache=False)
        status = kit.wait(second)
        assert status.run.state == "Cancelled"
        assert states_of(status) == {"b": "Cancelled", "z": "Cancelled"}
        kit.service.cancel(first, keep_cache=False)
        kit.wait(first)
    assert effects.keys() == []


def test_more_steps_than_threads_wait_for_each_other(url, effects):
    with Kit(url, effects, steps_limit=2) as kit:
        run = kit.submit(flow(step("a", rest="foreach: {n: [1, 2, 3, 4, 5, 6, 7]}")))
        assert kit.wait(run).run.state == "Succeeded"
    assert len(effects.keys()) == 7


def test_a_retry_goes_on_from_what_is_there(kit):
    document = flow(
        step("a"),
        step("b", "flaky", "1", needs=["a"]),
        step("c", needs=["b"]),
        finally_=[step("z")],
    )
    run = kit.submit(document)
    assert kit.wait(run).run.state == "Failed"
    kit.service.retry(run)
    assert kit.wait(run).run.state == "Succeeded"
    assert kit.effects.calls("a") == 1
    assert kit.effects.calls("b") == 1
    assert kit.kinds(run, "z").count("step-began") == 2


def test_only_what_failed_is_retried_if_that_is_asked(kit):
    document = flow(
        step("a", rest="foreach: {n: [1, 2]}"),
        step("b", "flaky", "1", needs=["a"]),
        step("c", needs=["b"], rest='if: "always()"'),
    )
    run = kit.submit(document)
    assert states_of(kit.wait(run))["c"] == "Succeeded"
    kit.service.retry(run, only_failed=True)
    assert kit.wait(run).run.state == "Succeeded"
    assert kit.kinds(run, "c").count("step-began") == 1
    assert kit.kinds(run, "b").count("step-began") == 2
    with pytest.raises(ConflictError, match="every step"):
        kit.service.retry(run, only_failed=True)


def test_a_retry_of_failed_instances_leaves_the_others_alone(kit):
    document = flow(
        step("a", '"${each.verb}"', "1", rest="foreach: {verb: [do, flaky], fail_fast: false}")
    )
    run = kit.submit(document)
    assert kit.wait(run).run.state == "Failed"
    kit.service.retry(run)
    assert kit.wait(run).run.state == "Succeeded"
    assert kit.kinds(run, "a[0]").count("step-began") == 1
    assert kit.kinds(run, "a[1]").count("step-began") == 2


def test_a_retry_from_a_step_does_it_and_all_that_depends_on_it_again(kit):
    run = kit.submit(flow(step("a"), step("b", needs=["a"]), step("c", needs=["b"])))
    kit.wait(run)
    kit.service.retry(run, start="b")
    assert kit.wait(run).run.state == "Succeeded"
    assert [kit.kinds(run, one).count("step-began") for one in "abc"] == [1, 2, 2]


def test_progress_is_fresher_than_the_store(kit):
    run = kit.submit(flow(step("a", "sleep", "0.6")))
    seen = set()
    while not (status := kit.service.get(run)).run.over:
        seen.add(round(status.progress.done))
        kit.runtime.sleep(0.02)
    assert len(seen) > 5


def test_runs_that_are_over_are_kept_for_so_long(url, effects):
    with Kit(url, effects, runs_kept=2) as kit:
        runs = [kit.submit(flow(step("a"))) for _ in range(4)]
        for run in runs:
            kit.wait(run)
        kit.engine._trimmed_at = -1000.0
        kit.submit(flow(step("b", "sleep", "1")))
        until = kit.runtime.monotonic() + 5.0
        while len(kit.service.every(limit=10)) > 3:
            assert kit.runtime.monotonic() < until
            kit.runtime.sleep(0.02)
        left = [run.id for run in kit.service.every(limit=10)]
        assert left[1:] == [runs[3], runs[2]]
        with pytest.raises(NotKnownError):
            kit.service.events(runs[0], after=0)


@pytest.mark.parametrize(
    ("budget", "verb"),
    [
        ("origin_bytes: 1KB", "spend, 2000"),
        ("egress_usd: 3", "spend, 2000000000"),
        ("wall: 300ms", "rest, 60"),
    ],
)
def test_a_run_that_is_over_its_budget_is_stopped_and_has_failed(priced, budget, verb):
    kit = priced
    document = flow(
        step("a", verb),
        step("b", needs=["a"]),
        finally_=[step("z")],
        head=f"  budget: {{{budget}}}",
    )
    status = kit.wait(kit.submit(document), seconds=5.0)
    assert (status.run.state, states_of(status)) == (
        "Failed",
        {"a": "Cancelled", "b": "Cancelled", "z": "Succeeded"},
    )
    assert "over budget" in status.run.failure


def test_what_origins_charge_is_counted_while_a_run_goes_on(priced):
    run = priced.submit(flow(step("a", "spend", "2000000000"), step("b", "charity", "1000")))
    priced.wait_for_step(run, "a", "Running")
    until = priced.runtime.monotonic() + 5.0
    while (status := priced.service.get(run)).progress.origin_bytes < 2_000_001_000:
        assert priced.runtime.monotonic() < until
        priced.runtime.sleep(0.02)
    assert status.egress_usd == 4.0
    assert status.progress.egress_bytes == 2_000_000_000
