"""``python answers.py FOLDER``: make every call that a program may make; print what each answers.

The folder has a file ``file`` of a few MiB, ``empty``, and a folder ``folder`` with ``inside``. The test
runs this on the mount, and on a plain folder that is mounted read-only, and compares.
"""
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH208, PTH211, S103, S606 - what is
# tested is what system calls do

import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import select
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE, _RENAME_NOREPLACE = 2, 1
_F_SETLEASE = 1024
_FITRIM = 0xC0185879
_FALLOC_PUNCH = 3
_MIB = 1024 * 1024
_IN_OPEN, _IN_MODIFY = 0x20, 0x2


def call(name: str, *words: object) -> int:
    """Make a call of the C library."""
    given = [os.fsencode(word) if isinstance(word, str | Path) else word for word in words]
    result = getattr(_LIBC, name)(*given)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)


def short(value: object) -> object:
    """Return what is printed of an answer."""
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes, {hashlib.sha256(value).hexdigest()[:16]}"
    return value


class Calls:
    """The calls, by name."""

    def __init__(self, folder: Path, elsewhere: Path) -> None:
        """Make them in a folder; what they copy goes elsewhere."""
        self.folder = folder
        self.file = folder / "file"
        self.elsewhere = elsewhere
        self.answers: dict[str, object] = {}

    def ask(self, name: str, make: Callable[[], object]) -> None:
        """Make a call; note what it answers."""
        try:
            self.answers[name] = short(make())
        except OSError as error:
            self.answers[name] = errno.errorcode[error.errno or 0]

    def opened(self, flags: int, path: Path | None = None) -> str:
        """Open, close, and say that it worked."""
        os.close(os.open(path or self.file, flags, 0o600))
        return "opened"

    def opens(self) -> None:
        """Open with every flag that there is."""
        for name in (
            *("O_RDONLY", "O_WRONLY", "O_RDWR", "O_TRUNC", "O_APPEND", "O_CREAT", "O_EXCL"),
            *("O_DIRECT", "O_SYNC", "O_DSYNC", "O_NOATIME", "O_NONBLOCK", "O_NOFOLLOW", "O_PATH"),
            *("O_DIRECTORY", "O_CLOEXEC", "O_NOCTTY", "O_ASYNC"),
        ):
            flag = getattr(os, name)
            self.ask(f"open {name}", lambda flag=flag: self.opened(flag))
            for other in ("O_WRONLY", "O_CREAT", "O_DIRECT", "O_RDWR"):
                both = flag | getattr(os, other)
                self.ask(f"open {name}|{other}", lambda flag=both: self.opened(flag))
        new, below = self.folder / "new", self.file / "below"
        create = os.O_CREAT | os.O_WRONLY
        self.ask("create", lambda: self.opened(create, new))
        self.ask("create exclusively", lambda: self.opened(create | os.O_EXCL))
        self.ask("create below a file", lambda: self.opened(create, below))
        self.ask("create in a folder", lambda: self.opened(create, self.folder / "folder" / "new"))
        self.ask("create in no folder", lambda: self.opened(create, new / "new"))
        self.ask("open nothing", lambda: self.opened(os.O_RDONLY, new))
        self.ask("open below a file", lambda: self.opened(os.O_RDONLY, below))
        self.ask("open a folder to write", lambda: self.opened(os.O_RDWR, self.folder))
        self.ask("open a long name", lambda: self.opened(os.O_RDONLY, self.folder / ("x" * 256)))
        self.ask("open with a slash", lambda: self.opened(os.O_RDONLY, Path(f"{self.file}/.")))

    def changes(self) -> None:
        """Try to change something, in every way."""
        here, file, new = self.folder, self.file, self.folder / "new"
        inside, folder = here / "folder" / "inside", here / "folder"
        outside = self.elsewhere / "outside"
        outside.write_bytes(b"")
        for name, change in {
            "mkdir": lambda: os.mkdir(new),
            "mkdir of what is there": lambda: os.mkdir(folder),
            "mknod file": lambda: os.mknod(new),
            "mknod pipe": lambda: os.mkfifo(new),
            "bind a socket": lambda: bind(new),
            "symlink": lambda: os.symlink("x", new),
            "symlink over": lambda: os.symlink("x", file),
            "link": lambda: os.link(file, new),
            "link over": lambda: os.link(file, inside),
            "link out": lambda: os.link(file, self.elsewhere / "linked"),
            "link in": lambda: os.link(outside, new),
            "unlink": lambda: os.unlink(file),
            "unlink nothing": lambda: os.unlink(new),
            "unlink a folder": lambda: os.unlink(folder),
            "rmdir": lambda: os.rmdir(folder),
            "rmdir a file": lambda: os.rmdir(file),
            "rename": lambda: os.rename(file, new),
            "rename over": lambda: os.rename(file, inside),
            "rename nothing": lambda: os.rename(new, inside),
            "rename out": lambda: os.rename(file, self.elsewhere / "moved"),
            "rename in": lambda: os.rename(outside, new),
            "exchange": lambda: self.rename2(file, inside, _RENAME_EXCHANGE),
            "rename to a new name": lambda: self.rename2(file, new, _RENAME_NOREPLACE),
            "chmod": lambda: os.chmod(file, 0o777),
            "chmod to what it is": lambda: os.chmod(file, file.stat().st_mode & 0o777),
            "chown": lambda: os.chown(file, 1, 1),
            "lchown to nobody": lambda: os.lchown(file, -1, -1),
            "utime": lambda: os.utime(file),
            "utime of a folder": lambda: os.utime(folder, (1, 1)),
            "truncate": lambda: os.truncate(file, 0),
            "truncate to its size": lambda: os.truncate(file, file.stat().st_size),
            "truncate a folder": lambda: os.truncate(folder, 0),
            "setxattr": lambda: os.setxattr(file, "user.x", b"1"),
            "setxattr of ours": lambda: os.setxattr(file, "user.cachefs.path", b"1"),
            "setxattr trusted": lambda: os.setxattr(file, "trusted.x", b"1"),
            "removexattr": lambda: os.removexattr(file, "user.x"),
            "getxattr of nothing": lambda: os.getxattr(file, "user.nothing"),
            "mkstemp": lambda: tempfile.mkstemp(dir=here),
        }.items():
            self.ask(name, change)

    @staticmethod
    def rename2(old: Path, new: Path, flags: int) -> int:
        """Rename with flags."""
        return call("renameat2", _AT_FDCWD, old, _AT_FDCWD, new, flags)

    def descriptor_changes(self, file: int) -> None:
        """Try to change something through a descriptor."""
        for name, change in {
            "write": lambda: os.write(file, b"x"),
            "write nothing": lambda: os.write(file, b""),
            "pwrite": lambda: os.pwrite(file, b"x", 0),
            "ftruncate": lambda: os.ftruncate(file, 0),
            "fchmod": lambda: os.fchmod(file, 0o777),
            "fchown": lambda: os.fchown(file, 1, 1),
            "futimens": lambda: os.utime(file),
            "fsetxattr": lambda: os.setxattr(file, "user.x", b"1"),
            "fallocate": lambda: os.posix_fallocate(file, 0, 1),
            "punch": lambda: call("fallocate", file, _FALLOC_PUNCH, 0, ctypes.c_long(4096)),
            "fsync": lambda: os.fsync(file),
            "fdatasync": lambda: os.fdatasync(file),
            "trim": lambda: fcntl.ioctl(file, _FITRIM, bytes(24)),
            "map to write": lambda: len(mmap.mmap(file, 0, access=mmap.ACCESS_WRITE)),
            "map to run": lambda: len(mmap.mmap(file, 0, prot=mmap.PROT_EXEC)),
            "copy privately": lambda: written_privately(file),
        }.items():
            self.ask(name, change)

    def reads(self, file: int) -> None:
        """Read in every way."""
        size = os.fstat(file).st_size
        for name, read in {
            "pread": lambda: os.pread(file, 100_001, 12_345),
            "pread all": lambda: os.pread(file, size + 1, 0),
            "pread at the end": lambda: os.pread(file, 10, size),
            "pread over the end": lambda: os.pread(file, 10, size - 4),
            "pread far": lambda: os.pread(file, 10, 1 << 62),
            "pread before": lambda: os.pread(file, 10, -1),
            "read nothing": lambda: os.pread(file, 0, 0),
            "readv": lambda: vectored(file, 0),
            "preadv2, now or not at all": lambda: vectored(file, os.RWF_NOWAIT),
            "preadv2, polled": lambda: vectored(file, os.RWF_HIPRI),
            "sendfile": lambda: self.copied(lambda to: os.sendfile(to, file, 5, size)),
            "copy_file_range": lambda: self.copied(
                lambda to: os.copy_file_range(file, to, 100_000, 77)
            ),
            "splice": lambda: spliced(file),
            "sendfile to a socket": lambda: sent(file),
            "seek": lambda: os.lseek(file, -5, os.SEEK_END),
            "seek before": lambda: os.lseek(file, -5, os.SEEK_SET),
            "seek data": lambda: os.lseek(file, 4096, os.SEEK_DATA),
            "seek a hole": lambda: os.lseek(file, 4096, os.SEEK_HOLE),
            "seek data after the end": lambda: os.lseek(file, size, os.SEEK_DATA),
            "advise": lambda: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED),
            "advise badly": lambda: os.posix_fadvise(file, 0, 0, 99),
            "readahead": lambda: call("readahead", file, ctypes.c_long(0), _MIB),
            "poll": lambda: select.select([file], [file], [], 0)[0] == [file],
            "flags": lambda: fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE,
            "map whole": lambda: bytes(mmap.mmap(file, 0, prot=mmap.PROT_READ)),
            "map with advice": lambda: advised(file),
            "fchdir to a file": lambda: os.fchdir(file),
            "list a file": lambda: os.listdir(file),
        }.items():
            self.ask(name, read)

    def copied(self, copy: Callable[[int], int]) -> bytes:
        """Return what a call has copied into a file."""
        place = self.elsewhere / "copied"
        to = os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            while copy(to) == 0:
                raise OSError(errno.ENODATA, "nothing was copied")
            return place.read_bytes()
        finally:
            os.close(to)

    def locks(self, file: int) -> None:
        """Lock in every way, and watch."""
        for name, lock in {
            "flock shared": lambda: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB),
            "flock": lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
            "flock by another": self.locked_again,
            "unflock": lambda: fcntl.flock(file, fcntl.LOCK_UN),
            "flock after": self.locked_again,
            "lockf shared": lambda: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB),
            "lockf": lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
            "lease": lambda: fcntl.fcntl(file, _F_SETLEASE, fcntl.F_RDLCK),
            "lease given back": lambda: fcntl.fcntl(file, _F_SETLEASE, fcntl.F_UNLCK),
            "watch": lambda: watched(self.file),
            "watch a folder": lambda: watched(self.folder),
        }.items():
            self.ask(name, lock)

    def locked_again(self) -> str:
        """Lock through another open file."""
        with self.file.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "locked"

    def questions(self) -> None:
        """Ask what may be done."""
        file, folder = self.file, self.folder / "folder"
        for name, ask in {
            "access R": lambda: os.access(file, os.R_OK),
            "access W": lambda: os.access(file, os.W_OK),
            "access X": lambda: os.access(file, os.X_OK),
            "access W of a folder": lambda: os.access(folder, os.W_OK),
            "access X of a folder": lambda: os.access(folder, os.X_OK),
            "access of nothing": lambda: os.access(self.folder / "new", os.F_OK),
            "faccessat": lambda: call("faccessat", _AT_FDCWD, file, os.W_OK, 0x200),
            "euidaccess": lambda: call("euidaccess", file, os.W_OK),
            "readlink": lambda: os.readlink(file),
            "execute": lambda: os.execv(file, ["x"]),
            "execute a folder": lambda: os.execv(folder, ["x"]),
            "load": lambda: loaded(file),
            "statvfs": lambda: os.statvfs(file).f_flag & (os.ST_RDONLY | os.ST_NOEXEC),
            "long names": lambda: os.pathconf(file, "PC_NAME_MAX"),
            "real path": lambda: Path(os.path.realpath(folder / ".." / "file")).name,
            "list": lambda: sorted(os.listdir(self.folder)),
            "walk": lambda: sorted(name for _, names, _ in os.walk(self.folder) for name in names),
        }.items():
            self.ask(name, ask)


def bind(place: Path) -> None:
    """Make a socket with a name; through its folder, for its name may be a hundred bytes long."""
    here = os.open(place.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{here}/{place.name}")
    finally:
        os.close(here)


def written_privately(file: int) -> list[object]:
    """Write into a private mapping; return it, and what others see."""
    with mmap.mmap(file, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as own:
        own[4090:4100] = b"0123456789"
        return [own[4085:4105].hex(), os.pread(file, 20, 4085).hex()]


def vectored(file: int, flags: int) -> bytes:
    """Read into several buffers at once, when the pages are there."""
    os.pread(file, 200_000, 0)
    buffers = [bytearray(1), bytearray(4095), bytearray(100_000)]
    count = os.preadv(file, buffers, 3, flags)
    return b"".join(buffers)[:count]


def spliced(file: int) -> bytes:
    """Splice through a pipe."""
    reader, writer = os.pipe()
    try:
        count = os.splice(file, writer, 60_000, offset_src=4097)
        return os.read(reader, count)
    finally:
        os.close(reader)
        os.close(writer)


def sent(file: int) -> bytes:
    """Send into a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        count = os.sendfile(theirs.fileno(), file, 4097, 50_000)
        return ours.recv(count, socket.MSG_WAITALL)


def advised(file: int) -> bytes:
    """Map, with every advice."""
    with mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapped:
        for advice in (mmap.MADV_RANDOM, mmap.MADV_SEQUENTIAL, mmap.MADV_WILLNEED):
            mapped.madvise(advice)
        mapped.madvise(22)  # MADV_POPULATE_READ
        mapped.madvise(mmap.MADV_DONTNEED)
        return mapped[_MIB : 2 * _MIB]


def loaded(file: Path) -> None:
    """Load as a shared library."""
    try:
        ctypes.CDLL(str(file))
    except OSError as error:
        raise OSError(errno.ENOEXEC, str(error)) from None


def watched(place: Path) -> str:
    """Watch what happens to a file; return what was seen while it was read."""
    watch = call("inotify_init1", os.O_NONBLOCK)
    try:
        call("inotify_add_watch", watch, place, _IN_OPEN | _IN_MODIFY)
        if place.is_dir():
            os.listdir(place)
        else:
            place.read_bytes()
        return f"event {os.read(watch, 4096)[4:8].hex()}"
    finally:
        os.close(watch)


def main() -> None:
    """Make all calls in a folder."""
    with tempfile.TemporaryDirectory() as elsewhere:
        calls = Calls(Path(sys.argv[1]), Path(elsewhere))
        calls.opens()
        calls.changes()
        calls.questions()
        file = os.open(calls.file, os.O_RDONLY)
        try:
            calls.reads(file)
            calls.descriptor_changes(file)
            calls.locks(file)
        finally:
            os.close(file)
    print(json.dumps(calls.answers))


if __name__ == "__main__":
    main()
