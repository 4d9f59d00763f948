"""The flows that people copy, run with small parameters, on ``cachefs up``."""

import json
from pathlib import Path

import pytest

from cachefs.dataflow.steps.programs.rooms import notes_of
from tests.integration.flows.local_systems import SERVE, SHELL, LocalSystem, states_of, step_of
from tests.integration.flows.places import until

FOLDER = Path(__file__).parents[3] / "dataflow" / "examples"
NO_HOOK = "http://127.0.0.1:1/"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with LocalSystem(tmp_path_factory.mktemp("examples"), workers=2) as made:
        yield made


def run(system, name, **params):
    return system.wait(system.submit((FOLDER / f"{name}.yaml").read_text(), params))


def publish(system, name, label):
    """Have a folder of its own be a version of a dataset."""
    folder = system.folder / f"{name}-{label}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(label.encode() * 100_000)
    body = {"origin": {"url": f"file://{folder}"}, "label": label}
    return system.api.post(f"/v1/datasets/default/{name}/versions", body)["id"]


def current(system, name):
    """Return the label of what new opens see."""
    version = system.api.get(f"/v1/datasets/default/{name}")["current"]
    known = system.api.get(f"/v1/datasets/default/{name}/versions")["versions"]
    return next(label for one in known if one["id"] == version for label in one["labels"])


def revisions(system):
    return sorted(notes_of(room)["revision"] for room in system.live_replicas())


def succeeded(status):
    return status["run"]["state"] == "Succeeded" and set(states_of(status).values()) == {
        "Succeeded"
    }


def sh(text):
    return [*SHELL, text]


def test_update_and_its_way_back(system):
    system.add_dataset("grown", {"model.safetensors": 1000})
    for label in ("v1", "v2", "v3"):
        publish(system, "grown", label)
    common = {"model": "grown", "replicas": 3, "batch": [1], "serve": SERVE, "keep_old": "0s"}
    first = run(system, "update", new="v1", old="v1", smoke=sh("true"), **common)
    assert first["run"]["state"] == "Succeeded"
    second = run(system, "update", new="v2", old="v1", smoke=sh("test $MODEL = grown@v2"), **common)
    assert succeeded(second)
    assert revisions(system) == ["v2"] * 3
    assert current(system, "grown") == "v2"
    assert [step_of(one, "free")["state"] for one in (first, second)] == ["Succeeded"] * 2
    third = run(system, "update", new="v3", old="v2", smoke=sh("echo worse; exit 1"), **common)
    assert third["run"]["state"] == "RolledBack"
    states = states_of(third)
    assert (states["warm"], states["roll"], states["free"]) == (
        "Compensated",
        "Compensated",
        "Cancelled",
    )
    assert revisions(system) == ["v2"] * 3
    assert current(system, "grown") == "v2"
    gone = run(system, "scale-to-zero", model="grown", serve=SERVE, ask=False)
    assert gone["run"]["state"] == "Succeeded"
    assert states_of(gone)["sure"] == "Skipped"
    assert revisions(system) == []
    assert system.members() == []


def test_zones(system):
    system.add_dataset("zoned", {"model.safetensors": 300_000})
    status = run(system, "zones", model="zoned", zones=["a", "b"], per_zone=1)
    assert succeeded(status)
    zones = [member["zone"] for member in system.api.get("/v1/view")["members"]]
    assert sorted(zones) == ["a", "b"]


def test_nightly(system):
    system.add_dataset("one", {"a.bin": 100_000})
    system.add_dataset("two", {"b.bin": 200_000})
    run(system, "zones", model="one", zones=["a"], per_zone=1)
    status = run(system, "nightly", datasets=["one", "two"], hook=NO_HOOK)
    states = states_of(status)
    assert status["run"]["state"] == "Succeeded"
    assert states["tell"] == "Skipped"
    assert states["warm[1]"] == "Succeeded"


def test_adapters(system):
    for name in ("base", "support", "legal"):
        system.add_dataset(name, {"adapter.safetensors": 50_000})
    run(system, "zones", model="base", zones=["a", "b"], per_zone=1)
    parameters = {"base": "base", "adapters": ["support", "legal", "missing"], "replicas": 4}
    status = run(system, "adapters", serve=SERVE, **parameters)
    states = states_of(status)
    assert (states["adapters[0]"], states["adapters[2]"]) == ("Succeeded", "Failed")
    assert states["roll"] == "Succeeded"
    assert len(system.live_replicas()) == 4
    run(system, "scale-to-zero", model="base-adapters", serve=SERVE, ask=False)


def test_evaluate(system):
    system.add_dataset("judged", {"a.bin": 100_000})
    run(system, "zones", model="judged", zones=["a"], per_zone=1)
    evaluate = sh("""test $TASK = mmlu && score=0.9 || score=0.6
                     echo "{\\"score\\": $score}" > $CACHEFS_OUTPUTS""")
    accept = sh("echo $SCORES")
    parameters = {"model": "judged", "evaluate": evaluate, "accept": accept}
    document = (FOLDER / "evaluate.yaml").read_text()
    asked = system.submit(document, parameters)
    waiting = system.wait_for_step(asked, "gate", "Blocked")
    assert states_of(waiting)["accept"] == "Pending"
    assert system.run("flow", "approve", asked).returncode == 0
    status = system.wait(asked)
    assert succeeded(status)
    assert step_of(status, "accept")["outputs"]["log"] == "0.9,0.6"
    assert system.run("flow", "logs", asked, "accept").stdout == "0.9,0.6\n"
    assert system.run("flow", "logs", asked, "evaluate[1]", "--attempt", "1").returncode == 0
    for words in ((asked, "accept", "--attempt", "9"), (asked, "warm"), (asked, "none")):
        assert system.run("flow", "logs", *words).returncode == 4
    good = run(system, "evaluate", enough=0.5, **parameters)
    assert states_of(good)["gate"] == "Skipped"


def test_refresh(system, tmp_path):
    system.add_dataset("fresh", {"model.safetensors": 1000})
    run(system, "zones", model="fresh", zones=["a"], per_zone=1)
    check = sh(f"echo $DATASET >> {tmp_path}/checked")
    file = FOLDER / "refresh.yaml"
    words = {"model": "fresh", "check": json.dumps(check), "hook": NO_HOOK}
    given = [word for name, value in words.items() for word in ("--param", f"{name}={value}")]
    done = system.run("flow", "submit", str(file), *given)
    assert done.returncode == 0, done.stderr
    version = publish(system, "fresh", "v2")
    (tmp_path / "checked").touch()
    until(lambda: (tmp_path / "checked").read_text() == f"fresh@{version}\n", 30.0)
    system.run("flow", "cancel", "default/refresh")
