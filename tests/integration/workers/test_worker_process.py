"""A worker as the process that `cachefs up` starts."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from cachefs.config.files import write_process_config


@pytest.fixture
def start(site, tmp_path):
    processes = []
    token = tmp_path / "token"
    token.write_text(site.token.reveal() + "\n")
    token.chmod(0o600)

    def start_one(config):
        path = tmp_path / "config.json"
        write_process_config(path, "worker", site.cluster, config)
        process = subprocess.Popen(
            [sys.executable, "-m", "cachefs.workers", "--config", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "CACHEFS_TOKEN_FILE": str(token)},
        )
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def read_ready(process):
    line = process.stdout.readline()
    assert line.startswith("ready ")
    return json.loads(line.removeprefix("ready "))


def read_file(site, addresses, path):
    file = site.file(path)
    url = (
        f"http://{addresses['data']}/v1/files/{file.entry.file_version}"
        f"?dataset=m&version={file.version}"
    )
    request = urllib.request.Request(url, headers={"Authorization": "Bearer the-token"})
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the test's own
        return answer.read(), answer.headers["X-CacheFS-Source"]


@pytest.mark.slow
def test_a_worker_says_that_it_is_ready_and_ends_when_told(site, start):
    process = start(site.config("w1"))
    addresses = read_ready(process)
    assert set(addresses) == {"data", "control", "socket"}
    site.wait_until(lambda: site.coordinator.membership.view.find("w1") is not None)
    assert read_file(site, addresses, "model.bin")[0] == site.files["model.bin"]
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.perf_counter() - began < 5
    assert site.coordinator.membership.view.members == ()
    assert not Path(addresses["socket"]).parent.exists()


@pytest.mark.slow
def test_a_killed_worker_comes_back_with_its_blocks_and_a_new_incarnation(site, start):
    process = start(site.config("w1"))
    addresses = read_ready(process)
    read_file(site, addresses, "model.bin")
    site.wait_until(lambda: site.coordinator.membership.view.find("w1") is not None)
    before = site.coordinator.membership.view.find("w1")
    process.kill()
    process.wait(5)
    addresses = read_ready(start(site.config("w1")))
    body, source = read_file(site, addresses, "model.bin")
    assert (body, source) == (site.files["model.bin"], "disk")
    site.wait_until(
        lambda: site.coordinator.membership.view.find("w1").incarnation != before.incarnation
    )


@pytest.mark.slow
def test_a_stopped_worker_registers_anew_when_it_wakes(site, start):
    process = start(site.config("w1"))
    read_ready(process)
    site.wait_until(lambda: site.coordinator.membership.view.find("w1") is not None)
    process.send_signal(signal.SIGSTOP)
    site.wait_until(
        lambda: site.coordinator.membership.advance(site.runtime.monotonic()).members == ()
    )
    process.send_signal(signal.SIGCONT)
    site.wait_until(lambda: site.coordinator.membership.view.find("w1") is not None)


def test_a_worker_that_cannot_start_says_why(site, start):
    config = site.config("Not A Name")
    process = start(config)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "not a worker name" in errors
