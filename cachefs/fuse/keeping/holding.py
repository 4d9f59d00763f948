"""What a keeper holds: the device, the memory, and the place in the mount table."""

import os
import select

from cachefs.config.schema import MountPlan
from cachefs.core.names import printable
from cachefs.errors import ConflictError
from cachefs.fuse.engines.choice import NATIVE
from cachefs.fuse.engines.native import device as kernel
from cachefs.fuse.keeping.keptmemory import make_memory
from cachefs.fuse.mounts import blocking
from cachefs.fuse.mounts.table import find_mount
from cachefs.fuse.showing.attributes import MountOptions

_UNMOUNT_SECONDS = 3.0
"""Longest that the keeper itself waits for an unmount; it looks after the server meanwhile not."""


def options_of(plan: MountPlan) -> MountOptions:
    """Return what engines and operations are told of a plan."""
    return MountOptions(
        uid=plan.uid,
        gid=plan.gid,
        umask=plan.umask,
        allow_other=plan.allow_other,
        read_ahead_bytes=plan.settings.read_ahead_bytes,
        follow_current=plan.follow_current,
    )


class HeldMount:
    """A mount, from before it is made until it is given up."""

    def __init__(self, plan: MountPlan) -> None:
        """Hold nothing yet."""
        self._plan = plan
        self._device: int | None = None
        self._memory: int | None = None
        self.made = False
        """Whether :meth:`mount` has succeeded."""
        self.number = ""
        """``major:minor`` in the mount table, once it is mounted."""

    def mount(self) -> None:
        """Mount, once; with libfuse, the server does it itself.

        Raises:
            ConflictError: One of our mounts is there.
            CacheFSError: The system refuses.
        """
        if self.made:
            return
        there = find_mount(self._plan.mountpoint)
        if there is not None and there.ours:
            raise ConflictError(
                f"{printable(there.source)} is mounted there",
                subject=printable(str(self._plan.mountpoint)),
                hint=f"`cachefs umount {printable(str(self._plan.mountpoint))}`, or another folder",
            )
        if self._plan.engine == NATIVE:
            options = options_of(self._plan)
            self._device = kernel.mount(self._plan.mountpoint, self._plan.source, options)
            self._memory = make_memory()
        self.made = True

    def adopt(self, device: int, memory: int) -> bool:
        """Take a mount over that another keeper has made; ``False`` if it is not there.

        The descriptors are ours from now on; those of a mount that is not there are closed.
        """
        entry = find_mount(self._plan.mountpoint)
        connection = kernel.connection_of(device)
        is_it = entry is not None and connection in (None, int(entry.device.partition(":")[2]))
        if entry is None or not entry.ours or not is_it:
            for descriptor in (device, memory):
                os.close(descriptor)
            return False
        self._device, self._memory = device, memory
        self.number, self.made = entry.device, True
        return True

    def descriptors(self) -> list[int]:
        """Return what the server is handed: device and memory, or nothing."""
        return [each for each in (self._device, self._memory) if each is not None]

    def find(self) -> None:
        """Look the mount up in the mount table."""
        entry = find_mount(self._plan.mountpoint)
        if entry is not None and entry.ours:
            self.number = entry.device

    def release(self) -> None:
        """Close device and memory; if no server has them, the mount is dead from now on."""
        for descriptor in self.descriptors():
            os.close(descriptor)
        self._device = self._memory = None

    @property
    def in_table(self) -> bool:
        """Whether it is still mounted in our own mount namespace."""
        entry = find_mount(self._plan.mountpoint)
        return entry is not None and entry.ours and self.number in ("", entry.device)

    @property
    def gone(self) -> bool:
        """Whether it was unmounted for good, or its connection aborted."""
        if self._device is None:
            return self.made and not self.in_table
        # The kernel tells whoever polls the device. We ask at times instead of waiting for it:
        # a process that waits is woken for every single request.
        poll = select.poll()
        poll.register(self._device, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def unmount(self, *, lazily: bool = False) -> bool:
        """Unmount if nobody uses it, or lazily; say whether it left the mount table. Bounded."""
        flags = blocking.DETACHED if lazily else 0
        blocking.unmount(self._plan.mountpoint, flags=flags, seconds=_UNMOUNT_SECONDS)
        return not self.in_table
