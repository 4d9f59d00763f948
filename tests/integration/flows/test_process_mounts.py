"""Mounts of ``process`` steps: there before the program, gone after it, however it ends."""

import os
import signal
from pathlib import Path

import pytest

from cachefs.dataflow.steps.programs.rooms import rooms_in, tail
from cachefs.dataflow.steps.programs.runner import mounted
from tests.integration.flows.local_systems import SHELL, LocalSystem, states_of, step_of
from tests.integration.flows.places import until

pytestmark = [pytest.mark.slow, pytest.mark.fuse, pytest.mark.timeout(120)]

HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: mounted}\nspec:\n  params: {command: [x], path: x}\n"
STEPS = """
  steps:
  - id: a
    kind: process
    with: {command: "${params.command}", mounts: [{dataset: llama, path: "${params.path}"}]}
"""
CONTENT = b"weights" * 30_000


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with LocalSystem(tmp_path_factory.mktemp("mounts")) as made:
        made.add_dataset("llama", {"model.bin": CONTENT, "start.json": b"no room"})
        yield made
        assert mounts_of(made) == []


def mounts_of(system):
    return [path for path in mounted() if path.startswith(str(system.folder))]


def submit(system, text, path):
    return system.submit(HEAD + STEPS, {"command": [*SHELL, text], "path": str(path)})


def test_a_program_reads_a_dataset_as_a_folder_of_its_own(system):
    status = system.wait(submit(system, "ls model; wc -c < model/model.bin", "model"))
    assert status["run"]["state"] == "Succeeded", step_of(status, "a")["failure"]
    assert step_of(status, "a")["outputs"]["log"].split() == [
        "model.bin",
        "start.json",
        str(len(CONTENT)),
    ]
    assert mounts_of(system) == []
    assert not [room for room in rooms_in(system.state.programs) if (room / "model").exists()]


def test_an_absolute_path_is_where_it_says_and_folders_that_were_made_for_it_go(system):
    path = system.folder / "models" / "llama"
    status = system.wait(
        submit(system, f"cmp {path}/model.bin {system.folder}/llama/model.bin", path)
    )
    assert status["run"]["state"] == "Succeeded", step_of(status, "a")["failure"]
    assert not path.parent.exists()


def test_a_folder_that_is_in_use_is_refused_and_left_alone(system):
    path = system.folder / "full"
    path.mkdir(exist_ok=True)
    (path / "mine").touch()
    status = system.wait(submit(system, "true", path))
    failure = step_of(status, "a")["failure"]
    assert "cannot be mounted" in failure
    assert "not empty" in failure
    assert [one.name for one in path.iterdir()] == ["mine"]
    unknown = STEPS.replace("dataset: llama", "dataset: nothing")
    run = system.submit(HEAD + unknown, {"command": [*SHELL, "true"], "path": "m"})
    assert "no such dataset" in step_of(system.wait(run), "a")["failure"]


def test_a_cancelled_step_leaves_no_mount_though_its_program_holds_it_open(system):
    path = system.folder / "held"
    run = submit(system, f"trap '' TERM; exec 3< {path}/model.bin; cd {path}; sleep 60", path)
    until(lambda: str(path) in mounted())
    system.run("flow", "cancel", run)
    assert states_of(system.wait(run))["a"] == "Cancelled"
    until(lambda: not mounts_of(system), 5.0)
    assert not path.exists()


@pytest.mark.parametrize("victim", ["runner", "mount"])
def test_whoever_is_killed_no_mount_stays(system, victim):
    path = system.folder / f"killed-{victim}"
    run = submit(system, f"echo $PPID; sleep 2; cat {path}/model.bin > /dev/null; sleep 60", path)
    room = until(lambda: running_room(system, run), 20.0)
    runner = int(tail(room, 100))
    if victim == "runner":
        os.kill(runner, signal.SIGKILL)
        assert "ended from outside" in step_of(system.wait(run), "a")["failure"]
    else:
        for pid in keepers_of(runner):
            os.kill(pid, signal.SIGKILL)
        system.run("flow", "cancel", run)
        system.wait(run)
    until(lambda: not mounts_of(system), 5.0)


def running_room(system, run):
    rooms = [room for room in rooms_in(system.state.programs) if run in str(room)]
    return next((room for room in rooms if tail(room, 100)), None)


def keepers_of(runner):
    children = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()
    return [int(pid) for pid in children if b"keeping" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_coordinator_that_is_killed_leaves_program_and_mount_to_its_successor(system):
    path = system.folder / "kept"
    run = submit(system, f"sleep 3; wc -c < {path}/model.bin", path)
    until(lambda: str(path) in mounted())
    system.kill("coordinator")
    status = system.wait(run)
    assert step_of(status, "a")["outputs"]["log"] == str(len(CONTENT))
    assert mounts_of(system) == []
