"""Disks in memory that fail as disks do.

A :class:`.drive.SimDrive` is the medium: it outlives processes, and knows for every sector what would
be left of it after a power cut. A :class:`SimDisk` is one process's view of it, and implements
:class:`cachefs.ports.Disk`; it refuses once its process is dead. So a worker that starts again on the
same drive finds what its predecessor left:

- after ``kill -9``: everything that was written, the last write perhaps in part;
- after :meth:`.drive.SimDrive.cut_power`: what was synced, and of everything else, sector by sector,
  the old or the new bytes or the beginning of the new ones; a file that was never synced may be gone,
  a removed one may be back, and a size may be the old one.

A write of a living process is split in two with a pause between when there is somebody to be
interrupted by, so that a kill in the middle leaves a torn write. Faults are switched on by setting
:attr:`.drive.SimDrive.faults`; damage that nobody did on purpose comes from
:meth:`.drive.SimDrive.damage`. A hole that is made while others have the file open is noted in
:attr:`.drive.SimDrive.holes_under_openers`.
"""

import errno
import os
from collections.abc import Callable, Iterator

from greenlet import GreenletExit

from cachefs.ports import DiskFile
from cachefs.testing.simulation.world.drive import (
    PAGE_BYTES,
    SECTOR_BYTES,
    Inode,
    SimDrive,
    touched,
)


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

    @property
    def is_alive(self) -> bool:
        """Whether the process lives."""
        try:
            self._refuse_if_dead()
        except GreenletExit:
            return False
        return True

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

    def __init__(self, disk: SimDisk, name: str, inode: Inode) -> None:
        """Open an inode, which lives on when its name is taken away."""
        self._disk = disk
        self._name = name
        self.inode = inode
        self._closed = False
        inode.openers.add(self)

    def fileno(self) -> int:
        """Refuse: there is no descriptor."""
        raise _failure(errno.EBADF, self._name)

    @property
    def drive(self) -> SimDrive:
        """The medium that it is on."""
        return self._disk.drive

    @property
    def is_open(self) -> bool:
        """Whether its process lives and has not closed it."""
        return not self._closed and self._disk.is_alive

    def lend(self) -> int:
        """Refuse: there is no descriptor."""
        raise _failure(errno.EBADF, self._name)

    def shared(self) -> bool | None:
        """Say whether anybody else has the file open; ``None`` if its file system cannot tell."""
        drive = self._check()
        return self.inode.is_shared(self) if drive.knows_openers else None

    def takes_room(self, offset: int, length: int) -> bool:
        """Say whether a page that the range touches is allocated."""
        self._check()
        pages = touched(offset, offset + length, PAGE_BYTES)
        return not self.inode.allocated.isdisjoint(pages)

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
        if size < len(self.inode.content):
            self._note_change("cut off")
        self.inode.resize(size)
        self._touch()

    def punch(self, offset: int, length: int) -> None:
        """Make a hole: whole pages are given back, the rest is zeroed."""
        self._check()
        inode = self.inode
        end = min(offset + length, len(inode.content))
        if end <= offset:
            return
        if not inode.allocated.isdisjoint(touched(offset, end, PAGE_BYTES)):
            self._note_change("punched out")
        inode.content[offset:end] = bytes(end - offset)
        inode.dirty.update(touched(offset, end, SECTOR_BYTES))
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
        pages = touched(offset, offset + len(data), PAGE_BYTES)
        more = sum(PAGE_BYTES for page in pages if page not in self.inode.allocated)
        free = self._disk.drive.free_bytes()
        if more > free:
            self._write(data[: max(0, free)], offset)
            raise _failure(errno.ENOSPC, self._name)

        if not self._name.startswith("journal"):
            drive = self._disk.drive
            taken = drive.allocated_bytes(matching=lambda name: not name.startswith("journal"))
            drive.most_allocated_bytes = max(drive.most_allocated_bytes, taken)

    def _note_change(self, what: str) -> None:
        if self.inode.is_shared(self):
            self._disk.drive.holes_under_openers.append(f"{what} of {self._name}")

    def _touch(self) -> None:
        self.inode.stamp = self._disk.drive.next_stamp()


def _failure(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)
