"""The commands of ``cachefs flow`` against a real system: what they print, their JSON, their exit codes."""

import json
import os
import subprocess
import sys

import pytest

from cachefs.cli.system.statefolder import StateFolder

pytestmark = pytest.mark.slow

GATED = """
apiVersion: cachefs/v1
kind: Flow
metadata: {name: gated}
spec:
  params: {model: small, tries: 1}
  steps:
  - {id: warm, kind: prefetch, with: {dataset: "${params.model}"}}
  - {id: gate, kind: approve, needs: [warm]}
  - {id: drop, kind: evict, needs: [gate], with: {dataset: "${params.model}"}}
"""
FAILING = (
    GATED.replace("gated", "failing")
    .replace("default: x", "")
    .replace(
        "{id: gate, kind: approve, needs: [warm]}",
        '{id: gate, kind: wait, needs: [warm], timeout: 300ms, with: {dataset: "${params.model}", '
        'condition: "workers >= 99"}}',
    )
)
NIGHTLY = GATED.replace("gated", "nightly").replace(
    "  steps:", '  triggers: [{cron: "0 3 * * *"}, {webhook: {}}]\n  steps:'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    (folder / "data").mkdir()
    (folder / "data" / "model.safetensors").write_bytes(bytes(1_000_000))
    for name, text in (("gated", GATED), ("failing", FAILING), ("nightly", NIGHTLY)):
        (folder / f"{name}.yaml").write_text(text)
    state = StateFolder(folder / "state")
    clean = {name: value for name, value in os.environ.items() if "CACHEFS" not in name}
    environment = {**clean, "CACHEFS_CLUSTER__BLOCK_SIZE": "65536"}
    command = [sys.executable, "-m", "cachefs.cli"]
    where = ["--state", str(state.path)]
    up = [*command, "up", *where, "--detach", "--disk", "64MiB", "--no-gateway"]
    subprocess.run(up, env=environment, check=True, capture_output=True, timeout=60)
    add = [*command, "dataset", "add", "small", f"file://{folder}/data", *where]
    try:
        subprocess.run(add, env=environment, check=True, capture_output=True, timeout=60)
        yield folder
    finally:
        subprocess.run([*command, "down", *where], env=environment, check=False, timeout=60)


@pytest.fixture
def flow(folder):
    """Run a command; return exit code, output and errors."""

    def run(*words, **options):
        done = subprocess.run(
            [sys.executable, "-m", "cachefs.cli", "flow", *words],
            env={**os.environ, "CACHEFS_STATE": str(folder / "state")},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def begin(flow, name, *words):
    code, out, _ = flow("submit", f"{name}.yaml", "--detach", "--json", *words)
    assert code == 0
    return json.loads(out)["id"]


def wait_for(flow, run, text):
    for _ in range(40):
        if text in (shown := flow("status", run)[1]):
            return shown
    pytest.fail(shown)


def test_a_run_waits_for_its_gate_and_then_ends(flow):
    run = begin(flow, "gated", "--key", "k", "--param", "tries=3")
    assert begin(flow, "gated", "--key", "k", "--param", "tries=3") == run
    shown = wait_for(flow, run, "Blocked")
    assert "977 KiB of 977 KiB" in shown
    assert flow("approve", run, "--message", "fine")[0] == 0
    code, out, said = flow("watch", run, "--json")
    assert code == 0
    assert f"run {run}: Succeeded" in said
    document = json.loads(out)
    assert document["run"]["params"] == {"model": "small", "tries": 3}
    assert [step["state"] for step in document["steps"]] == ["Succeeded"] * 3
    _, told, _ = flow("events", run)
    assert "step-approved" in told
    lines = [json.loads(line) for line in flow("events", run, "--json")[1].splitlines()]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert run in flow("list")[1]


def test_a_failed_run_has_an_exit_code_of_its_own_and_can_be_retried(flow):
    code, out, said = flow("submit", "failing.yaml", "--json")
    assert code == 11, said
    document = json.loads(out)
    assert [step["state"] for step in document["steps"]] == [
        "Succeeded",
        "TimedOut",
        "UpstreamFailed",
    ]
    assert "gate  TimedOut" in said
    run = document["run"]["id"]
    assert flow("retry", run, "--only-failed")[0] == 0
    assert flow("watch", run)[0] == 11
    assert flow("retry", run, "--from", "wrong")[0] == 4


def test_a_cancelled_run_has_another_and_a_paused_one_goes_on(flow):
    run = begin(flow, "gated")
    wait_for(flow, run, "Blocked")
    assert flow("pause", run)[0] == 0
    wait_for(flow, run, "Paused")
    assert flow("resume", run)[0] == 0
    assert flow("cancel", run, "--keep-cache")[0] == 0
    code, _, said = flow("watch", run)
    assert (code, said.splitlines()[-1]) == (12, f"run {run}: Cancelled")
    assert flow("approve", run)[0] == 10


def test_a_flow_with_triggers_is_registered_listed_and_forgotten(flow):
    code, _out, said = flow("submit", "nightly.yaml")
    assert code == 0
    assert "default/nightly starts at 0 3 * * * (UTC)" in said
    assert "its token is shown only now" in said
    assert "default/nightly" in flow("list")[1]
    listed = json.loads(flow("list", "--json", "--flow", "default/nightly")[1])
    assert (len(listed["flows"]), listed["runs"]) == (1, [])
    assert flow("cancel", "default/nightly")[0] == 0
    assert flow("cancel", "default/nightly")[0] == 4


def test_a_document_that_is_wrong_is_shown_with_its_line(flow):
    code, shown, _ = flow("submit", "-", input=GATED.replace("evict", "evictt"))
    assert code == 2
    assert "evictt" in shown
    assert flow("submit", "gated.yaml", "--param", "nonsense=1")[0] == 2
    assert flow("status", "nonsense")[0] == 4
