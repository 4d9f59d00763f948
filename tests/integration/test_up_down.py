"""``cachefs up`` and ``cachefs down`` with the real processes."""

import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.integration.local_systems import LocalSystem
from tests.integration.systems import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Return a system of one worker with endpoints, and the dataset ``d``; not to be stopped."""
    folder = tmp_path_factory.mktemp("running")
    (folder / "data").mkdir()
    (folder / "data" / "file").write_bytes(b"content")
    with LocalSystem(folder / "state") as system:
        system.up("--workers", "1", "--gateway")
        system.do("dataset", "add", "d", f"file://{folder}/data")
        yield system


def test_up_starts_everything_once_and_down_stops_it_all(local_system):
    system = local_system
    started = system.run_process(
        *("up", "--detach", "--disk", "64MiB", "--workers", "2", "--memory", "64MiB")
    )
    assert started.returncode == 0, started.stderr
    processes = system.processes()
    assert set(processes) == {"supervisor", "coordinator", "worker-1", "worker-2", "gateway"}
    assert system.folder.memory.is_dir()
    again = system.run_process("up", "--detach")
    assert again.returncode == 10
    assert "running already" in again.stderr
    token = system.folder.token.read_text().strip()
    for record in processes.values():
        assert token not in Path(f"/proc/{record.pid}/cmdline").read_text()
    assert system.run_process("down").stderr == "stopped\n"
    assert not any(record.alive for record in processes.values())
    assert not system.folder.cluster.exists()
    assert system.run("status").returncode == 3
    assert token not in "".join(log.read_text() for log in system.folder.logs.iterdir())


def test_down_of_what_does_not_run_is_no_failure(local_system):
    assert "not running" in local_system.do("down").stderr


def test_a_killed_worker_comes_back_under_its_name_and_address(running):
    before, address = running.processes()["worker-1"], running.address("worker-1")
    before.send(signal.SIGKILL)
    wait_for(lambda: running.processes().get("worker-1", before) != before)
    wait_for(lambda: running.address("worker-1") == address)

    def addresses():
        listed = running.ask("worker", "list")
        pid = running.processes()["worker-1"].pid
        return [row["data_address"] for row in listed if row["pid"] == pid]

    wait_for(lambda: addresses() == [address])


def test_no_orphan_outlives_a_killed_supervisor_and_the_next_up_goes_on(local_system, tmp_path):
    system = local_system
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"content")
    system.up("--workers", "2", "--memory", "64MiB", "--gateway")
    system.do("dataset", "add", "kept", f"file://{tmp_path}/data")
    processes = system.processes()
    processes["supervisor"].send(signal.SIGKILL)
    wait_for(lambda: not any(record.alive for record in processes.values()))
    assert system.run("status").returncode == 3
    findings = json.loads(system.run("doctor", "--json").stdout)
    assert [row["level"] for row in findings if row["check"] == "processes"] == ["problem"]
    system.do("up", "--detach", "--disk", "64MiB")
    assert system.processes().keys() == processes.keys(), "the number of workers is as it was"
    assert system.do("cat", "kept/file").stdout == "content"


def test_ctrl_c_stops_what_runs_in_the_foreground(local_system):
    system = local_system
    process = subprocess.Popen(
        system.command("up", "--disk", "64MiB", "--no-gateway"),
        env=system.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert any(line.startswith("Ctrl-C") for line in process.stderr)
    processes = system.processes()
    assert "gateway" not in processes
    assert system.run("endpoints").returncode == 4
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert not any(record.alive for record in processes.values())


def test_a_start_that_fails_says_why_and_leaves_nothing_running(local_system):
    system = local_system
    done = system.run_process("up", "--detach", "--disk", "64MiB", "--store", "nonsense://store")
    assert done.returncode != 0
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not system.folder.is_locked()
    assert not system.folder.processes.exists()


def test_the_endpoints_come_with_the_system_and_back_when_they_are_killed(running):
    shown = running.do("endpoints").stdout
    for address in re.findall(r"http://\S+", shown):
        assert address in running.do("status").stdout
    keys = running.do("endpoints", "--show-keys").stdout
    for name in ("s3-credentials", "hub-token"):
        file = running.folder.endpoints / name
        assert file.stat().st_mode & 0o777 == 0o600
        secret = file.read_text().split()[-1]
        assert secret in keys
        assert secret not in shown
        assert secret not in "".join(log.read_text() for log in running.folder.logs.iterdir())
    variables = running.ask("endpoints", "--show-keys")
    request = urllib.request.Request(  # noqa: S310 - our own URL
        f"{variables['HF_ENDPOINT']}/d/resolve/main/file",
        headers={"Authorization": f"Bearer {variables['HF_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own URL
        assert answer.read() == b"content"
    before = running.processes()["gateway"]
    before.send(signal.SIGKILL)
    wait_for(lambda: running.processes().get("gateway", before) != before)
    assert running.ask("endpoints", "--show-keys") == variables
    wait_for(lambda: answers(request))


def answers(request):
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own URL
            return answer.read() == b"content"
    except OSError:
        return False
