"""The arithmetic of a tier: what it may hold, what it holds, what is promised.

Room is counted in whole pages, because that is what a file system gives out: a thousand files of a
hundred bytes take four megabytes, not a hundred kilobytes. What the file system needs for its own
books (inodes, a page for a file of many holes) is not counted. Three numbers add up to what is taken:

- *used*: pages of blocks that are on the disk, resident or not (a bad block of a leased file stays
  on the disk until the lease ends);
- *leaving*, a part of *used*: blocks chosen for eviction whose pages are not free yet;
- *reserved*: promised to bytes in flight.

``used + reserved`` never exceeds the capacity, unless that was lowered. A reservation that would pass the high mark asks for
an eviction down to the low mark first, so that evictions come in batches; where nothing may be
evicted it is still granted as long as it fits the capacity.
"""

from dataclasses import dataclass

from cachefs.errors import check

PAGE_SIZE = 4096
"""What ext4, XFS and tmpfs allocate at least."""


def pages(length: int) -> int:
    """Return the room that ``length`` bytes take, in bytes of whole pages."""
    return -(-length // PAGE_SIZE) * PAGE_SIZE


@dataclass(slots=True)
class Counts:
    """What happened to a tier since it was opened."""

    evictions: int = 0
    evicted_bytes: int = 0
    corrupt_blocks: int = 0
    lost_files: int = 0
    write_errors: int = 0


@dataclass(slots=True)
class Room:
    """The room of one tier. All sizes are in bytes of whole pages."""

    capacity: int
    high: int
    """Where eviction starts."""
    low: int
    """Where eviction stops."""
    configured: int
    """What the capacity is, unless others fill the disk."""
    high_mark: float
    low_mark: float
    used: int = 0
    leaving: int = 0
    reserved: int = 0

    @classmethod
    def of(cls, capacity: int, *, high_mark: float, low_mark: float) -> "Room":
        """Make an empty tier; the marks are shares of the capacity."""
        check(0 < low_mark <= high_mark <= 1, "marks of a tier out of order")
        return cls(
            capacity,
            int(capacity * high_mark),
            int(capacity * low_mark),
            capacity,
            high_mark,
            low_mark,
        )

    @property
    def is_limited(self) -> bool:
        """Whether the capacity is less than was configured."""
        return self.capacity < self.configured

    def limit(self, reach: int) -> None:
        """Make do with ``reach`` if that is less than was configured, and keep the marks' shares.

        What is taken beyond it stays until it is evicted.
        """
        limited = Room.of(
            min(self.configured, reach), high_mark=self.high_mark, low_mark=self.low_mark
        )
        self.capacity, self.high, self.low = limited.capacity, limited.high, limited.low

    @property
    def taken(self) -> int:
        """What is used or promised."""
        return self.used + self.reserved

    def takes_below_high(self, size: int) -> bool:
        """Say whether ``size`` more stays below the high mark without an eviction."""
        return self.taken + size <= self.high

    def try_reserve(self, size: int) -> bool:
        """Promise ``size`` if the capacity takes it."""
        if self.taken + size > self.capacity:
            return False
        self.reserved += size
        return True

    def excess(self, size: int) -> int:
        """Return how much must still be chosen for eviction before ``size`` is reserved.

        Nothing below the high mark; above it, all that is over the low mark. What is leaving already
        counts as gone.
        """
        after = self.taken - self.leaving + size
        return 0 if after <= self.high else after - self.low

    def keep(self, size: int) -> None:
        """Turn a promise into use."""
        self.give_back(size)
        self.used += size

    def give_back(self, size: int) -> None:
        """End a promise that was not used."""
        self.reserved -= size
        check(self.reserved >= 0, "more given back than was reserved")

    def choose(self, size: int) -> None:
        """Note that ``size`` of what is used has been chosen for eviction."""
        self.leaving += size
        check(self.leaving <= self.used, "more leaving than is used")

    def stay(self, size: int) -> None:
        """Note that what was chosen could not be freed after all."""
        self.leaving -= size
        check(self.leaving >= 0, "more stays than was leaving")

    def free(self, size: int) -> None:
        """Note that pages are free again."""
        self.used -= size
        check(self.used >= self.leaving, "more freed than was used")

    def restore(self, size: int) -> None:
        """Count what was found at start; it may be more than a capacity that was lowered since."""
        self.used += size
