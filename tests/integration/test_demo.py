"""The demo tells its story to the end, and cleans up when it is stopped in the middle."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.demo.model import PACKAGE, VERSION
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()
ROOT = Path(__file__).parents[2]
WHEEL = sorted((ROOT / ".cache" / "demo").glob(f"{PACKAGE.replace('-', '_')}-{VERSION}-*.whl"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WHEEL, reason="`make demo` has not downloaded its model yet"),
]


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "bench.demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_by(folder):
    """Return what is left of a demo: its folders, mounts and processes."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    processes = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words:
            processes.append(words)
    return [*folder.iterdir(), *mounts, *processes]


def test_the_demo_tells_its_story_and_leaves_nothing(tmp_path):
    demo = start(tmp_path)
    said, _ = demo.communicate(timeout=180)
    assert demo.returncode == 0, said
    parts = (
        "every sha256 is the source's",
        "kill -9",
        "in meaning",
        "6 replicas are ready",
        "GB/s",
    )
    for part in parts:
        assert part in said
    if os.geteuid() == 0 and Path("/dev/fuse").exists():
        assert "computed again from the mapping" in said
    assert left_by(tmp_path) == []


def test_a_demo_that_is_stopped_in_the_middle_leaves_nothing(tmp_path):
    demo = start(tmp_path)
    said = []
    for line in demo.stdout:
        said.append(line)
        if line.startswith("$ cachefs warm"):
            break
    demo.send_signal(signal.SIGTERM)
    said.append(demo.communicate(timeout=60)[0])
    assert demo.returncode == 130, said
    until = RUNTIME.monotonic() + 10.0
    while left_by(tmp_path) and RUNTIME.monotonic() < until:
        RUNTIME.sleep(0.1)
    assert left_by(tmp_path) == []
