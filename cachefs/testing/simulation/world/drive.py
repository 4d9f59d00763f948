"""The medium of a simulated disk: what outlives processes, and what a power cut leaves of it.

It knows for every sector what would be left of it, and for every file who has it open, as the kernel
does. Processes see it through :class:`.disk.SimDisk`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol
from weakref import WeakSet

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


class Opener(Protocol):
    """Whoever has a file open."""

    @property
    def is_open(self) -> bool:
        """Whether it still has."""
        ...


class Inode:
    """A file's content now, and what is left of it after a power cut."""

    def __init__(self, stamp: int) -> None:
        """Begin empty."""
        self.content = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()
        self.allocated: set[int] = set()
        self.stamp = stamp
        self.openers: WeakSet[Opener] = WeakSet()

    def is_shared(self, own: object) -> bool:
        """Say whether anybody but ``own`` has the file open."""
        return any(opener is not own and opener.is_open for opener in self.openers)

    def resize(self, size: int) -> None:
        """Set the size; what is added is a hole."""
        if size < len(self.content):
            first = -(-size // PAGE_BYTES)
            self.allocated = {page for page in self.allocated if page < first}
            self.dirty.update(touched(size, len(self.content), SECTOR_BYTES))
            del self.content[size:]
        else:
            self.content.extend(bytes(size - len(self.content)))

    def write(self, data: memoryview, offset: int) -> None:
        """Write, without it being safe yet."""
        end = offset + len(data)
        if end > len(self.content):
            self.resize(end)
        self.content[offset:end] = data
        self.dirty.update(touched(offset, end, SECTOR_BYTES))
        self.allocated.update(touched(offset, end, PAGE_BYTES))

    def sync(self) -> None:
        """Make the content last."""
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


def touched(begin: int, end: int, unit: int) -> range:
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
        self.knows_openers = True
        """Whether its file system can tell who has a file open."""
        self.holes_under_openers: list[str] = []
        """What was taken out of files while others had them open."""
        self.power_cuts = 0
        self.rotted: set[tuple[str, int]] = set()
        """Which bytes of which files the medium has forgotten, without a trace in their stamps."""
        self.files: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
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

    def create(self, name: str) -> Inode:
        """Add an empty file, which a power cut may take away until it is synced."""
        inode = self.files[name] = Inode(self.next_stamp())
        return inode

    def sync(self, name: str, inode: Inode) -> None:
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
        inode = self.files.pop(name, None)
        if inode is not None:
            inode.stamp = self.next_stamp()  # who still has it open sees that a name is gone

    def replace(self, name: str, target: str) -> None:
        """Rename, so that it lasts."""
        inode = self.files.pop(name)
        self.files[target] = inode
        self._durable_names.pop(name, None)
        self._durable_names[target] = inode

    def cut_power(self) -> None:
        """Lose what was not synced; only after every process that uses the drive is dead."""
        self.power_cuts += 1
        after: dict[str, Inode] = {}
        for name in sorted({*self.files, *self._durable_names}):
            now, durable = self.files.get(name), self._durable_names.get(name)
            kept = now if now is durable else self.random.choice((now, durable))
            if kept is not None:
                after[name] = kept
        self.files, self._durable_names = after, dict(after)
        for name in sorted(after):
            after[name].lose_power(self.random)

    def forget(self) -> None:
        """Lose everything, as memory without power does."""
        self.power_cuts += 1
        self.files, self._durable_names = {}, {}

    def damage(self) -> str:
        """Do to one file what bad sectors, people and scripts do; return what it was."""
        if not self.files:
            return "nothing to damage"
        name = self.random.choice(sorted(self.files))
        inode = self.files[name]
        kind = self.random.choice(("rot", "rot", "scribble", "truncate", "extend", "remove"))
        self._damage(kind, name, inode)
        return f"{kind} {name[:12]}"

    def _damage(self, kind: str, name: str, inode: Inode) -> None:
        if kind == "remove":
            self.remove(name)
            self._durable_names.pop(name, None)
            return
        if kind == "rot" and inode.allocated:
            # The medium forgets; nobody wrote, so the stamp stays.
            page = self.random.choice(sorted(inode.allocated))
            at = min(page * PAGE_BYTES + self.random.randrange(PAGE_BYTES), len(inode.content) - 1)
            if at >= 0:
                inode.content[at] ^= 1 << self.random.randrange(8)
                self.rotted.add((name, at))
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
