"""What the design asks of flows, row by row (B3), shown on ``cachefs up`` with real processes."""

import http.client
import itertools
import json
import signal
import threading

import pytest

from cachefs.errors import ConflictError
from cachefs.sdk import open_dataset
from tests.integration.flows.local_systems import (
    BLOCK_SIZE,
    SERVE,
    SHELL,
    LocalSystem,
    states_of,
    step_of,
)
from tests.integration.systems import PacedOrigin
from tests.unit.dataflow.steps.contexts import RUNTIME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: row}\nspec:\n"
_NUMBERS = itertools.count()
SIZE = 64 * BLOCK_SIZE


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with LocalSystem(tmp_path_factory.mktemp("rows"), workers=2) as made:
        yield made


@pytest.fixture
def origin(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.safetensors").write_bytes(bytes(range(256)) * (SIZE // 256))
    with PacedOrigin(tmp_path / "files") as made:
        yield made


@pytest.fixture
def dataset(system, origin):
    """A dataset of 64 blocks, all of its own, that is fetched by HTTP."""
    name = f"row-{next(_NUMBERS)}"
    system.api.post("/v1/datasets", {"name": name, "origin": {"url": origin.url}})
    return name


def steps(*lines, finally_=(), head=""):
    text = HEAD + head + "  steps:\n" + "".join(f"  - {{{line}}}\n" for line in lines)
    return text + (
        "  finally:\n" + "".join(f"  - {{{one}}}\n" for one in finally_) if finally_ else ""
    )


def sh(step, text, rest=""):
    command = json.dumps([*SHELL, text])
    return f"id: {step}, kind: process, with: {{command: {command}}}{', ' if rest else ''}{rest}"


def warm(dataset, rest="", rate="800KB/s"):
    return f"id: warm, kind: prefetch, with: {{dataset: {dataset}, rate: {rate}}}{', ' if rest else ''}{rest}"


def fraction(status, step="warm"):
    progress = step_of(status, step)["progress"]
    return progress["done"] / progress["total"] if progress["total"] else 0.0


def test_row_3_a_worker_that_dies_at_57_percent_keeps_a_wait_from_passing(system, dataset):
    run = system.submit(
        steps(
            f'id: ready, kind: wait, with: {{dataset: {dataset}, condition: "cached_fraction >= 1.0", every: 200ms}}'
        )
    )
    job = system.api.post("/v1/warm", {"dataset": dataset, "rate": 800_000})["id"]
    at_57 = system.until(run, lambda status: fraction(status, "ready") >= 0.57)
    victim = system.process("worker-2")
    victim.send(signal.SIGSTOP)
    system.api.delete(f"/v1/warm/{job}")
    try:
        fallen = system.until(run, lambda status: fraction(status, "ready") < 0.55)
        assert fraction(fallen, "ready") < fraction(at_57, "ready")
        RUNTIME.sleep(1.0)
        assert system.status(run)["run"]["state"] == "Running"
    finally:
        victim.send(signal.SIGCONT)
    system.api.post("/v1/warm", {"dataset": dataset})
    assert system.wait(run)["run"]["state"] == "Succeeded"


def test_row_4_who_depends_on_a_failure_is_told_within_a_second_and_finally_runs(system):
    run = system.submit(
        steps(
            sh("a", "exit 3"),
            sh("b", "true", "needs: [a]"),
            sh("c", "true", "needs: [b]"),
            finally_=[sh("z", "true")],
        )
    )
    status = system.wait(run)
    assert status["run"]["state"] == "Failed"
    found = states_of(status)
    assert found == {"a": "Failed", "b": "UpstreamFailed", "c": "UpstreamFailed", "z": "Succeeded"}
    assert step_of(status, "c")["ended_at"] - step_of(status, "a")["ended_at"] < 1.0


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_row_5_what_failed_half_way_goes_on_from_the_bytes_that_are_there(
    system, dataset, origin, how
):
    run = system.submit(steps(warm(dataset)))
    system.until(run, lambda status: fraction(status) > 0.3)
    if how == "cancelled":
        (job,) = [one for one in system.api.get("/v1/warm")["jobs"] if one["state"] == "running"]
        system.api.delete(f"/v1/warm/{job['id']}")
        assert system.wait(run)["run"]["state"] == "Failed"
        system.api.post(f"/v1/runs/{run}/retry", {})
    else:
        system.kill("coordinator")
    status = system.wait(run)
    assert status["run"]["state"] == "Succeeded"
    streams = 2 * 8  # workers, and what each fills at once
    assert SIZE <= origin.bytes_asked <= SIZE + streams * BLOCK_SIZE


@pytest.mark.parametrize("keep", [False, True])
def test_row_6_a_cancelled_run_stops_its_transfers_within_two_seconds(
    system, dataset, origin, keep
):
    undo = "compensate: {evict: true}"
    run = system.submit(
        steps(warm(dataset, undo, rate="400KB/s"), sh("b", "true", "needs: [warm]"))
    )
    system.until(run, lambda status: fraction(status) > 0.2)
    cancelled = RUNTIME.monotonic()
    flags = ["--keep-cache"] if keep else []
    system.run("flow", "cancel", run, *flags)
    status = system.wait(run, "Cancelled")
    assert RUNTIME.monotonic() - cancelled < 6.0  # the command's start and eviction are part of it
    RUNTIME.sleep(2.0)
    asked = origin.bytes_asked
    RUNTIME.sleep(1.5)
    assert origin.bytes_asked == asked
    assert asked < SIZE
    assert states_of(status) == {"warm": "Cancelled" if keep else "Compensated", "b": "Cancelled"}
    events = system.events(run)
    asked_at = next(event["number"] for event in events if event["kind"] == "run-cancel-asked")
    assert not [one for one in events if one["number"] > asked_at and one["kind"] == "step-began"]


def test_row_7_a_program_goes_on_when_the_coordinator_is_killed_and_is_not_started_again(
    system, tmp_path
):
    starts = tmp_path / "starts"
    run = system.submit(steps(sh("a", f"echo x >> {starts}; sleep 4; echo the end")))
    system.wait_for_step(run, "a", "Running")
    give_up = RUNTIME.monotonic() + 10
    while not starts.exists():
        assert RUNTIME.monotonic() < give_up
        RUNTIME.sleep(0.02)
    system.kill("coordinator")
    status = system.wait(run)
    assert step_of(status, "a")["outputs"]["log"] == "the end"
    assert starts.read_text() == "x\n"
    assert "run-taken-up" in [event["kind"] for event in system.events(run)]


def test_row_11_a_rollout_begins_where_and_when_hints_say_that_it_is_ready_in_time(system, dataset):
    def roll(dataset, replicas, rest=""):
        return (
            f"id: a, kind: rollout, with: {{target: local/hinted, command: {json.dumps(SERVE)}, "
            f"ready: {{line: ready}}, replicas: {replicas}, health: {{ready_p95: 20s}}, "
            f"hint: {{dataset: {dataset}, deadline: 30s}}{rest}}}"
        )

    huge = system.folder / "huge"
    huge.mkdir()
    with (huge / "model.bin").open("wb") as file:
        file.truncate(4 * 10**12)  # of holes; nobody will read it
    system.api.post("/v1/datasets", {"name": "huge", "origin": {"url": f"file://{huge}"}})
    status = system.wait(system.submit(steps(f"{roll('huge', 4)}, timeout: 5s")))
    assert step_of(status, "a")["state"] == "TimedOut"
    assert "30 s are allowed" in step_of(status, "a")["progress"]["note"]
    assert system.live_replicas() == []
    good = f"{roll(dataset, 4, ', batch: [1, 4]')}, needs: [warm]"
    status = system.wait(system.submit(steps(warm(dataset, rate="100MB/s"), good)))
    assert status["run"]["state"] == "Succeeded", step_of(status, "a")["failure"]
    assert step_of(status, "a")["outputs"]["ready_p95"] <= 20.0
    assert system.wait(system.submit(steps(roll(dataset, 0))))["run"]["state"] == "Succeeded"


def test_row_11_batches_stop_where_replicas_are_not_healthy(system):
    good = f"target: local/eleven, command: {json.dumps(SERVE)}, ready: {{line: ready}}"
    rolled = system.submit(
        steps(
            f"id: a, kind: rollout, with: {{{good}, replicas: 12, batch: [1, 10], health: {{ready_p95: 20s}}}}"
        )
    )
    status = system.wait(rolled)
    assert step_of(status, "a")["outputs"]["ready_p95"] <= 20.0
    bad = json.dumps([*SHELL, "sleep 0.2; exit 1"])
    failed = system.submit(
        steps(
            f"id: a, kind: rollout, with: {{target: local/bad, command: {bad}, replicas: 100, "
            "batch: [1, 10, 100], ready: {line: ready}}"
        )
    )
    status = system.wait(failed)
    assert "1 of 1 replicas failed, and 0 may" in step_of(status, "a")["failure"]
    gone = f"id: a, kind: rollout, with: {{{good}, replicas: 0}}"
    assert system.wait(system.submit(steps(gone)))["run"]["state"] == "Succeeded"
    assert system.live_replicas() == []


def test_row_13_progress_comes_once_a_second_with_bytes_rate_and_time_left(system, dataset):
    run = system.submit(steps(warm(dataset)))
    host, token = system.api_address()
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", f"/v1/runs/{run}/watch", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    came = []
    while line := answer.readline():
        if line.startswith(b"data:"):
            came.append((RUNTIME.monotonic(), json.loads(line[5:])))
    connection.close()
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(came)]
    assert max(gaps) < 1.6
    seen = [one["progress"] for _, update in came for one in update["steps"] if one["id"] == "warm"]
    moving = [one for one in seen if one["rate"] > 0 and one["seconds_left"]]
    assert len(moving) >= 3
    assert {one["total"] for one in moving} == {SIZE}
    assert [one["done"] for one in seen] == sorted(one["done"] for one in seen)


def test_row_14_one_key_is_one_run_and_a_group_goes_one_by_one(system):
    document = steps(sh("a", "sleep 1"), head="  concurrency: {group: fourteen, policy: queue}\n")
    first = system.submit(document, key="fourteen")
    assert system.submit(document, key="fourteen") == first
    with pytest.raises(ConflictError):
        system.submit(document.replace("sleep 1", "sleep 2"), key="fourteen")
    second = system.submit(document, key="another")
    assert second != first
    ended, began = system.wait(first)["run"]["ended_at"], system.wait(second)["run"]["started_at"]
    assert ended <= began


def test_row_15_pause_resume_and_both_kinds_of_retry(system, tmp_path):
    flag, counts, paused = (tmp_path / name for name in ("flag", "counts", "paused"))
    document = steps(
        sh("a", f"echo a >> {counts}; while test ! -e {paused}; do sleep 0.05; done"),
        sh("b", f"echo b >> {counts}; test -e {flag}", "needs: [a]"),
        sh("c", f"echo c >> {counts}", 'needs: [b], if: "always()"'),
    )
    run = system.submit(document)
    system.wait_for_step(run, "a", "Running")
    assert system.run("flow", "pause", run).returncode == 0
    paused.touch()
    system.wait_for_step(run, "a", "Succeeded")
    RUNTIME.sleep(0.5)
    assert states_of(system.status(run))["b"] == "Pending"
    assert system.run("flow", "resume", run).returncode == 0
    assert system.wait(run)["run"]["state"] == "Failed"
    assert counts.read_text().split() == ["a", "b", "c"]
    flag.touch()
    assert system.run("flow", "retry", run, "--only-failed").returncode == 0
    assert system.wait(run)["run"]["state"] == "Succeeded"
    assert counts.read_text().split() == ["a", "b", "c", "b"]
    assert system.run("flow", "retry", run, "--from", "b").returncode == 0
    assert system.wait(run)["run"]["state"] == "Succeeded"
    assert counts.read_text().split() == ["a", "b", "c", "b", "b", "c"]


def test_row_16_events_tell_who_did_what_and_why(system):
    run = system.submit(steps(sh("a", "echo no disk >&2; exit 9")))
    system.wait(run)
    events = system.events(run)
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["kind"] == "run-queued"
    assert events[0]["message"].startswith("manual")
    failure = next(event for event in events if event["kind"] == "step-failed")
    assert failure["step"] == "a"
    assert "ended with 9" in failure["message"]
    assert "no disk" in failure["message"]
    shown = system.run("flow", "events", run).stdout
    assert "no disk" in shown


def test_row_12_scaling_in_to_zero_under_a_reader_is_no_error_of_its(system, dataset):
    scale = "id: {0}, kind: scale, with: {{dataset: {1}, workers: {2}}}"
    first = steps(warm(dataset, rate="100MB/s"))
    assert system.wait(system.submit(first))["run"]["state"] == "Succeeded"
    content = bytes(range(256)) * (SIZE // 256)
    ended, wrong, reads = threading.Event(), [], []

    def read():
        with open_dataset(dataset, state=system.state.path) as opened:
            file = opened.open("model.safetensors")
            while not ended.is_set():
                offset = (len(reads) * 7 * BLOCK_SIZE) % SIZE
                try:
                    into = bytearray(BLOCK_SIZE)
                    file.read_into(offset, memoryview(into))
                    if into != content[offset : offset + BLOCK_SIZE]:
                        wrong.append(f"other bytes at {offset}")
                except Exception as error:  # noqa: BLE001 - whatever it is, it should not be
                    wrong.append(repr(error))
                reads.append(offset)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        run = system.submit(steps(scale.format("in", dataset, 0)))
        assert system.wait(run)["run"]["state"] == "Succeeded"
        assert system.members() == []
        # A reader waits for so long as its deadline lets it (20 s), and goes on when somebody is there.
        out = system.submit(steps(scale.format("out", dataset, 2)))
        assert system.wait(out)["run"]["state"] == "Succeeded"
        before = len(reads)
        RUNTIME.sleep(2.0)
    finally:
        ended.set()
        thread.join(30)
    assert wrong == []
    assert len(reads) > before > 0
