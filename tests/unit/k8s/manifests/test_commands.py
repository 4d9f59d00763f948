"""What pods are told to run exists, and takes what it is told."""

import importlib.util
import subprocess
import sys

import pytest

from cachefs.k8s.manifests.workers import Tier, Workers, set_documents
from tests.unit.k8s.manifests.installations import DEFAULT, FULL, PLAIN, workloads


def _commands():
    """Return every command line of every container, its hooks and its probes."""
    per_node = Workers(
        namespace="cachefs-node",
        count=None,
        tiers=(Tier(medium="disk", size_bytes=1 << 40, host_path="/mnt/nvme"),),
    )
    pods = [pod for wanted in (DEFAULT, FULL, PLAIN) for _, pod in workloads(wanted)]
    pods.append(set_documents(per_node, DEFAULT)[1]["spec"]["template"]["spec"])
    for pod in pods:
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield tuple(container["command"])
            hook = container.get("lifecycle", {}).get("preStop")
            asked = [container.get(name, {}) for name in ("livenessProbe", "readinessProbe")]
            for each in (hook, *asked):
                if each and "exec" in each:
                    yield tuple(each["exec"]["command"])


COMMANDS = sorted(set(_commands()))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_program_exists(command):
    assert command[:2] == ("python", "-m")
    assert importlib.util.find_spec(command[2]) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", sorted({command[2] for command in COMMANDS if any("--" in word for word in command)})
)
def test_the_program_knows_its_flags(program):
    command = [sys.executable, "-m", program, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    flags = {
        word.partition("=")[0]
        for command in COMMANDS
        if command[2] == program
        for word in command
        if word.startswith("--")
    }
    assert flags
    assert [flag for flag in sorted(flags) if f"{flag} " not in done.stdout.replace("]", " ")] == []
