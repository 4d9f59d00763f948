"""Modes: whether an open file is passed through or cached, decided by the kernel's rules.

*Passed through*, the kernel reads and maps a file of this node by itself, at its speed. It must hold
every byte, and the kernel must allow it. *Cached*, the kernel asks us for what is not in its page
cache.

Theory of operation. The kernel keeps one mode per inode as long as anybody has it open, and answers
``EIO`` to the opener if we get it wrong: while it is open cached it cannot be passed through, and
while it is passed through every open must name the same backing id. So the choice is made at an open
with nobody before it, and kept:

- **Passed through** a node stays until the kernel has dropped the inode. A program may close the
  file and keep a mapping of it, of which the kernel tells us nothing; only the inode tells, which a
  mapping holds. So long the file stays lent to us.
- **Cached** a node stays until its last opener has closed it. What processes before this one opened
  cannot be counted; it stays cached until the kernel has dropped the inode.

:meth:`Modes.settle` finds out: it makes the kernel drop a name that nobody uses, which drops the
inode unless somebody has it, and then asks for the inode, with a notification that fails with
``ENOENT`` if there is none. An OPEN of the node waits meanwhile, so the answer stays true.

**Eviction.** A worker may not punch blocks out of a file while the kernel reads it, even if the
process that borrowed it is dead, and the worker itself was restarted and knows of no loan. It asks the
kernel before: the backing file counts as open until we close its id, or the last user of the mount
has gone. The descriptor that we borrowed counts from the beginning, so a file that is whole stays whole.
"""

import contextlib
import errno
import logging
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cachefs.fuse.engines.native.journal import Journal
from cachefs.ports import Runtime

_log = logging.getLogger("cachefs.fuse")

_PAUSES_MAX = 32
"""After each look that finds a node in use, the next one is twice as long away, up to this."""
_DECIDE_SECONDS = 10.0
"""An open waits no longer for another thread that decides about the same node."""


class Whole(Protocol):
    """An open file that may be whole on this node."""

    def whole_here(self) -> int | None:
        """Return a descriptor that holds all bytes at this moment."""
        ...

    def close(self) -> None:
        """End this use of it."""
        ...


class Mode(NamedTuple):
    """How a file is to be opened."""

    backing: int
    """The id to pass it through by; 0 if it is cached."""
    kept: bool
    """The caller's use of the open file belongs to :class:`Modes` from now on."""


class Kernel(Protocol):
    """What modes ask of the kernel."""

    def open_backing(self, descriptor: int) -> int:
        """Register a file for passing through; return its id."""
        ...

    def close_backing(self, backing: int) -> None:
        """Forget an id."""
        ...

    def holds(self, node: int) -> bool:
        """Make the kernel drop an inode if nobody uses it; say whether it still has it."""
        ...


@dataclass(slots=True, eq=False)
class _Node:
    """One inode that was opened."""

    backing: int | None = None
    """Its backing id; 0 while it is cached, ``None`` while nothing is decided."""
    opens: int = 0
    """Of this process."""
    inherited: bool = False
    """Processes before this one may have it open."""
    lent: Whole | None = None
    """Keeps the backing file lent to us."""
    busy: bool = True
    """A thread decides about it; others wait."""
    look_at: float = 0.0
    """When to look whether the kernel still has it, unless it is open then."""
    pauses: int = 1


class Modes:
    """The mode of every node that is, or may be, open. Safe from any thread."""

    def __init__(
        self, runtime: Runtime, kernel: Kernel, journal: Journal, *, settle_seconds: float
    ) -> None:
        """Begin with what processes before this one had open.

        Args:
            runtime: For its clock and conditions.
            kernel: Whom to ask.
            journal: Where modes are recorded.
            settle_seconds: How long after its last close a node is looked at.
        """
        self.passthrough = False
        """Whether the kernel takes backing files: known once INIT is."""
        self._runtime = runtime
        self._kernel = kernel
        self._journal = journal
        self._condition = runtime.condition()
        self._settle_seconds = settle_seconds
        look_at = runtime.monotonic() + settle_seconds
        self._nodes = {
            node: _Node(backing, inherited=True, busy=False, look_at=look_at)
            for node, backing in journal.modes.items()
        }

    def open(self, node: int, opened: Whole) -> Mode:
        """Choose the mode of one more open of a node; :meth:`close` must follow.

        Raises:
            TimeoutError: Another open of the node takes too long.
        """
        with self._condition:
            state = self._claim(node)
        try:
            backing = state.backing
            if backing is None or not (backing or state.opens or state.inherited):
                backing = self._register(opened)
                self._journal.opens(node, backing)
        except BaseException:
            with self._condition:
                self._free(state)
            raise
        with self._condition:
            state.backing = backing
            state.opens += 1
            kept = backing != 0 and state.lent is None
            if kept:
                state.lent = opened
            self._free(state)
        return Mode(backing, kept)

    def close(self, node: int) -> None:
        """Note that one open of this process has ended."""
        with self._condition:
            state = self._nodes[node]
            state.opens -= 1
            # One that others left cached is looked at as soon as can be: it may be whole by now.
            if state.opens == 0 and not (state.inherited and not state.backing):
                state.pauses = 1
                state.look_at = self._runtime.monotonic() + self._settle_seconds

    def settle(self) -> None:
        """Look at nodes that nobody has open any more; to be called now and then."""
        now = self._runtime.monotonic()
        with self._condition:
            due = [
                node
                for node, state in self._nodes.items()
                if not state.opens and not state.busy and state.look_at <= now
            ]
        for node in due:
            self._look(node)

    def release(self) -> None:
        """Give back what is lent; the kernel keeps what it has."""
        with self._condition:
            lent = [state.lent for state in self._nodes.values() if state.lent is not None]
            self._nodes.clear()
        for each in lent:
            each.close()

    def _claim(self, node: int) -> _Node:
        """Return the node with ``busy`` set, by us; the condition is held."""
        state = self._nodes.get(node)
        if state is None:
            state = self._nodes[node] = _Node()
            return state
        until = self._runtime.monotonic() + _DECIDE_SECONDS
        while state.busy:
            left = until - self._runtime.monotonic()
            if left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "another open of the file does not end")
            self._condition.wait(left)
            state = self._nodes.setdefault(node, _Node(busy=False))
        state.busy = True
        return state

    def _free(self, state: _Node) -> None:
        state.busy = False
        self._condition.notify_all()

    def _register(self, opened: Whole) -> int:
        """Give the kernel the file if it is whole here; return the backing id, else 0."""
        if not self.passthrough:
            return 0
        try:
            descriptor = opened.whole_here()
        except OSError:
            return 0  # Its worker does not answer.
        if descriptor is None:
            return 0
        try:
            return self._kernel.open_backing(descriptor)
        except OSError as error:
            self._refused(error)
            return 0

    def _refused(self, error: OSError) -> None:
        _log.warning("the kernel passes no file through", extra={"failure": str(error)})
        if error.errno in (errno.EPERM, errno.ENOTTY):
            self.passthrough = False  # It will not change its mind.

    def _look(self, node: int) -> None:
        with self._condition:
            state = self._nodes.get(node)
            if state is None or state.busy or state.opens:
                return
            state.busy = True
        held = True
        try:
            cached = not state.backing and not state.inherited
            held = not cached and self._kernel.holds(node)
            if not held:
                self._drop(node, state)
        finally:
            with self._condition:
                if held:
                    state.pauses = min(2 * state.pauses, _PAUSES_MAX)
                    pause = state.pauses * self._settle_seconds
                    state.look_at = self._runtime.monotonic() + pause
                else:
                    del self._nodes[node]
                self._free(state)

    def _drop(self, node: int, state: _Node) -> None:
        # First the record: a successor that believed in a closed id could not open the file any
        # more. That it is not open cached any more is not recorded, see the journal.
        if state.backing or state.inherited:
            self._journal.gone(node)
        if state.backing:
            with contextlib.suppress(OSError):
                self._kernel.close_backing(state.backing)
        if state.lent is not None:
            state.lent.close()
