"""``cachefs up`` and ``cachefs down`` with the real processes."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from cachefs.cli.system.statefolder import StateFolder
from cachefs.transport.processes import ProcessRecord
from cachefs.transport.runtime import ThreadRuntime

CLOCK = ThreadRuntime()
pytestmark = pytest.mark.slow


class System:
    """One state folder, and commands on it."""

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if "CACHEFS" not in name},
            "CACHEFS_STATE": str(folder.path),
            "CACHEFS_CLUSTER__BLOCK_SIZE": "64KiB",
            "CACHEFS_CLUSTER__LEASE_SECONDS": "2s",
        }

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "cachefs.cli", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def up(self, *words: str) -> None:
        done = self.run("up", "--detach", "--disk", "64MiB", *words)
        assert done.returncode == 0, done.stderr

    def processes(self) -> dict[str, ProcessRecord]:
        document = json.loads(self.folder.processes.read_text())
        return {record.name: record for record in ProcessRecord.read(document)}

    def address(self, name: str) -> str:
        return json.loads((self.folder.path / "addresses.json").read_text())[name]["data"]


def until(condition, seconds: float = 15.0) -> None:
    give_up = CLOCK.monotonic() + seconds
    while not condition():
        assert CLOCK.monotonic() < give_up, "it did not happen in time"
        CLOCK.sleep(0.05)


@pytest.fixture
def system(tmp_path):
    made = System(StateFolder(tmp_path / "state"))
    yield made
    records = list(made.processes().values()) if made.folder.processes.exists() else []
    made.run("down")
    assert not [record.name for record in records if record.alive]
    assert not made.folder.memory.exists()


def test_up_starts_everything_once_and_down_stops_it_all(system):
    system.up("--workers", "2", "--memory", "64MiB")
    processes = system.processes()
    assert set(processes) == {"supervisor", "coordinator", "worker-1", "worker-2", "gateway"}
    assert system.folder.memory.is_dir()
    again = system.run("up", "--detach")
    assert again.returncode == 10
    assert "running already" in again.stderr
    token = system.folder.token.read_text().strip()
    for record in processes.values():
        assert token not in Path(f"/proc/{record.pid}/cmdline").read_text()
    assert system.run("down").stderr == "stopped\n"
    assert not any(record.alive for record in processes.values())
    assert not system.folder.cluster.exists()
    assert system.run("status").returncode == 3
    assert token not in "".join(log.read_text() for log in system.folder.logs.iterdir())


def test_down_of_what_does_not_run_is_no_failure(system):
    done = system.run("down")
    assert done.returncode == 0
    assert "not running" in done.stderr


def test_a_killed_worker_comes_back_under_its_name_and_address(system):
    system.up("--workers", "1")
    before, address = system.processes()["worker-1"], system.address("worker-1")
    before.send(signal.SIGKILL)
    until(lambda: system.processes().get("worker-1", before).pid != before.pid)
    until(lambda: system.address("worker-1") == address)
    until(
        lambda: (
            [
                row["data_address"]
                for row in json.loads(system.run("worker", "list", "--json").stdout)
                if row["pid"] == system.processes()["worker-1"].pid
            ]
            == [address]
        )
    )


def test_no_orphan_outlives_a_killed_supervisor_and_the_next_up_goes_on(system, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"content")
    system.up("--workers", "2", "--memory", "64MiB")
    assert system.run("dataset", "add", "kept", f"file://{tmp_path}/data").returncode == 0
    processes = system.processes()
    processes["supervisor"].send(signal.SIGKILL)
    until(lambda: not any(record.alive for record in processes.values()))
    assert system.run("status").returncode == 3
    findings = json.loads(system.run("doctor", "--json").stdout)
    assert [row["level"] for row in findings if row["check"] == "processes"] == ["problem"]
    system.up()
    assert len(system.processes()) == 5, "the number of workers is as it was"
    assert system.run("cat", "kept/file").stdout == "content"


def test_ctrl_c_stops_what_runs_in_the_foreground(system):
    process = subprocess.Popen(
        system.command("up", "--disk", "64MiB"),
        env=system.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert any(line.startswith("Ctrl-C") for line in process.stderr)
    processes = system.processes()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert not any(record.alive for record in processes.values())


def test_a_start_that_fails_says_why_and_leaves_nothing_running(system):
    done = system.run("up", "--detach", "--disk", "64MiB", "--store", "nonsense://store")
    assert done.returncode != 0
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not system.folder.is_locked()
    assert not system.folder.processes.exists()


def test_the_endpoints_come_with_the_system_and_can_be_left_out(system, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"content")
    system.up("--workers", "1")
    assert system.run("dataset", "add", "d", f"file://{tmp_path}/data").returncode == 0
    shown = system.run("endpoints").stdout
    assert shown in system.run("status").stdout
    keys = system.run("endpoints", "--show-keys").stdout
    for name in ("s3-credentials", "hub-token"):
        file = system.folder.endpoints / name
        assert file.stat().st_mode & 0o777 == 0o600
        secret = file.read_text().split()[-1]
        assert secret in keys
        assert secret not in shown
        assert secret not in "".join(log.read_text() for log in system.folder.logs.iterdir())
    variables = json.loads(system.run("endpoints", "--show-keys", "--json").stdout)
    request = urllib.request.Request(  # noqa: S310 - our own URL
        f"{variables['HF_ENDPOINT']}/d/resolve/main/file",
        headers={"Authorization": f"Bearer {variables['HF_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own URL
        assert answer.read() == b"content"
    before = system.processes()["gateway"]
    before.send(signal.SIGKILL)
    until(lambda: system.processes().get("gateway", before).pid != before.pid)
    assert json.loads(system.run("endpoints", "--show-keys", "--json").stdout) == variables
    until(lambda: answers(request))
    system.run("down")
    system.up("--no-gateway")
    assert "gateway" not in system.processes()
    assert system.run("endpoints").returncode == 4


def answers(request):
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own URL
            return answer.read() == b"content"
    except OSError:
        return False
