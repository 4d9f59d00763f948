"""Rows 9 and 10 of the design's table: which bytes cross from the origin, counted by the origin itself."""

import signal
from pathlib import Path

import pytest

from tests.integration.flows.local_systems import (
    BLOCK_SIZE,
    SERVE,
    SHELL,
    LocalSystem,
    states_of,
    step_of,
)
from tests.integration.systems import PacedOrigin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

EXAMPLES = Path(__file__).parents[3] / "dataflow" / "examples"
HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: row}\nspec:\n"
SHARED, OWN = 40 * BLOCK_SIZE, 10 * BLOCK_SIZE


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with LocalSystem(tmp_path_factory.mktemp("rows"), workers=2) as made:
        yield made


@pytest.fixture
def origin(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    (files / "base.safetensors").write_bytes(b"b" * SHARED)
    (files / "head.safetensors").write_bytes(b"1" * OWN)
    with PacedOrigin(files) as made:
        made.files = files
        yield made


def label(system, name, origin, version):
    body = {"origin": {"url": origin.url}, "label": version}
    system.api.post(f"/v1/datasets/default/{name}/versions", body)


def run(system, document, **params):
    return system.wait(system.submit(document, params))


def prefetch(system, dataset):
    steps = f"  steps: [{{id: warm, kind: prefetch, with: {{dataset: {dataset}}}}}]\n"
    return run(system, HEAD + steps)


def plan(system, document, **params):
    return system.api.post("/v1/flows/plan", {"document": document, "params": params})["plan"]


def current_label(system, name):
    version = system.api.get(f"/v1/datasets/default/{name}")["current"]
    known = system.api.get(f"/v1/datasets/default/{name}/versions")["versions"]
    return next(one["labels"] for one in known if one["id"] == version)


def test_row_9_an_update_fetches_what_differs_and_its_way_back_nothing(system, origin):
    system.api.post("/v1/datasets", {"name": "nine", "origin": {"url": origin.url}})
    label(system, "nine", origin, "v1")
    assert prefetch(system, "nine@v1")["run"]["state"] == "Succeeded"
    assert origin.bytes_asked == SHARED + OWN
    (origin.files / "head.safetensors").write_bytes(b"2" * OWN)
    label(system, "nine", origin, "v2")
    document = (EXAMPLES / "update.yaml").read_text()
    common = {
        "model": "nine",
        "new": "v2",
        "old": "v1",
        "replicas": 2,
        "batch": [1, 2],
        "serve": SERVE,
        "keep_old": "0s",
    }
    origin.begin_anew()
    planned = plan(system, document, **common)
    assert (planned["origin_bytes"], planned["bytes_cached"]) == (OWN, SHARED)

    back = run(system, document, smoke=[*SHELL, "exit 1"], **common)
    assert back["run"]["state"] == "RolledBack"
    assert origin.bytes_asked == back["progress"]["origin_bytes"] == OWN
    assert current_label(system, "nine") == ["v1"]
    origin.begin_anew()
    assert prefetch(system, "nine@v1")["run"]["state"] == "Succeeded"
    assert origin.bytes_asked == 0

    on = run(system, document, smoke=[*SHELL, "true"], **common)
    assert on["run"]["state"] == "Succeeded"
    assert origin.bytes_asked == OWN
    assert current_label(system, "nine") == ["v2"]
    assert step_of(on, "free")["progress"]["total"] == OWN  # of v1, what v2 does not share
    origin.begin_anew()
    assert prefetch(system, "nine@v2")["run"]["state"] == "Succeeded"
    assert origin.bytes_asked == 0
    gone = (EXAMPLES / "scale-to-zero.yaml").read_text()
    run(system, gone, model="nine", serve=SERVE, ask=False)


ZONES = """
  params: {model: ten, rate: 100MB/s}
  steps:
  - id: warm
    kind: prefetch
    foreach: {zone: [a, b], max_parallel: 1, fail_fast: false}
    with: {dataset: "${params.model}", zone: "${each.zone}", rate: "${params.rate}"}
"""
IN_A = "  steps: [{id: ready, kind: wait, with: {dataset: ten, zone: a, condition: bytes_missing == 0}}]\n"


def test_row_10_a_model_crosses_once_for_all_zones_and_one_that_fails_undoes_no_other(
    system, origin
):
    size = SHARED + OWN
    system.api.post("/v1/datasets", {"name": "ten", "origin": {"url": origin.url}})
    scale = "  steps: [{id: out, kind: scale, with: {dataset: ten, workers: 2, per_zone: 1, zones: [a, b]}}]\n"
    assert run(system, HEAD + scale)["run"]["state"] == "Succeeded"
    planned = plan(system, HEAD + ZONES)
    assert planned["origin_bytes"] == size
    assert planned["bytes_by_zone"] == {"a": size, "b": size}
    status = run(system, HEAD + ZONES)
    assert status["run"]["state"] == "Succeeded"
    assert origin.bytes_asked == size
    at_once = HEAD + ZONES.replace("max_parallel: 1, ", "")
    run(system, HEAD + "  steps: [{id: out, kind: evict, with: {dataset: ten}}]\n")
    origin.begin_anew()
    assert run(system, at_once)["run"]["state"] == "Succeeded"
    assert size <= origin.bytes_asked <= 2 * size

    run(system, HEAD + "  steps: [{id: out, kind: evict, with: {dataset: ten}}]\n")
    hurried = at_once.replace("    kind: prefetch\n", "    kind: prefetch\n    timeout: 12s\n")
    slow = system.submit(hurried, {"rate": "1MB/s"})
    members = {one["zone"]: one["worker"] for one in system.api.get("/v1/view")["members"]}
    victim = system.process(members["b"])
    victim.send(signal.SIGSTOP)
    try:
        failed = system.wait(slow)
        assert failed["run"]["state"] == "Failed"
        states = states_of(failed)
        assert (states["warm[0]"], states["warm[1]"]) == ("Succeeded", "TimedOut")
        assert step_of(failed, "warm[1]")["progress"]["origin_bytes"] <= BLOCK_SIZE * 20
        assert run(system, HEAD + IN_A)["run"]["state"] == "Succeeded"
    finally:
        victim.send(signal.SIGCONT)
