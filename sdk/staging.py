"""Staging: the way to a device's memory, through a few pinned buffers that are used in turns.

A device copies from pinned memory at the bus's speed and while the CPU does something else; from
ordinary memory it does neither. Pinning is slow and takes memory from everybody, so there are few
buffers, and a thread that has filled one starts its copy and goes on with the next. A buffer is
filled again only when the copy out of it has ended.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from cachefs.errors import DeadlineError, check
from cachefs.ports import Closing, Runtime

STAGING_BYTES = 32 * 1024 * 1024
"""Of one buffer: long enough that starting a copy costs nothing against it."""
STAGING_BUFFERS = 4
"""Two that are filled, and two that are copied from."""
_COPY_SECONDS = 60.0
"""A copy over the bus that takes longer will not end."""

DeviceMemory = Any
"""Whatever the copier allocates."""
Ticket = Any
"""Whatever the copier gives for a copy that was started."""


class Copier(Protocol):
    """Copies to one device. Safe from any thread."""

    def pin(self, size: int) -> tuple[memoryview, Any]:
        """Return pinned memory, and what it is to the copier."""
        ...

    def allocate(self, size: int) -> DeviceMemory:
        """Return so many bytes of the device's memory."""
        ...

    def start(
        self, pinned: Any, length: int, memory: DeviceMemory, position: int
    ) -> Ticket:  # Any: from pin()
        """Start a copy of the first bytes of pinned memory, and return at once."""
        ...

    def is_over(self, ticket: Ticket, timeout_seconds: float) -> bool:
        """Wait until a copy has ended; ``False`` on time-out."""
        ...

    def view(self, memory: DeviceMemory, position: int, dtype: str, shape: tuple[int, ...]) -> Any:
        """Return a tensor over device memory."""
        ...


class _Slot:
    """A pinned buffer."""

    def __init__(self, copier: Copier, size: int) -> None:
        self.view, self.pinned = copier.pin(size)
        self.ticket: Ticket = None


class Staging(Closing):
    """A ring of pinned buffers before one device. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        copier: Copier,
        *,
        size: int = STAGING_BYTES,
        count: int = STAGING_BUFFERS,
    ) -> None:
        """Pin nothing yet.

        Args:
            runtime: For its conditions.
            copier: Of the device.
            size: Of a buffer, in bytes.
            count: How many there are at most.
        """
        self.size = size
        self._runtime = runtime
        self._copier = copier
        self._condition = runtime.condition()
        self._free: deque[_Slot] = deque()
        self._left = count

    def bring(
        self, length: int, memory: DeviceMemory, position: int, read: Callable[[memoryview], None]
    ) -> Ticket:
        """Fill a buffer, start its copy to the device, and return what tells of its end.

        Args:
            length: In bytes, at most :attr:`size`.
            memory: Where on the device.
            position: In that memory.
            read: Fills a buffer.

        Raises:
            DeadlineError: The device does not copy.
        """
        check(length <= self.size, "more than a staging buffer holds")
        slot = self._take()
        try:
            self.settle(slot.ticket)
            slot.ticket = None
            read(slot.view[:length])
            slot.ticket = self._copier.start(slot.pinned, length, memory, position)
            return slot.ticket
        finally:
            with self._condition:
                self._free.append(slot)
                self._condition.notify_all()

    def settle(self, ticket: Ticket) -> None:
        """Wait until a copy has ended; ``None`` is one that has.

        Raises:
            DeadlineError: The device does not copy.
        """
        if ticket is not None and not self._copier.is_over(ticket, _COPY_SECONDS):
            raise DeadlineError("the device did not take what was copied to it")

    def close(self) -> None:
        """Wait for the copies under way, and let go of the buffers.

        Raises:
            DeadlineError: One does not end; its buffer is then kept for ever, as it is still read.
        """
        with self._condition:
            slots = [*self._free]
            self._free.clear()
        for slot in slots:
            self.settle(slot.ticket)

    def _take(self) -> _Slot:
        """Return the buffer that has rested longest, or a new one while there may be more."""
        until = self._runtime.monotonic() + _COPY_SECONDS
        with self._condition:
            while not self._left and not self._free:
                left = until - self._runtime.monotonic()
                if left <= 0:
                    raise DeadlineError("no staging buffer became free")
                self._condition.wait(left)
            if self._free and (not self._left or self._free[0].ticket is None):
                return self._free.popleft()
            self._left -= 1
        try:
            return _Slot(self._copier, self.size)
        except BaseException:
            with self._condition:
                self._left += 1
                self._condition.notify_all()
            raise
