"""What fusermount prints, as an ``errno``; and children that are not left behind."""

import errno
import signal
import subprocess
import threading

import pytest

from cachefs.fuse.mounts import blocking


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("fusermount3: failed to unmount /mnt: Device or resource busy", errno.EBUSY),
        ("fusermount3: failed to unmount /mnt: Invalid argument", errno.EINVAL),
        ("fusermount3: entry for /mnt not found in /etc/mtab", errno.EINVAL),
        ("fusermount3: failed to unmount /mnt: Operation not permitted", errno.EPERM),
        ("fusermount3: failed to open /etc/fuse.conf: Input/output error", errno.EIO),
        ("", errno.EPERM),
    ],
)
def test_the_error_is_the_one_that_fusermount_names(tmp_path, monkeypatch, said, number):
    program = tmp_path / "fusermount3"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(blocking, "_run_here", lambda *_, seconds: errno.EPERM)
    assert blocking.unmount(tmp_path, seconds=5) == number


def test_a_child_that_takes_a_moment_to_be_killed_is_not_left_behind(monkeypatch):
    """It would keep the mount busy that its parent is about to unmount."""
    killed = []

    class Slow(subprocess.Popen):
        def kill(self):
            threading.Timer(0.2, super().kill).start()
            killed.append(self)

    monkeypatch.setattr(blocking.subprocess, "Popen", Slow)
    assert blocking.wait(["sleep", "60"], 0.05) == (None, b"")
    assert [child.poll() for child in killed] == [-signal.SIGKILL]
