"""``flow``: a run within a run, on the real engine."""

import pytest

from cachefs.dataflow.steps.subflows import FlowStep
from tests.integration.flows.engines import Kit, flow, states_of, step

INNER = """
apiVersion: cachefs/v1
kind: Flow
metadata: {name: inner, namespace: team}
spec:
  params: {verb: do, rest: ""}
  steps:
  - {id: x, kind: process, with: {command: ["${params.verb}", "${params.rest}"]}, compensate: {command: [undo]}}
"""


@pytest.fixture
def kit(url, effects):
    with Kit(url, effects) as made:
        made.engine._kinds["flow"] = FlowStep(made.service, {"team/inner": INNER}.get)
        yield made


def sub(name, params="", rest=""):
    text = f"id: {name}, kind: flow, with: {{name: inner, params: {{{params}}}}}"
    return f"{text}, {rest}" if rest else text


def child(kit):
    return next(run for run in kit.service.every(limit=10) if run.flow == "team/inner")


def test_a_flow_within_a_flow_runs_and_gives_its_outputs(kit):
    run = kit.submit(flow(sub("a"), step("b", needs=["a"])))
    status = kit.wait(run)
    assert status.run.state == "Succeeded"
    inner = child(kit)
    outputs = status.steps[0].outputs
    assert outputs == {"run": inner.id, "steps": {"x": {"did": "do"}}}
    assert inner.cause == f"flow {run}/a"
    assert inner.key == f"{run}/a"


def test_a_document_within_a_document_has_templates_of_its_own(kit):
    lines = [
        "  - id: a",
        "    kind: flow",
        "    with:",
        "      params: {verb: do}",
        "      document:",
        *(f"        {line}" for line in INNER.strip().splitlines()),
    ]
    document = flow().replace("  steps:", "\n".join(["  steps:", *lines]))
    assert kit.wait(kit.submit(document)).run.state == "Succeeded"
    assert kit.effects.keys() == ["x"]


def test_a_retry_has_the_same_run_go_on(kit):
    rest = "retry: {max: 2, when: [any], backoff: {base: 10ms}}"
    run = kit.submit(flow(sub("a", 'verb: flaky, rest: "2"', rest)))
    assert kit.wait(run).run.state == "Succeeded"
    runs = [one for one in kit.service.every(limit=10) if one.flow == "team/inner"]
    assert len(runs) == 1
    assert kit.kinds(runs[0].id).count("run-retry-asked") == 2


def test_a_failure_within_is_a_failure_without(kit):
    status = kit.wait(kit.submit(flow(sub("a", "verb: fail"))))
    assert status.run.state == "Failed"
    assert child(kit).id in status.steps[0].failure
    assert "it fails" in status.steps[0].failure


@pytest.mark.parametrize("keep", [False, True])
def test_cancelling_the_outer_run_cancels_the_inner_one_in_the_same_way(kit, keep):
    run = kit.submit(flow(sub("a", 'verb: sleep, rest: "60"')))
    until = kit.runtime.monotonic() + 10.0
    while not any(
        one.flow == "team/inner" and one.state == "Running" for one in kit.service.every(limit=9)
    ):
        assert kit.runtime.monotonic() < until
        kit.runtime.sleep(0.02)
    inner = child(kit).id
    kit.wait_for_step(inner, "x", "Running")
    began = kit.runtime.monotonic()
    kit.service.cancel(run, keep_cache=keep)
    assert kit.wait(run).run.state == "Cancelled"
    status = kit.wait(inner)
    assert kit.runtime.monotonic() - began < 3.0
    assert (status.run.state, status.run.keep_cache) == ("Cancelled", keep)
    assert states_of(status) == {"x": "Cancelled" if keep else "Compensated"}


def test_a_flow_that_runs_itself_comes_to_an_end(kit):
    endless = flow("id: a, kind: flow, with: {name: test}")
    run = kit.submit(endless)
    status = kit.wait(run, seconds=20.0)
    assert status.run.state == "Failed"
    assert len(kit.service.every(limit=100)) == 9


def test_a_flow_that_nobody_submitted_is_not_known(kit):
    status = kit.wait(kit.submit(flow("id: a, kind: flow, with: {name: other/none}")))
    assert "no flow of that name" in status.steps[0].failure
