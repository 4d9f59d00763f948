"""What fusermount prints, as an ``errno``."""

import errno

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
