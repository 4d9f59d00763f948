"""What is found in a folder, or not: listings, and names that mean nothing."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence

from cachefs.fuse.showing.attributes import Attributes


class MissingError(FileNotFoundError):
    """There is nothing of that name, which the kernel may believe for a while."""

    def __init__(self, valid_seconds: float) -> None:
        """Say for how long."""
        super().__init__(errno.ENOENT, os.strerror(errno.ENOENT))
        self.valid_seconds = valid_seconds


class Listing:
    """What is in a folder, in a fixed order, without ``.`` and ``..``; never changes."""

    def __init__(
        self,
        names: Sequence[tuple[bytes, int]],
        attributes: Callable[[int], Attributes],
        *,
        valid_seconds: float,
        constant: bool,
    ) -> None:
        """Come from a namespace; ``attributes`` turns the numbers of the names into what they are."""
        self._names = names
        self._attributes = attributes
        self.valid_seconds = valid_seconds
        """How long the kernel may keep the names and attributes in it."""
        self.constant = constant
        """It is the same whenever it is asked for: the kernel may keep it."""

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[bytes, Attributes]:
        """Return a name and what it means."""
        name, number = self._names[index]
        return name, self._attributes(number)

    def __iter__(self) -> Iterator[tuple[bytes, Attributes]]:
        """Yield all of them in order."""
        for name, number in self._names:
            yield name, self._attributes(number)

    def name(self, index: int) -> bytes:
        """Return a name alone."""
        return self._names[index][0]
