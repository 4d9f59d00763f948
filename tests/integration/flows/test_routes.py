"""Flows over HTTP: a coordinator's process with the duty of flows, and steps that do what they are told."""

import json
import threading

import httpx
import pytest

from cachefs.config.schema import ClusterConfig, CoordinatorConfig, FlowConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.process import CoordinatorProcess
from cachefs.dataflow.serving.duty import FlowDuty
from cachefs.errors import CapacityError, ConfigError, ConflictError, NotKnownError
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire import failures
from tests.integration.flows.engines import Acting, Effects, flow, step

RUNTIME = ThreadRuntime()
TOKEN = Secret("a token")


@pytest.fixture
def process(tmp_path):
    effects = Effects(tmp_path / "effects.db")
    config = CoordinatorConfig(
        store_url=f"sqlite:///{tmp_path / 'store.db'}", flows=FlowConfig(watchers_limit=1)
    )

    def open_flows(parts):
        return FlowDuty(
            parts, lambda _: {"process": Acting(effects)}, environment={"HOOK": "the hook's own"}
        )

    with CoordinatorProcess(config, ClusterConfig(), TOKEN, duties=[open_flows]) as running:
        yield running


@pytest.fixture
def http(process):
    with httpx.Client(
        base_url=f"http://{process.http_address}",
        headers={"Authorization": "Bearer a token"},
        trust_env=False,
    ) as client:
        yield client


def submit(http, document, key="", **params):
    headers = {"Idempotency-Key": key} if key else {}
    return http.post("/v1/runs", json={"document": document, "params": params}, headers=headers)


def wait(http, run, *states):
    until = RUNTIME.monotonic() + 10.0
    while True:
        status = http.get(f"/v1/runs/{run}").json()
        if status["run"]["state"] in (states or ("Succeeded", "Failed", "Cancelled", "RolledBack")):
            return status
        assert RUNTIME.monotonic() < until, status
        RUNTIME.sleep(0.02)


def error_of(answer):
    return failures.decode(answer.content)


def test_a_run_lives_its_whole_life_over_http(http):
    document = flow(
        step("a", '"${params.verb}"', "1"),
        "id: gate, kind: approve, needs: [a]",
        head="  params: {verb: flaky}",
    )
    submitted = submit(http, document, key="k")
    assert submitted.status_code == 201
    run = submitted.json()["id"]
    again = submit(http, document, key="k")
    assert (again.status_code, again.json()["id"]) == (200, run)
    assert isinstance(error_of(submit(http, document, key="k", verb="do")), ConflictError)
    assert wait(http, run)["run"]["state"] == "Failed"
    assert (
        http.post(f"/v1/runs/{run}/retry", json={"only_failed": True, "by": "ann"}).status_code
        == 200
    )
    wait(http, run, "Running")
    until = RUNTIME.monotonic() + 10.0
    while (answer := http.post(f"/v1/runs/{run}/approve", json={"by": "ann"})).status_code == 409:
        assert RUNTIME.monotonic() < until, answer.text
    status = wait(http, run)
    assert [(one["id"], one["state"]) for one in status["steps"]] == [
        ("a", "Succeeded"),
        ("gate", "Succeeded"),
    ]
    events = http.get(f"/v1/runs/{run}/events").json()["events"]
    assert events[-1]["kind"] == "run-succeeded"
    later = http.get(f"/v1/runs/{run}/events", params={"after": 3, "limit": 2}).json()["events"]
    assert later == events[3:5]
    assert [one["id"] for one in http.get("/v1/runs").json()["runs"]] == [run]
    assert http.get("/v1/runs", params={"active": True}).json()["runs"] == []


def test_a_run_is_paused_resumed_and_cancelled_over_http(http):
    run = submit(http, flow(step("a", "rest", "0.2"), step("b", "rest", "60", needs=["a"]))).json()[
        "id"
    ]
    wait(http, run, "Running")  # one that has not begun stays queued, and does not begin
    assert http.post(f"/v1/runs/{run}/pause").json()["wants"] == "pause"
    wait(http, run, "Paused")
    assert http.post(f"/v1/runs/{run}/resume", json={}).status_code == 200
    wait(http, run, "Running")
    assert http.post(f"/v1/runs/{run}/cancel", json={"keep_cache": True}).status_code == 200
    assert wait(http, run)["run"]["state"] == "Cancelled"


def test_a_document_is_checked_and_every_problem_is_told(http):
    good = http.post("/v1/flows/validate", json={"document": flow(step("a"), finally_=[step("z")])})
    assert good.json() == {"flow": "team/test", "params": {}, "steps": ["a"], "finally": ["z"]}
    bad = http.post(
        "/v1/flows/validate",
        json={"document": flow(step("a", needs=["b"]), "id: c, kind: x"), "file": "f.yaml"},
    )
    error = error_of(bad)
    assert isinstance(error, ConfigError)
    assert error.message.count("f.yaml:") == 2
    assert bad.status_code == 400


def test_what_makes_no_sense_is_refused(http):
    document = flow(step("a"))
    assert isinstance(error_of(submit(http, document, nonsense=1)), ConfigError)
    assert isinstance(error_of(http.get("/v1/runs/nonsense")), NotKnownError)
    assert isinstance(error_of(http.get("/v1/runs/nonsense/watch")), NotKnownError)
    assert isinstance(error_of(http.post("/v1/runs/nonsense/cancel")), NotKnownError)
    assert isinstance(
        error_of(http.post("/v1/flows/plan", json={"document": document})), NotKnownError
    )
    assert http.post("/v1/runs", json={"document": "x" * 5_000_000}).status_code == 400
    assert http.post("/v1/runs", json={"document": document, "unknown": 1}).status_code == 400
    assert submit(http, document, key="k" * 300).status_code == 400


def test_a_watcher_hears_of_a_run_until_it_is_over(http):
    run = submit(http, flow(step("a", "sleep", "1.5"), step("b", needs=["a"]))).json()["id"]
    with http.stream("GET", f"/v1/runs/{run}/watch") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert isinstance(error_of(http.get(f"/v1/runs/{run}/watch")), CapacityError)
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    updates = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert updates[0]["steps"][0]["id"] == "a"
    assert len(updates[0]["steps"]) == 2
    assert updates[-1]["run"]["state"] == "Succeeded"
    assert any(0 < one["progress"]["done"] < 150 for one in updates)
    shown = {one["id"]: one for one in updates[0]["steps"]}
    for update in updates[1:]:
        assert all(shown[one["id"]] != one for one in update["steps"])  # what has changed
        shown |= {one["id"]: one for one in update["steps"]}
    # Its place is free again.
    with http.stream("GET", f"/v1/runs/{run}/watch") as answer:
        assert answer.status_code == 200


def test_a_watcher_does_not_keep_the_coordinator_from_ending(process, http):
    run = submit(http, flow(step("a", "rest", "60"))).json()["id"]
    ended = threading.Event()

    def watch():
        with http.stream("GET", f"/v1/runs/{run}/watch") as answer:
            for _ in answer.iter_lines():
                pass
        ended.set()

    thread = threading.Thread(target=watch)
    thread.start()
    wait(http, run, "Running")
    began = RUNTIME.monotonic()
    process.close()
    assert ended.wait(3.0)
    thread.join()
    assert RUNTIME.monotonic() - began < 4.0


def test_the_api_describes_the_flows_and_wants_the_token(process, http):
    paths = http.get("/openapi.json").json()["paths"]
    assert {path for path in paths if path.startswith(("/v1/runs", "/v1/flows"))} >= {
        "/v1/flows/validate",
        "/v1/flows/plan",
        "/v1/runs",
        "/v1/runs/{run}",
        "/v1/runs/{run}/events",
        "/v1/runs/{run}/watch",
        *(f"/v1/runs/{{run}}/{verb}" for verb in ("cancel", "pause", "resume", "retry", "approve")),
    }
    submission = paths["/v1/runs"]["post"]
    assert [one["name"] for one in submission["parameters"]] == ["Idempotency-Key"]
    for path in ("/v1/runs", "/v1/runs/x/watch"):
        assert httpx.get(f"http://{process.http_address}{path}", trust_env=False).status_code == 401


def test_the_metrics_count_runs(http):
    run = submit(http, flow(step("a"))).json()["id"]
    wait(http, run)
    text = http.get("/metrics").text
    assert 'cachefs_flow_runs{state="Succeeded"} 1.0' in text
    assert "cachefs_flow_left_behind_total 0.0" in text
