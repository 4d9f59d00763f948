"""Disks in memory that fail as disks do.

A :class:`SimDrive` is the medium: it outlives processes, and knows for every sector what would be
left of it after a power cut. A :class:`SimDisk` is one process's view of it, and implements
:class:`cachefs.ports.Disk`; it refuses once its process is dead. So a worker that starts again on the
same drive finds what its predecessor left:

- after ``kill -9``: everything that was written, the last write perhaps in part;
- after :meth:`SimDrive.cut_power`: what was synced, and of everything else, sector by sector, the
  old or the new bytes or the beginning of the new ones; a file that was never synced may be gone, a removed
  one may be back, and a size may be the old one.

A write of a living process is split in two with a pause between when there is somebody to be
interrupted by, so that a kill in the middle leaves a torn write. Faults are switched on by setting
:attr:`SimDrive.faults`; damage that nobody did on purpose comes from :meth:`SimDrive.damage`.
"""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from cachefs.ports import DiskFile

PAGE_BYTES = 4096
"""What the drive allocates, as real file systems do."""
SECTOR_BYTES = 512
"""What a power cut loses as one, or tears."""


@dataclass(slots=True)
class DiskFaults:
    """How likely a call fails."""

    write_error: float = 0.0
    """``EIO`` from a write or a sync."""
    read_error: float = 0.0
    """``EIO`` from a read."""
    full: float = 0.0
    """``ENOSPC`` from a write, although there is room."""


class _Inode:
    """A file's content now, and what is left of it after a power cut."""

    def __init__(self, stamp: int) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()
        self.allocated: set[int] = set()
        self.stamp = stamp

    def resize(self, size: int) -> None:
        if size < len(self.content):
            first = -(-size // PAGE_BYTES)
            self.allocated = {page for page in self.allocated if page < first}
            self.dirty.update(_touched(size, len(self.content), SECTOR_BYTES))
            del self.content[size:]
        else:
            self.content.extend(bytes(size - len(self.content)))

    def write(self, data: memoryview, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.content):
            self.resize(end)
        self.content[offset:end] = data
        self.dirty.update(_touched(offset, end, SECTOR_BYTES))
        self.allocated.update(_touched(offset, end, PAGE_BYTES))

    def sync(self) -> None:
        _resize(self.durable, len(self.content))
        for sector in self.dirty:
            at = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
            self.durable[at] = self.content[at]
        self.dirty.clear()

    def lose_power(self, random: Random) -> None:
        """Keep of each sector that was not synced the old bytes, the new ones, or some of both."""
        size = random.choice((len(self.durable), len(self.content)))
        after = bytearray(self.durable)
        _resize(after, max(len(self.content), len(self.durable)))
        for sector in sorted(self.dirty):
            kept = random.choice((0, random.randrange(SECTOR_BYTES + 1), SECTOR_BYTES))
            begin = sector * SECTOR_BYTES
            new = self.content[begin : begin + kept]
            after[begin : begin + len(new)] = new
        _resize(after, size)
        self.content, self.durable = after, bytearray(after)
        self.dirty.clear()
        pages = -(-size // PAGE_BYTES)
        self.allocated = {page for page in self.allocated if page < pages}


def _touched(begin: int, end: int, unit: int) -> range:
    """Return the numbers of the pages or sectors that bytes lie in."""
    return range(begin // unit, -(-end // unit))


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


class SimDrive:
    """A medium with one folder on it."""

    def __init__(self, random: Random, *, capacity_bytes: int) -> None:
        """Make an empty one.

        Args:
            random: Decides over faults and what a power cut leaves.
            capacity_bytes: A write beyond it fails with ``ENOSPC``.
        """
        self.random = random
        self.capacity_bytes = capacity_bytes
        self.faults = DiskFaults()
        self.most_allocated_bytes = 0
        """The most space that files other than journals ever took."""
        self.files: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._changes = 0

    def next_stamp(self) -> int:
        """Return a change time that was never there before."""
        self._changes += 1
        return self._changes

    def allocated_bytes(self, *, matching: Callable[[str], bool] = lambda _name: True) -> int:
        """Return the space that files take, holes not included."""
        return PAGE_BYTES * sum(
            len(inode.allocated) for name, inode in self.files.items() if matching(name)
        )

    def free_bytes(self) -> int:
        """Return what is not allocated."""
        return self.capacity_bytes - self.allocated_bytes()

    def create(self, name: str) -> _Inode:
        """Add an empty file, which a power cut may take away until it is synced."""
        inode = self.files[name] = _Inode(self.next_stamp())
        return inode

    def sync(self, name: str, inode: _Inode) -> None:
        """Make a file's content and, while it still has it, its name last."""
        inode.sync()
        if self.files.get(name) is inode:
            self._durable_names[name] = inode

    def sync_all(self) -> None:
        """Make everything last as it is now."""
        self._durable_names = dict(self.files)
        for inode in self.files.values():
            inode.sync()

    def remove(self, name: str) -> None:
        """Take a name away, which a power cut may bring back."""
        self.files.pop(name, None)

    def replace(self, name: str, target: str) -> None:
        """Rename, so that it lasts."""
        inode = self.files.pop(name)
        self.files[target] = inode
        self._durable_names.pop(name, None)
        self._durable_names[target] = inode

    def cut_power(self) -> None:
        """Lose what was not synced; only after every process that uses the drive is dead."""
        after: dict[str, _Inode] = {}
        for name in sorted({*self.files, *self._durable_names}):
            now, durable = self.files.get(name), self._durable_names.get(name)
            kept = now if now is durable else self.random.choice((now, durable))
            if kept is not None:
                after[name] = kept
        self.files, self._durable_names = after, dict(after)
        for name in sorted(after):
            after[name].lose_power(self.random)

    def damage(self, *, matching: Callable[[str], bool] = lambda _name: True) -> str:
        """Do to one file what bad sectors, people and scripts do; return what it was."""
        names = sorted(name for name in self.files if matching(name))
        if not names:
            return "nothing to damage"
        name = self.random.choice(names)
        inode = self.files[name]
        kind = self.random.choice(("rot", "rot", "scribble", "truncate", "extend", "remove"))
        self._damage(kind, name, inode)
        return f"{kind} {name[:12]}"

    def _damage(self, kind: str, name: str, inode: _Inode) -> None:
        if kind == "remove":
            del self.files[name]
            self._durable_names.pop(name, None)
            return
        if kind == "rot" and inode.allocated:
            # The medium forgets; nobody wrote, so the stamp stays.
            page = self.random.choice(sorted(inode.allocated))
            at = min(page * PAGE_BYTES + self.random.randrange(PAGE_BYTES), len(inode.content) - 1)
            if at >= 0:
                inode.content[at] ^= 1 << self.random.randrange(8)
                _resize(inode.durable, max(len(inode.durable), at + 1))
                inode.durable[at] = inode.content[at]
            return
        size = len(inode.content)
        if kind == "scribble" and inode.allocated:
            at = self.random.choice(sorted(inode.allocated)) * PAGE_BYTES
            junk = self.random.randbytes(min(self.random.randrange(1, 48), size - at))
            inode.write(memoryview(junk), at)
        elif kind == "truncate" and size:
            inode.resize(self.random.randrange(size))
        elif kind == "extend":
            inode.resize(size + self.random.randrange(1, 100))
        inode.stamp = self.next_stamp()
        inode.sync()


class SimDisk:
    """A process's view of a drive; implements :class:`cachefs.ports.Disk`."""

    def __init__(
        self,
        drive: SimDrive,
        *,
        check_alive: Callable[[], None] = lambda: None,
        pause: Callable[[], None] | None = None,
    ) -> None:
        """Mount a drive.

        Args:
            drive: The medium.
            check_alive: Raises when the process is dead.
            pause: Lets other tasks run in the middle of a write.
        """
        self.drive = drive
        self.pause = pause
        self._refuse_if_dead = check_alive
        self._closed = False

    def check_alive(self) -> None:
        """Refuse what a dead process asks, and what is asked after the folder was closed."""
        self._refuse_if_dead()
        if self._closed:
            raise OSError(errno.EBADF, "the folder was closed")

    def open(self, name: str, *, create: bool = False) -> "SimFile":
        """Open a file for reading and writing."""
        self.check_alive()
        inode = self.drive.files.get(name)
        if inode is None:
            if not create:
                raise _failure(errno.ENOENT, name)
            inode = self.drive.create(name)
        return SimFile(self, name, inode)

    def names(self) -> Iterator[str]:
        """Yield the name of every file."""
        self.check_alive()
        yield from sorted(self.drive.files)

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""
        self.check_alive()
        self.drive.remove(name)

    def replace(self, name: str, target: str) -> None:
        """Rename over ``target`` atomically and durably."""
        self.check_alive()
        if name not in self.drive.files:
            raise _failure(errno.ENOENT, name)
        self.drive.replace(name, target)

    def free_bytes(self) -> int:
        """Return what the file system could still take."""
        self.check_alive()
        return self.drive.free_bytes()

    def refers(self, name: str, file: DiskFile) -> bool:
        """Say whether ``name`` is still this very file."""
        self.check_alive()
        return isinstance(file, SimFile) and self.drive.files.get(name) is file.inode

    def sync(self) -> None:
        """Write out the whole file system."""
        self.check_alive()
        faults = self.drive.faults
        if faults.write_error and self.drive.random.random() < faults.write_error:
            raise _failure(errno.EIO, "")
        self.drive.sync_all()

    def close(self) -> None:
        """Let go of the folder; nothing may be opened any more."""
        self._closed = True


class SimFile:
    """An open file; implements :class:`cachefs.ports.DiskFile`."""

    def __init__(self, disk: SimDisk, name: str, inode: _Inode) -> None:
        """Open an inode, which lives on when its name is taken away."""
        self._disk = disk
        self._name = name
        self.inode = inode
        self._closed = False

    def fileno(self) -> int:
        """Refuse: there is no descriptor."""
        raise _failure(errno.EBADF, self._name)

    def pread_into(self, into: memoryview, offset: int) -> int:
        """Read until ``into`` is full or the file ends."""
        drive = self._check()
        if drive.faults.read_error and drive.random.random() < drive.faults.read_error:
            raise _failure(errno.EIO, self._name)
        found = self.inode.content[offset : offset + len(into)]
        into[: len(found)] = found
        return len(found)

    def pwrite(self, data: memoryview, offset: int) -> None:
        """Write all of ``data``, or fail with a part of it written."""
        drive = self._check()
        faults = drive.faults
        if faults.write_error and drive.random.random() < faults.write_error:
            self._write(data[: drive.random.randrange(len(data) + 1)], offset)
            raise _failure(errno.EIO, self._name)
        if faults.full and drive.random.random() < faults.full:
            self._write(data[: drive.random.randrange(len(data) + 1)], offset)
            raise _failure(errno.ENOSPC, self._name)
        self._check_room(data, offset)
        if self._disk.pause is not None and len(data) > 1:
            cut = drive.random.randrange(len(data))
            self._write(data[:cut], offset)
            self._disk.pause()
            self._write(data[cut:], offset + cut)
        else:
            self._write(data, offset)

    def sync(self) -> None:
        """Return when what was written survives a power cut."""
        drive = self._check()
        if drive.faults.write_error and drive.random.random() < drive.faults.write_error:
            raise _failure(errno.EIO, self._name)
        drive.sync(self._name, self.inode)

    def truncate(self, size: int) -> None:
        """Set the size; new bytes are a hole and read as zeros."""
        self._check()
        self.inode.resize(size)
        self._touch()

    def punch(self, offset: int, length: int) -> None:
        """Make a hole: whole pages are given back, the rest is zeroed."""
        self._check()
        inode = self.inode
        end = min(offset + length, len(inode.content))
        if end <= offset:
            return
        inode.content[offset:end] = bytes(end - offset)
        inode.dirty.update(_touched(offset, end, SECTOR_BYTES))
        last = -(-end // PAGE_BYTES) if end == len(inode.content) else end // PAGE_BYTES
        inode.allocated.difference_update(range(-(-offset // PAGE_BYTES), last))
        self._touch()

    def size(self) -> int:
        """Return the bytes from begin to end, holes included."""
        self._check()
        return len(self.inode.content)

    def stamp(self) -> int:
        """Return a number that differs after anybody's write."""
        self._check()
        return self.inode.stamp

    def close(self) -> None:
        """Release the file; idempotent, and allowed after the process's death."""
        self._closed = True

    def _write(self, data: memoryview, offset: int) -> None:
        self.inode.write(data, offset)
        self._touch()

    def _check(self) -> SimDrive:
        self._disk.check_alive()
        if self._closed:
            raise _failure(errno.EBADF, self._name)
        return self._disk.drive

    def _check_room(self, data: memoryview, offset: int) -> None:
        pages = _touched(offset, offset + len(data), PAGE_BYTES)
        more = sum(PAGE_BYTES for page in pages if page not in self.inode.allocated)
        free = self._disk.drive.free_bytes()
        if more > free:
            self._write(data[: max(0, free)], offset)
            raise _failure(errno.ENOSPC, self._name)

        if not self._name.startswith("journal"):
            drive = self._disk.drive
            taken = drive.allocated_bytes(matching=lambda name: not name.startswith("journal"))
            drive.most_allocated_bytes = max(drive.most_allocated_bytes, taken)

    def _touch(self) -> None:
        self.inode.stamp = self._disk.drive.next_stamp()


def _failure(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)
