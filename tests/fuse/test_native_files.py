"""The native engine shows files as they are: bytes, names, attributes; and lets nobody write."""

import errno
import os
import random
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fuse.served_folder import FolderMount

pytestmark = pytest.mark.fuse

MIB = 1024 * 1024
CONTENT = random.Random(5).randbytes(9 * MIB + 12345)


@pytest.fixture(scope="module")
def mount(tmp_path_factory):
    made = FolderMount(tmp_path_factory.mktemp("native"))
    try:
        (made.source / "big").write_bytes(CONTENT)
        (made.source / "empty").write_bytes(b"")
        (made.source / "folder" / "below").mkdir(parents=True)
        (made.source / "folder" / "nothing").mkdir()
        (made.source / "folder" / "below" / "naïve\n name").write_bytes(b"odd")
        (made.source / ("n" * 255)).write_bytes(b"long")
        (made.source / "many").mkdir()
        for number in range(1500):
            (made.source / "many" / f"file {number}").write_bytes(b"x" * (number % 7))
        made.start()
        yield made
    finally:
        made.close()


def test_a_file_is_read_whole(mount):
    assert (mount.mountpoint / "big").read_bytes() == CONTENT
    assert (mount.mountpoint / "empty").read_bytes() == b""
    assert (mount.mountpoint / ("n" * 255)).read_bytes() == b"long"


def test_ranges_are_those_of_the_file(mount):
    rng = random.Random(7)
    with (mount.mountpoint / "big").open("rb", buffering=0) as file:
        for _ in range(300):
            offset = rng.randrange(len(CONTENT) + 100)
            length = rng.randrange(1, 300_000)
            assert os.pread(file.fileno(), length, offset) == CONTENT[offset : offset + length]


def test_concurrent_readers_past_the_page_cache_get_right_bytes(mount):
    def read(seed):
        rng = random.Random(seed)
        descriptor = os.open(mount.mountpoint / "big", os.O_RDONLY | os.O_DIRECT)
        try:
            import mmap  # noqa: PLC0415 - aligned memory, which O_DIRECT wants

            with mmap.mmap(-1, MIB) as buffer:
                for _ in range(20):
                    offset = rng.randrange(len(CONTENT) // 4096) * 4096
                    count = os.preadv(descriptor, [buffer], offset)
                    assert buffer[:count] == CONTENT[offset : offset + count]
                    assert count == min(MIB, len(CONTENT) - offset)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


def test_a_mapping_shows_the_bytes(mount):
    program = (
        "import mmap, sys, hashlib\n"
        "file = open(sys.argv[1], 'rb')\n"
        "view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
        "file.close()\n"
        "print(hashlib.sha256(view).hexdigest())\n"
    )
    shown, source = (
        subprocess.run(
            [sys.executable, "-c", program, str(folder / "big")],
            capture_output=True,
            check=True,
            timeout=30,
        ).stdout
        for folder in (mount.mountpoint, mount.source)
    )
    assert shown == source


def test_names_and_attributes_are_those_of_the_source(mount):
    def look(top):
        return {
            str(path.relative_to(top)): (
                path.is_dir(),
                path.stat().st_ino,
                path.stat().st_mtime_ns,
                path.stat().st_size if path.is_file() else 0,
            )
            for path in top.rglob("*")
        }

    assert look(mount.mountpoint) == look(mount.source)
    assert len(look(mount.source)) > 1500


def test_a_folder_can_be_read_from_where_one_left_off(mount):
    with os.scandir(mount.mountpoint / "many") as entries:
        first = [next(entries).name for _ in range(700)]
        rest = [entry.name for entry in entries]
    assert sorted(first + rest) == sorted(path.name for path in (mount.source / "many").iterdir())


def test_modes_links_and_dots(mount):
    status = (mount.mountpoint / "big").stat()
    assert stat.S_IMODE(status.st_mode) == 0o444
    assert status.st_blocks == -(-len(CONTENT) // 512)
    assert stat.S_ISDIR((mount.mountpoint / "folder").stat().st_mode)
    listed = subprocess.run(
        ["ls", "-a", mount.mountpoint / "folder"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split() == [".", "..", "below", "nothing"]


def test_what_is_not_there_is_not_found(mount):
    for name in ("absent", "folder/absent", "big/below"):
        with pytest.raises(OSError) as caught:
            (mount.mountpoint / name).read_bytes()
        assert caught.value.errno == (errno.ENOTDIR if "big" in name else errno.ENOENT)


def test_the_file_system_is_full_and_read_only(mount):
    shown = os.statvfs(mount.mountpoint)
    assert shown.f_blocks * shown.f_frsize == 10 * 4096
    assert shown.f_bfree == shown.f_bavail == 0
    assert shown.f_namemax == 255
    assert shown.f_flag & os.ST_RDONLY
    assert shown.f_flag & os.ST_NOSUID


def test_extended_attributes(mount):
    big = mount.mountpoint / "big"
    assert os.listxattr(big) == ["user.path"]
    assert os.getxattr(big, "user.path") == os.fsencode(mount.source / "big")
    with pytest.raises(OSError) as caught:
        os.getxattr(big, "user.absent")
    assert caught.value.errno == errno.ENODATA


@pytest.mark.parametrize(
    "write",
    [
        lambda top: (top / "new").write_bytes(b""),
        lambda top: os.open(top / "big", os.O_WRONLY),
        lambda top: os.open(top / "big", os.O_RDWR),
        lambda top: os.truncate(top / "big", 0),
        lambda top: (top / "big").unlink(),
        lambda top: (top / "new").mkdir(),
        lambda top: (top / "folder" / "nothing").rmdir(),
        lambda top: (top / "big").rename(top / "other"),
        lambda top: (top / "link").symlink_to("big"),
        lambda top: (top / "link").hardlink_to(top / "big"),
        lambda top: (top / "big").chmod(0o777),
        lambda top: os.utime(top / "big"),
        lambda top: os.setxattr(top / "big", "user.path", b""),
        lambda top: os.removexattr(top / "big", "user.path"),
        lambda top: os.mkfifo(top / "fifo"),
    ],
)
def test_every_write_is_refused(mount, write):
    with pytest.raises(OSError) as caught:
        write(mount.mountpoint)
    assert caught.value.errno == errno.EROFS


def test_reads_that_wait_leave_names_and_other_files_alone(mount):
    mount.say("held", "many", "big")
    try:
        descriptor = os.open(mount.mountpoint / "big", os.O_RDONLY | os.O_DIRECT)
        with ThreadPoolExecutor(20) as pool:
            import mmap  # noqa: PLC0415 - aligned memory

            def read(number):
                with mmap.mmap(-1, 4096) as buffer:
                    return os.preadv(descriptor, [buffer], number * 4096)

            waiting = [pool.submit(read, number) for number in range(20)]
            # All places for reads are taken, and still:
            assert os.statvfs(mount.mountpoint).f_bfree == 0
            assert (mount.mountpoint / "folder" / "below").is_dir()
            mount.say("held")
            assert [each.result(20) for each in waiting] == [4096] * 20
        os.close(descriptor)
    finally:
        mount.say("held")
