"""What owns threads, sockets or processes, and ends with the ``with`` that it is used in."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Makes a context manager of whatever can be closed."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """End all that is owned, within a bounded time; idempotent."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it, whatever happened."""
        self.close()
