"""The native engine: threads that read requests from ``/dev/fuse`` and answer them.

Theory of operation. One thread at a time reads the device. What it can answer from memory it answers
at once, and reads on: looking at names costs no change of threads, which would cost more than the
answer. With any other request, one that may wait, it first lets the next thread read, then serves
that one, and queues up to read again; when nobody queues, another thread is started, up to a limit.
So there are few threads when requests are quick, and a request that waits for the network keeps no
other one waiting. READs are the ones that wait long. Only so many are served at once, and the others
queue here, so that looking at names works while every READ waits.

A READ is answered by ``writev`` of a header and of memory that the operations lend: the kernel
copies it into its page cache, or to the reader, and nobody else copies.

**Interrupts.** A signal in a process that waits for an answer makes the kernel send INTERRUPT. The
request that it names is answered at once with EINTR; the thread that serves it finds it gone from
``_running`` and drops its own answer. Whoever takes a request out of ``_running`` answers it, nobody
else.

**Taking over.** The kernel keeps what a dead process had read and not answered, and gives it out again
after a RESEND notification. What else a successor must know is in :mod:`.journal`.

**The end.** Unmounting makes reads of the device fail, which ends all threads. :meth:`NativeEngine.close`
ends them with the mount still there, for a successor to serve.
"""

import errno
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cachefs.errors import ConfigError
from cachefs.fuse.engines.native import device as system
from cachefs.fuse.engines.native import protocol
from cachefs.fuse.engines.native.dispatch import Dispatch, FileOperations
from cachefs.fuse.engines.native.journal import Journal, Negotiated
from cachefs.fuse.engines.native.modes import Modes
from cachefs.fuse.engines.underway import Underway
from cachefs.fuse.showing.attributes import MountOptions
from cachefs.fuse.showing.memory import Memory
from cachefs.ports import Runtime, Task

_log = logging.getLogger("cachefs.fuse")

_BUFFER_BYTES = 2 * protocol.MIN_READ_BUFFER
"""Of one thread's requests: none that reads is longer than a name, but forgotten nodes come by the
hundred."""
_WRITE_BYTES_MAX = 4096
"""``max_write``: nothing is written, and the kernel takes no less."""
_PAGES_MAX = 256
"""``max_pages``: requests of 1 MiB, the most that the kernel takes unless its administrator says more."""
_BACKGROUND_MAX = 64
"""Requests that the kernel reads ahead with at once, over all files."""
_CONGESTED_AT = 48
"""From so many on the kernel reads ahead no further, three quarters of the limit as its own default."""
_GONE = object()

_WANTED = (
    protocol.ASYNC_READ
    | protocol.DO_READDIRPLUS
    | protocol.PARALLEL_DIROPS
    | protocol.ABORT_ERROR
    | protocol.MAX_PAGES
    | protocol.EXPLICIT_INVAL_DATA
    | protocol.INIT_EXT
    | protocol.HAS_RESEND
    | protocol.ALLOW_IDMAP
)
"""ASYNC_DIO is not among them: a program that reads past the page cache could not be interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How much a mount's engine does at once."""

    threads: int = 40
    """Threads that serve requests."""
    reads: int = 32
    """READs that are served at once; the others wait for one of them."""
    settle_seconds: float = 10.0
    """How long after its last close a file is given back to its worker, if no mapping of it is left:
    programs open again what they have just read."""
    close_seconds: float = 30.0
    """How long :meth:`NativeEngine.close` waits for what is being served; longer than a read's deadline."""


class _Read(NamedTuple):
    """A READ that waits for its turn."""

    unique: int
    node: int
    handle: int
    offset: int
    size: int


class NativeEngine:
    """Serves one mount, whose device stays the caller's to close."""

    def __init__(
        self,
        device: int,
        operations: FileOperations,
        memory: Memory,
        options: MountOptions,
        runtime: Runtime,
        *,
        limits: EngineLimits | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to serve; nothing is read yet.

        Args:
            device: ``/dev/fuse``, mounted and not blocking; see :func:`.device.mount`.
            operations: Gives the answers.
            memory: Has the records of processes that served this mount before; none for a new one.
            options: Of them ``read_ahead_bytes``.
            runtime: For threads and time.
            limits: How much to do at once.
            on_ready: Called when the kernel begins to send requests of programs.
        """
        self._device = device
        self._runtime = runtime
        self._options = options
        self._limits = limits or EngineLimits()
        self._on_ready = on_ready
        self._operations = operations
        self._journal = Journal(memory)
        self._modes = Modes(
            runtime, self, self._journal, settle_seconds=self._limits.settle_seconds
        )
        self._dispatch = Dispatch(runtime, operations, self._modes)
        self._handlers = self._dispatch.handlers
        self._quick = self._dispatch.quick
        self._condition = runtime.condition()
        self._lock = threading.Lock()
        """For the counts that follow; whoever has it never waits."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(device, select.EPOLLIN)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._tasks: list[Task] = []
        self._reading = threading.Lock()
        """Held by the thread that reads the device."""
        self._queueing = 0
        """Threads that wait to read it."""
        self._ended = False
        self._released = False
        self._failure: Exception | None = None
        self.underway = Underway(runtime)
        """How long requests have been served; those that wait for their turn do not count."""
        self._running: dict[int, None] = {}
        """Requests that are not answered, by ``unique``."""
        self._reads_running = 0
        self._reads_waiting: deque[_Read] = deque()

    def serve(self) -> None:
        """Serve until the mount is gone, or :meth:`close`.

        Raises:
            ConfigError: The kernel's protocol is too old.
        """
        if self._journal.negotiated is not None:
            self._resume(self._journal.negotiated)
        self._tasks.append(self._runtime.start("cachefs-fuse-settle", self._settle))
        self._start_thread()
        with self._condition:
            while not self._ended:
                self._condition.wait()
        self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Finish what is being served, take nothing new, close all files; the mount stays. Idempotent."""
        self._end()
        until = self._runtime.monotonic() + self._limits.close_seconds
        for task in self._tasks:
            task.join(max(0.0, until - self._runtime.monotonic()))
        with self._condition:
            released, self._released = self._released, True
        if not released:
            self._dispatch.close()
            self._modes.release()

    # ---- what modes ask of the kernel -----------------------------------------------------------

    def open_backing(self, descriptor: int) -> int:
        """Register a file for passing through; return its id."""
        return system.open_backing(self._device, descriptor)

    def close_backing(self, backing: int) -> None:
        """Forget an id."""
        system.close_backing(self._device, backing)

    def holds(self, node: int) -> bool:
        """Make the kernel drop an inode if nobody uses it; say whether it still has it."""
        for parent, name in self._operations.names(node):
            head = protocol.INVAL_ENTRY_OUT.pack(parent, len(name), 0)
            self._notify(protocol.NOTIFY_INVAL_ENTRY, head + name + b"\0")
        # With a negative offset no page is touched; what counts is whether there is such an inode.
        held = self._notify(protocol.NOTIFY_INVAL_INODE, protocol.INVAL_INODE_OUT.pack(node, -1, 0))
        if not held:
            self._dispatch.disown(node)
        return held

    def _notify(self, code: int, body: bytes) -> bool:
        """Tell the kernel something; ``False`` if it does not know what it is about."""
        head = protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), code, 0)
        try:
            os.writev(self._device, (head, body))
        except OSError as error:
            return error.errno != errno.ENOENT
        return True

    # ---- begin and end --------------------------------------------------------------------------

    def _resume(self, negotiated: Negotiated) -> None:
        """Go on where another process ended."""
        self._modes.passthrough = bool(negotiated.flags & protocol.PASSTHROUGH)
        if negotiated.flags & protocol.HAS_RESEND:
            self._notify(protocol.NOTIFY_RESEND, b"")
        if self._on_ready is not None:
            self._on_ready()

    def _settle(self) -> None:
        """Look after files that nobody has open any more: the body of a thread."""
        while True:
            self._modes.settle()
            with self._condition:
                if not self._ended:
                    self._condition.wait(self._limits.settle_seconds / 4)
                if self._ended:
                    return

    def _end(self) -> None:
        with self._condition:
            self._ended = True
            self._condition.notify_all()
        os.eventfd_write(self._wake, 1)

    def _initialise(self, unique: int, body: memoryview) -> None:
        major, minor, read_ahead, flags = protocol.INIT_IN.unpack_from(body)
        if flags & protocol.INIT_EXT:
            flags |= protocol.INIT_IN_EXT.unpack_from(body)[4] << 32
        if major < protocol.MAJOR or (major == protocol.MAJOR and minor < protocol.MINOR_MIN):
            self._failure = ConfigError(
                f"the kernel's FUSE protocol is {major}.{minor}, and 7.{protocol.MINOR_MIN} is needed",
                hint="mount with --engine libfuse",
            )
            self._answer_error(unique, errno.EPROTO)
            self._end()
            return
        wanted = _WANTED | (protocol.PASSTHROUGH if system.may_mount() else 0)
        taken = Negotiated(min(minor, protocol.MINOR), flags & wanted)
        self._journal.began(taken)
        self._modes.passthrough = bool(taken.flags & protocol.PASSTHROUGH)
        answer = protocol.INIT_OUT.pack(
            protocol.MAJOR,
            taken.minor,
            max(read_ahead, self._options.read_ahead_bytes),
            taken.flags & 0xFFFFFFFF,
            _BACKGROUND_MAX,
            _CONGESTED_AT,
            _WRITE_BYTES_MAX,
            1,
            _PAGES_MAX,
            0,
            taken.flags >> 32,
            1 if self._modes.passthrough else 0,
        )
        self._answer(unique, answer)
        self._set_read_ahead()
        if self._on_ready is not None:
            self._on_ready()

    def _set_read_ahead(self) -> None:
        connection = system.connection_of(self._device)
        size = self._options.read_ahead_bytes
        if connection is None or not system.set_read_ahead(connection, size):
            _log.info("the kernel's readahead stays as it is: only root may set it")

    # ---- threads --------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        """Start one more thread, which queues up to read."""
        with self._lock:
            self._queueing += 1
            self._tasks.append(self._runtime.start("cachefs-fuse", self._work))

    def _work(self) -> None:
        """Read and serve requests in turn with others: the body of a thread."""
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        while True:
            with self._reading:
                count = self._read_device(buffer)
                with self._lock:
                    self._queueing -= 1
                    alone = not self._queueing and len(self._tasks) <= self._limits.threads
            if not count:
                break
            if alone:
                self._start_thread()
            try:
                with self.underway.serving():
                    self._serve(buffer[:count])
            except Exception:  # noqa: BLE001 - the request boundary: the next one is served
                _log.exception("a request met a bug")
            with self._lock:
                self._queueing += 1
        self._end()

    def _read_device(self, buffer: memoryview) -> int:
        """Answer what can be answered at once; return the length of the first request that cannot.

        Returns:
            0 when there will be no more requests.
        """
        into = (buffer,)
        while not self._ended:
            self._epoll.poll()
            try:
                count = os.readv(self._device, into)
            except OSError as error:
                if not self._can_go_on(error):
                    return 0
                continue
            if not self._answer_quickly(buffer, count):
                return count
        return 0

    def _can_go_on(self, error: OSError) -> bool:
        """Say whether there may be requests after reading the device has failed."""
        if isinstance(error, BlockingIOError) or error.errno in (errno.ENOENT, errno.EINTR):
            return True  # It was taken back while we read it.
        if error.errno == errno.ECONNABORTED:
            _log.warning("the connection was aborted")
        elif error.errno != errno.ENODEV:  # unmounted
            _log.error("the device cannot be read", extra={"failure": str(error)})
        return False

    def _answer_quickly(self, buffer: memoryview, count: int) -> bool:
        """Answer a request from memory; ``False`` if that cannot be, or it is not that simple."""
        length, opcode, unique, node = protocol.IN_HEADER_BEGIN.unpack_from(buffer)
        if length != count:
            return False
        handler = self._quick.get(opcode)
        if handler is None:
            # Nothing is counted: modes ask the kernel what it still has.
            return opcode in (protocol.FORGET, protocol.BATCH_FORGET)
        try:
            answer = handler(node, buffer[protocol.IN_HEADER.size : count])
        except OSError as error:
            self._write_error(unique, error.errno or errno.EIO)
            return True
        except Exception:  # noqa: BLE001 - a bug, which is met once more where it is answered
            return False
        if answer is None:
            return False
        if not self._write(unique, answer):
            self._dispatch.unanswered(opcode, answer)
        return True

    def _serve(self, received: memoryview) -> None:
        opcode, unique, node, body = protocol.parse_request(received)
        if opcode == protocol.INTERRUPT:
            self._interrupt(unique, protocol.INTERRUPT_IN.unpack_from(body)[0])
            return
        self._running[unique] = None
        try:
            if opcode == protocol.READ:
                handle, offset, size = protocol.READ_IN.unpack_from(body)[:3]
                self._read(_Read(unique, node, handle, offset, size))
            elif opcode == protocol.INIT:
                self._initialise(unique, body)
            else:
                handler = self._handlers.get(opcode)
                if handler is None:
                    self._answer_error(unique, errno.ENOSYS)
                    return
                answer = handler(node, body)
                if not self._answer(unique, answer):
                    self._dispatch.unanswered(opcode, answer)
        except OSError as error:
            self._answer_error(unique, error.errno or errno.EIO)
        except BaseException:
            self._answer_error(unique, errno.EIO)
            raise

    def _interrupt(self, unique: int, named: int) -> None:
        if named in self._running:
            self._answer_error(named, errno.EINTR)
            return
        # It is answered, and then nobody minds; or a thread has just read it, and is about to note
        # it: the kernel sends the interrupt again.
        self._running[unique] = None
        self._answer_error(unique, errno.EAGAIN)

    # ---- answers --------------------------------------------------------------------------------

    def _answer(self, unique: int, body: bytes) -> bool:
        """Answer a request; ``False`` if it was answered already, or nobody waits any more."""
        return self._running.pop(unique, _GONE) is not _GONE and self._write(unique, body)

    def _write(self, unique: int, body: bytes) -> bool:
        """Write an answer; ``False`` if nobody waits for it any more."""
        head = protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), 0, unique)
        try:
            os.write(self._device, head + body)
        except OSError as error:
            return self._lost(unique, error)
        return True

    def _answer_error(self, unique: int, number: int) -> None:
        """Answer with an error, unless the request was answered already."""
        if self._running.pop(unique, _GONE) is not _GONE:
            self._write_error(unique, number)

    def _write_error(self, unique: int, number: int) -> None:
        try:
            os.write(
                self._device, protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size, -number, unique)
            )
        except OSError as error:
            self._lost(unique, error)

    def _lost(self, unique: int, error: OSError) -> bool:
        # ENOENT: whoever waited was killed, or the request was sent to a successor. Any other error is
        # the mount's end, which the next read sees, or an answer that the kernel cannot use, and has
        # then answered with EIO itself.
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            _log.error("an answer was refused", extra={"failure": str(error), "unique": unique})
        return False

    def _read(self, read: _Read) -> None:
        """Serve a READ, and then those that waited for their turn meanwhile."""
        with self._lock:
            if self._reads_running >= self._limits.reads:
                self._reads_waiting.append(read)
                return
            self._reads_running += 1
        following: _Read | None = read
        while following is not None:
            with self.underway.serving():
                self._read_one(following)
            with self._lock:
                if self._reads_waiting:
                    following = self._reads_waiting.popleft()
                else:
                    self._reads_running -= 1
                    following = None

    def _read_one(self, read: _Read) -> None:
        unique = read.unique
        if unique not in self._running:
            return  # It was interrupted while it waited.
        try:
            opened = self._dispatch.file(read.handle, read.node)
            with opened.views(read.offset, read.size) as views:
                if self._running.pop(unique, _GONE) is _GONE:
                    return
                length = protocol.OUT_HEADER.size + sum(map(len, views))
                head = protocol.OUT_HEADER.pack(length, 0, unique)
                try:
                    os.writev(self._device, (head, *views))
                except OSError as error:
                    self._lost(unique, error)
        except OSError as error:
            self._answer_error(unique, error.errno or errno.EIO)
        except Exception:  # noqa: BLE001 - the request boundary
            _log.exception("a read met a bug")
            self._answer_error(unique, errno.EIO)
