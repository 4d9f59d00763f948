"""Every call on the mount is answered as a plain folder answers it that is mounted read-only."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuse import answers
from tests.fuse.mounting import MIB, content
from tests.fuse.programs import SECONDS, show

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

PLAIN = (
    'mount --bind "$1" "$1"; mount -o remount,bind,ro,noexec,nosuid,nodev "$1"; '
    'shift; exec "$@" < /dev/null'
)
OTHERWISE = {
    # Two file systems share no blocks; the plain folder is on the one that is copied to.
    "copy_file_range": ("EXDEV", "100000 bytes"),
    # The kernel has no way to ask FUSE for what is in its pages only; who asks falls back.
    "preadv2, now or not at all": ("ENOTSUP", "104096 bytes"),
    # The access mode 3, neither reading nor writing, is for drivers of disks.
    "open O_WRONLY|O_RDWR": ("EROFS", "opened"),
    "open O_RDWR|O_WRONLY": ("EROFS", "opened"),
    "trim": ("ENOTTY", "EINVAL"),
}
"""What a mount cannot answer as a disk does: what it says, and what the disk says."""


def write(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "file").write_bytes(content("answers", 3 * MIB + 1234))
    (folder / "folder" / "inside").write_bytes(b"inside")
    (folder / "empty").write_bytes(b"")


@pytest.fixture(scope="module")
def folders(shared_system, engine, tmp_path_factory):
    """The mount, and the plain folder."""
    yield from show(shared_system, tmp_path_factory, engine, "answers", write)


def ask(folder: Path, *prefix: object) -> dict[str, object]:
    """Return the answers of a folder, by call."""
    done = subprocess.run(
        [*map(str, prefix), sys.executable, answers.__file__, folder],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_call_is_answered_as_a_read_only_disk_answers_it(folders):
    mounted, plain = folders
    private = ("unshare", "--mount", "--propagation", "private", "sh", "-ceu", PLAIN, "sh", plain)
    ours, theirs = ask(mounted), ask(plain, *private)
    assert ours.keys() == theirs.keys()
    different = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    assert different.keys() == OTHERWISE.keys()
    for name, pair in different.items():
        assert tuple(str(each).partition(",")[0] for each in pair) == OTHERWISE[name]
