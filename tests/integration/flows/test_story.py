"""The story: one YAML, submitted once, on a machine with nothing but ``cachefs up``."""

import json
import sys
from pathlib import Path

import pytest

from tests.integration.flows.local_systems import SERVE, LocalSystem, states_of, step_of

PUBLISH = Path(__file__).parents[3] / "dataflow" / "examples" / "publish.yaml"
SIZES = {"a.safetensors": 3_000_000, "b.safetensors": 1_000_000}
SMOKE = """
import json, os
from cachefs.sdk import open_dataset
with open_dataset(os.environ["MODEL"]) as model:
    size = sum(len(file.read()) for file in map(model.open, ("a.safetensors", "b.safetensors")))
print(f"read {size} bytes")
with open(os.environ["CACHEFS_OUTPUTS"], "w") as outputs:
    json.dump({"bytes": size, "replicas": int(os.environ["REPLICAS"])}, outputs)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def system(tmp_path):
    with LocalSystem(tmp_path) as made:
        made.add_dataset("llama", SIZES)
        yield made


def publish(system, *words, smoke=SMOKE):
    """Submit the story from the command line; return how that ended, and the run."""
    parameters = {
        "serve": json.dumps(SERVE),
        "smoke": json.dumps([sys.executable, "-c", smoke]),
    }
    given = [word for name, value in parameters.items() for word in ("--param", f"{name}={value}")]
    done = system.run("flow", "submit", str(PUBLISH), *given, *words, "--json")
    document = json.loads(done.stdout)
    return done, system.status(document["run"]["id"])


def test_scale_out_prefetch_wait_roll_out_a_hundred_smoke_and_scale_in_to_zero(system):
    assert len(system.members()) == 1
    done, run = publish(system, "--key", "one")
    assert done.returncode == 0, done.stderr
    steps = ("out", "warm", "ready", "roll", "smoke", "in")
    assert states_of(run) == dict.fromkeys(steps, "Succeeded")
    ends = [step_of(run, name)["ended_at"] for name in steps]
    assert ends == sorted(ends)
    assert step_of(run, "out")["outputs"]["workers"] == 3
    assert step_of(run, "warm")["outputs"]["bytes"] == sum(SIZES.values())
    roll = step_of(run, "roll")["outputs"]
    assert (roll["target"], roll["replicas"]) == ("local/llama", 100)
    assert step_of(run, "smoke")["outputs"] == {
        "bytes": sum(SIZES.values()),
        "replicas": 100,
        "exit_code": 0,
        "log": "read 4000000 bytes",
    }
    assert system.members() == []
    assert len(system.live_replicas()) == 100
    told = [
        event["message"] for event in system.events(run["run"]["id"]) if event["step"] == "roll"
    ]
    assert [text for text in told if "are ready" in text] == [
        f"{count} replicas of {roll['revision']} are ready" for count in (1, 10, 100)
    ]
    # Submitted once more, it is the same run, and what it has started is not started again.
    again, same = publish(system, "--key", "one")
    assert (again.returncode, same["run"]["id"]) == (0, run["run"]["id"])
    assert len(system.live_replicas()) == 100
    assert system.run("down").returncode == 0
    assert system.live_replicas() == []


def test_if_the_smoke_test_fails_all_goes_back_and_the_workers_leave_all_the_same(system):
    words = ("--param", "replicas=20", "--param", "batch=[1, 10]")
    done, run = publish(system, *words, smoke="print('it says nothing good'); exit(1)")
    assert done.returncode == 11
    assert run["run"]["state"] == "RolledBack"
    assert states_of(run) == {
        "out": "Compensated",
        "warm": "Succeeded",
        "ready": "Succeeded",
        "roll": "Compensated",
        "smoke": "Failed",
        "in": "Succeeded",
    }
    assert "it says nothing good" in step_of(run, "smoke")["failure"]
    assert system.live_replicas() == []
    assert system.members() == []
