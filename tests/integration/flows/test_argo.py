"""Runs that a workflow of Argo's follows: the same states as without it, whatever happens to either.

The workflow is carried out by :mod:`.workflows`, its pods' commands are the real ones, and so is the
coordinator that they ask.
"""

import threading

import httpx
import pytest
import typer

from cachefs.cli import main
from cachefs.cli.flow import argo as pods
from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.process import CoordinatorProcess
from cachefs.dataflow.exporting import argo
from cachefs.dataflow.serving.duty import FlowDuty
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import CoordinatorUnavailableError
from cachefs.transport.runtime import ThreadRuntime
from tests.integration.flows.engines import Acting, Effects, flow, step
from tests.integration.flows.workflows import Workflow

RUNTIME = ThreadRuntime()
OVER = ("Succeeded", "Failed", "Cancelled", "RolledBack")


@pytest.fixture
def http(tmp_path, monkeypatch):
    effects = Effects(tmp_path / "effects.db")
    config = CoordinatorConfig(store_url=f"sqlite:///{tmp_path / 'store.db'}")

    def open_flows(parts):
        return FlowDuty(parts, lambda _: {"process": Acting(effects)}, environment={})

    token = tmp_path / "token"
    token.write_text("a token")
    token.chmod(0o600)
    monkeypatch.setattr(pods, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(pods, "_CLOSE_SECONDS", 1.0)
    with CoordinatorProcess(
        config, ClusterConfig(), Secret("a token"), duties=[open_flows]
    ) as running:
        monkeypatch.setenv("CACHEFS_COORDINATOR", running.http_address)
        monkeypatch.setenv("CACHEFS_TOKEN_FILE", str(token))
        with httpx.Client(
            base_url=f"http://{running.http_address}",
            headers={"Authorization": "Bearer a token"},
            trust_env=False,
        ) as client:
            yield client


def workflow_of(document, folder, **options):
    folder.mkdir()
    place = argo.Place(image="cachefs:1", coordinator="cachefs:9400", token="cachefs-token/token")
    exported = argo.export(read_flow(document, name="flow"), document, place)
    return Workflow(exported.document, folder, **options)


def only_run(http, *, by="argo"):
    runs = http.get("/v1/runs").json()["runs"]
    found = [run["id"] for run in runs if by in run["cause"]]
    assert len(found) == 1, runs
    return found[0]


def table(http, run):
    """Return the state of a run and of all its steps."""
    status = http.get(f"/v1/runs/{run}").json()
    return status["run"]["state"], {one["id"]: one["state"] for one in status["steps"]}


def run_without(http, document, **params):
    """Return the table of the same flow, submitted by a person who approves what waits."""
    run = http.post("/v1/runs", json={"document": document, "params": params, "by": "ann"}).json()
    until = RUNTIME.monotonic() + 30.0
    while True:
        state, steps = table(http, run["id"])
        if state in OVER:
            return state, steps
        for name, one in steps.items():
            if one == "Blocked":
                http.post(f"/v1/runs/{run['id']}/approve", json={"step": name, "by": "ann"})
        assert RUNTIME.monotonic() < until, steps
        RUNTIME.sleep(0.02)


def wait_for(condition):
    until = RUNTIME.monotonic() + 20.0
    while not condition():
        assert RUNTIME.monotonic() < until
        RUNTIME.sleep(0.02)


FLOWS = {
    "all is well": flow(
        step("a"),
        step("b", "do", needs=["a"], rest="foreach: {zone: [x, y, z]}"),
        "id: gate, kind: approve, needs: [b]",
        step("c_d", needs=["gate"]),
        finally_=[step("last"), step("very-last", needs=["last"])],
    ),
    "a step fails": flow(
        step("a", "fail"),
        step("b", needs=["a"]),
        step("c"),
        step("report", needs=["a"], rest='if: "failed()"'),
        step("clean", needs=["a", "c"], rest='if: "always()"'),
        finally_=[step("last")],
    ),
    "a failure is let pass": flow(
        step("a", "fail", rest="on_failure: continue"),
        step("b", needs=["a"]),
        step("c", "fail", rest="on_failure: continue"),
    ),
    "a step is tried again": flow(
        step("a", "flaky", "2", rest="retry: {max: 3, backoff: {base: 10ms}}"),
        step("b", needs=["a"]),
    ),
    "what is done is undone": flow(
        step("a", rest="compensate: {command: [undo]}"),
        step("b", "fail", needs=["a"], rest="on_failure: rollback"),
        step("c", needs=["b"]),
        finally_=[step("last")],
    ),
    "an approval is not needed": flow(
        step("a"),
        'id: gate, kind: approve, needs: [a], if: "false"',
        step("b", needs=["gate"]),
    ),
    "only finally fails": flow(step("a"), finally_=[step("last", "fail")]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_has_the_same_states_with_argo_as_without(name, http, tmp_path):
    workflow = workflow_of(FLOWS[name], tmp_path / "pods")
    phase = workflow.run()
    state, steps = table(http, only_run(http))
    assert (state, steps) == run_without(http, FLOWS[name])
    assert phase == ("Succeeded" if state == "Succeeded" else "Failed"), workflow.nodes
    assert workflow.nodes["end"] == phase


@pytest.mark.slow
def test_nodes_show_what_became_of_their_steps(http, tmp_path):
    workflow = workflow_of(FLOWS["a step fails"], tmp_path / "pods")
    workflow.run()
    shown = {name: workflow.nodes[name] for name in ("a", "b", "c", "report", "clean", "last")}
    assert shown == {
        "a": "Failed",
        "b": "Omitted",
        "c": "Succeeded",
        "report": "Succeeded",
        "clean": "Succeeded",
        "last": "Succeeded",
    }
    assert (workflow.codes["a"], workflow.codes["end"]) == (11, 11)


@pytest.mark.slow
def test_whoever_resumes_has_approved(http, tmp_path):
    asked, resumed = threading.Event(), threading.Event()

    def resume(_name):
        asked.set()
        return resumed.wait(20.0)

    workflow = workflow_of(FLOWS["all is well"], tmp_path / "pods", resume=resume)
    thread = threading.Thread(target=workflow.run, daemon=True)
    thread.start()
    assert asked.wait(20.0)
    run = only_run(http)
    assert table(http, run)[1]["gate"] == "Blocked"
    resumed.set()
    thread.join(20.0)
    gate = next(one for one in http.get(f"/v1/runs/{run}").json()["steps"] if one["id"] == "gate")
    assert (gate["state"], gate["outputs"]) == (
        "Succeeded",
        {"by": "argo argo/test-x"},
    )


@pytest.mark.slow
def test_a_run_whose_workflow_is_stopped_is_cancelled_and_its_last_steps_run(http, tmp_path):
    document = flow(
        step("a"),
        step("long", "rest", "30", needs=["a"]),
        step("b", needs=["long"]),
        finally_=[step("last")],
    )
    workflow = workflow_of(document, tmp_path / "pods")
    ended = []
    thread = threading.Thread(target=lambda: ended.append(workflow.run()), daemon=True)
    thread.start()
    wait_for(lambda: http.get("/v1/runs").json()["runs"])
    run = only_run(http)
    wait_for(lambda: table(http, run)[1]["long"] == "Running")
    workflow.stopped.set()
    thread.join(30.0)
    assert ended == ["Failed"]
    assert table(http, run) == (
        "Cancelled",
        {"a": "Succeeded", "long": "Cancelled", "b": "Cancelled", "last": "Succeeded"},
    )
    assert workflow.codes["end"] == 12


@pytest.mark.slow
def test_a_pod_that_comes_twice_begins_one_run(http, tmp_path):
    document = flow(step("a"), head="  params: {verb: do}")
    (tmp_path / "flow.yaml").write_text(document)
    command = ["flow", "argo", "begin", str(tmp_path / "flow.yaml"), "--key", "argo-1"]
    command += ["--by", "argo a/b", "--param=verb=again", "--out", str(tmp_path / "run")]
    for _ in range(2):
        typer.main.get_command(main.app)(command, standalone_mode=False)
    assert (tmp_path / "run").read_text() == only_run(http)
    run = http.get("/v1/runs").json()["runs"][0]
    assert (run["params"], run["cause"]) == ({"verb": "again"}, "manual argo a/b")


@pytest.mark.slow
def test_progress_is_written_where_argo_looks_for_it(http, tmp_path, monkeypatch):
    monkeypatch.setenv("ARGO_PROGRESS_FILE", str(tmp_path / "progress"))
    pods._report({"progress": {"done": 3.7, "total": 10.2}})
    assert (tmp_path / "progress").read_text() == "3/10\n"
    pods._report({"progress": {"done": 0.0, "total": 0.0}})
    assert (tmp_path / "progress").read_text() == "3/10\n"


def test_a_pod_that_no_coordinator_answers_gives_up_in_the_end(monkeypatch, tmp_path):
    token = tmp_path / "token"
    token.write_text("a token")
    token.chmod(0o600)
    monkeypatch.setenv("CACHEFS_COORDINATOR", "127.0.0.1:1")
    monkeypatch.setenv("CACHEFS_TOKEN_FILE", str(token))
    monkeypatch.setattr(pods, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(pods, "_AWAY_SECONDS", 0.2)
    with pytest.raises(CoordinatorUnavailableError):
        typer.main.get_command(main.app)(
            ["flow", "argo", "end", "a/b", "argo-1"], standalone_mode=False
        )


@pytest.mark.slow
def test_a_workflow_whose_flow_is_refused_has_failed_and_left_nothing(http, tmp_path):
    document = flow(
        step("a"), step("b", needs=["a"], rest='if: "always()"'), head="  params: {n: 1}"
    )
    workflow = workflow_of(document, tmp_path / "pods", params={"n": "many"})
    assert workflow.run() == "Failed"
    assert http.get("/v1/runs").json()["runs"] == []
    assert (workflow.codes, workflow.nodes["b"]) == ({"begin": 2, "close": 4}, "Omitted")
