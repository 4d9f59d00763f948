"""Flows that came from Fluid, and flows that go to Argo, on ``cachefs up`` with what steps really do."""

import sys
from pathlib import Path

import pytest
import yaml

from cachefs.cli.flow import argo as pods
from cachefs.dataflow.exporting import argo
from cachefs.dataflow.importing.fluid import read_fluid
from cachefs.dataflow.spec.reading import read_flow
from tests.integration.flows.local_systems import LocalSystem, states_of, step_of
from tests.integration.flows.workflows import Workflow

NIGHTLY = Path(__file__).parents[3] / "dataflow" / "examples" / "nightly.yaml"
FLUID = """
apiVersion: data.fluid.io/v1alpha1
kind: DataMigrate
metadata: {name: fetch}
spec:
  from: {externalStorage: {uri: "local://FOLDER/vendor"}}
  to: {dataset: {name: llama, namespace: default}}
---
apiVersion: data.fluid.io/v1alpha1
kind: DataLoad
metadata: {name: load}
spec:
  dataset: {name: llama, namespace: default}
  target:
  - {path: /weights, replicas: 1}
  runAfter: {kind: DataMigrate, name: fetch, namespace: default}
---
apiVersion: data.fluid.io/v1alpha1
kind: DataProcess
metadata: {name: count}
spec:
  dataset: {name: llama, namespace: default, mountPath: /data}
  processor:
    job:
      podSpec:
        containers:
        - {name: main, image: "python:3", command: [PYTHON], args: [-c, "print(6 * 7)"]}
  runAfter: {kind: DataLoad, name: load, namespace: default}
---
apiVersion: data.fluid.io/v1alpha1
kind: DataBackup
metadata: {name: keep}
spec:
  dataset: llama
  backupPath: pvc://backups/llama
  runAfter: {kind: DataLoad, name: load, namespace: default}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with LocalSystem(tmp_path_factory.mktemp("imported")) as made:
        yield made


def test_what_was_fluids_runs(system):
    (system.folder / "vendor" / "weights").mkdir(parents=True)
    for name in ("a.bin", "weights/b.bin"):
        (system.folder / "vendor" / name).write_bytes(name.encode() * 20_000)
    system.add_dataset("llama", {"a.bin": 5})  # the version before: others still see it
    text = FLUID.replace("FOLDER", str(system.folder)).replace("PYTHON", sys.executable)
    imported = read_fluid(text, file="fluid.yaml")
    document = imported.document
    assert "the dataset is mounted there" in "\n".join(imported.notes)
    steps = {step["id"]: step for step in document["spec"]["steps"]}
    del steps["count"]["with"]["mounts"]  # they need FUSE, and have tests of their own
    kept = {"keep_to": f"file://{system.folder}/kept"}
    status = system.wait(system.submit(yaml.safe_dump(document), kept))
    assert status["run"]["failure"] == ""
    assert states_of(status) == dict.fromkeys(("fetch", "load", "count", "keep"), "Succeeded")
    assert step_of(status, "load")["progress"]["done"] == len("weights/b.bin") * 20_000
    ends = {one["id"]: (one["started_at"], one["ended_at"]) for one in status["steps"]}
    assert ends["fetch"][1] <= ends["load"][0]
    assert ends["load"][1] <= min(ends["count"][0], ends["keep"][0])
    for name in ("a.bin", "weights/b.bin"):
        copied = (system.folder / "kept" / name).read_bytes()
        assert copied == (system.folder / "vendor" / name).read_bytes()


def test_an_example_has_the_same_states_with_argo_as_without(system, tmp_path, monkeypatch):
    for name in ("one", "two"):
        system.add_dataset(name, {"a.bin": 200_000})
    address, _ = system.api_address()
    monkeypatch.setenv("CACHEFS_COORDINATOR", address)
    monkeypatch.setenv("CACHEFS_TOKEN_FILE", str(system.state.token))
    monkeypatch.setattr(pods, "_POLL_SECONDS", 0.1)
    text = NIGHTLY.read_text().replace('  - cron: "0 3 * * *"             # UTC\n', "")
    place = argo.Place(image="cachefs:1", coordinator=address, token="cachefs-token/token")
    exported = argo.export(read_flow(text, name="nightly"), text, place)
    workflow = Workflow(exported.document, tmp_path, params={"datasets": '["one", "two"]'})
    assert workflow.run() == "Succeeded"
    run = system.api.get("/v1/runs?flow=default/nightly")["runs"][0]
    assert run["cause"] == "manual argo argo/nightly-x"
    without = system.wait(system.submit(text, {"datasets": ["one", "two"]}))
    assert states_of(system.status(run["id"])) == states_of(without)
