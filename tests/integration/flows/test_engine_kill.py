"""``kill -9`` of the process that carries a run out, again and again."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.flows.engines import Effects, Kit, flow, states_of, step
from tests.integration.flows.test_engine_deaths import AGAIN, UNDO

ROOT = Path(__file__).parent.parent.parent.parent
DOCUMENT = flow(
    *(step(f"s{n}", "sleep", "0.2", needs=[f"s{n - 1}"] if n else ()) for n in range(6)),
    step("each", rest=f"needs: [s0], foreach: {{n: [1, 2, 3]}}, {UNDO}"),
    step("flaky", "flaky", "2", needs=["s1"], rest=AGAIN),
    step("join", needs=["s5", "each", "flaky"]),
    finally_=[step("tell")],
)


@pytest.mark.slow
def test_a_run_survives_kill_9_of_its_coordinator(tmp_path):
    url, effects = f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "effects.db"
    Effects(effects)
    (tmp_path / "flow.yaml").write_text(DOCUMENT)
    command = [sys.executable, "-m", "tests.integration.flows.engine_process"]
    command += [url, str(effects), str(tmp_path / "flow.yaml")]
    draw = random.Random(1)
    kills = 0
    for seconds in (*(draw.uniform(0.0, 0.5) for _ in range(6)), 60.0):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert process.stdout.readline()  # it has been submitted, or gone on with
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.wait()
        process.stdout.close()
    assert kills >= 3
    with Kit(url, Effects(effects)) as kit:
        (run,) = kit.service.every(limit=10)
        status = kit.service.get(run.id)
        events = kit.service.events(run.id, after=0)
    assert status.run.state == "Succeeded"
    assert set(states_of(status).values()) == {"Succeeded"}
    assert sorted(Effects(effects).keys()) == sorted(
        one.id for one in status.steps if one.id != "each"
    )
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert any(event.kind == "run-taken-up" for event in events)
