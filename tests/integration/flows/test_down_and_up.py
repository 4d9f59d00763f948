"""What becomes of runs and their programs when the whole system goes down, in order or not."""

import signal

import pytest

from cachefs.dataflow.steps.programs.rooms import look
from tests.integration.flows.local_systems import SHELL, LocalSystem, step_of
from tests.integration.flows.places import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

DOCUMENT = """
apiVersion: cachefs/v1
kind: Flow
metadata: {name: long}
spec:
  params: {command: []}
  steps:
  - id: a
    kind: process
    with: {command: "${params.command}"}
    retry: {max: 1, backoff: {base: 10ms}}
"""


@pytest.fixture
def system(tmp_path):
    with LocalSystem(tmp_path) as made:
        yield made


@pytest.fixture
def begun(system, tmp_path):
    """A run whose program runs: it ends the second time that it is started."""
    starts = tmp_path / "starts"
    text = f"echo $CACHEFS_ATTEMPT >> {starts}; test $CACHEFS_ATTEMPT = 2 || exec sleep 600"
    run = system.submit(DOCUMENT, {"command": [*SHELL, text]})
    until(starts.exists, 20.0)
    return run, starts


def active(system):
    return [one for one in system.state.programs.rglob("start.json") if look(one.parent).active]


def test_down_ends_programs_and_the_next_up_tries_their_steps_again(system, begun):
    run, starts = begun
    assert system.run("down").returncode == 0
    assert active(system) == []
    system.up()
    status = system.wait(run)
    assert status["run"]["state"] == "Succeeded"
    assert starts.read_text().split() == ["1", "2"]
    kinds = [event["kind"] for event in system.events(run)]
    assert "step-retrying" in kinds


def test_programs_survive_a_killed_system_until_somebody_puts_it_down(system, begun):
    _, starts = begun
    supervisor, coordinator = system.process("supervisor"), system.process("coordinator")
    assert supervisor.send(signal.SIGKILL)
    until(lambda: not coordinator.alive)
    assert len(active(system)) == 1
    system.run("down")
    assert active(system) == []
    assert starts.read_text().split() == ["1"]


def test_programs_survive_a_killed_system_and_the_next_up_goes_on_with_them(system, begun):
    run, starts = begun
    supervisor, coordinator = system.process("supervisor"), system.process("coordinator")
    assert supervisor.send(signal.SIGKILL)
    until(lambda: not coordinator.alive)
    system.up()
    system.wait_for_step(run, "a", "Running")
    assert len(active(system)) == 1
    assert starts.read_text().split() == ["1"]
    assert system.run("flow", "cancel", run).returncode == 0
    assert step_of(system.wait(run), "a")["state"] == "Cancelled"
    assert active(system) == []
