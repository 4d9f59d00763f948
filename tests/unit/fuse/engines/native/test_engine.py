"""The engine against a device that the test plays: answers, hostile requests, interrupts, the end."""

import errno
import os
import socket
import threading
from contextlib import contextmanager

import pytest

from cachefs.errors import ConfigError
from cachefs.fuse.engines.native import protocol
from cachefs.fuse.engines.native.engine import EngineLimits, NativeEngine
from cachefs.fuse.showing.attributes import FOREVER, Attributes, Found, MountOptions, Statistics
from cachefs.fuse.showing.memory import VolatileMemory
from cachefs.transport.runtime import ThreadRuntime

OPTIONS = MountOptions(uid=0, gid=0)
CONTENT = bytes(range(256)) * 64
FILE = 2


class File:
    size = len(CONTENT)

    def __init__(self, operations):
        self._operations = operations

    @contextmanager
    def views(self, offset, length):
        self._operations.arrived.release()
        assert self._operations.gate.wait(5)
        if self._operations.failure is not None:
            raise self._operations.failure
        middle = offset + length // 2
        whole = memoryview(CONTENT)
        yield (whole[offset:middle], whole[middle : offset + length])

    def expect(self):
        pass

    def whole_here(self):
        return None

    def close(self):
        self._operations.closed += 1


class Listing:
    valid_seconds = FOREVER
    constant = True

    def __len__(self):
        return 500

    def __getitem__(self, index):
        return b"name-%d" % index, shown(10 + index)


def shown(node, *, folder=False):
    return Attributes(node, node + 100, folder, 0 if folder else len(CONTENT), 0o444, 1, 0, 0, 0)


class Operations:
    """One file in a folder."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        self.failure = None
        self.closed = 0
        self.in_memory = False
        self.tried = []

    def lookup(self, parent, name):
        if self.failure is not None:
            raise self.failure
        if name != b"file":
            missing = FileNotFoundError(errno.ENOENT, "nothing")
            missing.valid_seconds = 5.0
            raise missing
        return Found(shown(FILE), 1.5)

    def getattr(self, node):
        return Found(shown(node, folder=node == 1), FOREVER)

    def try_lookup(self, parent, name):
        self.tried.append(threading.get_ident())
        return self.lookup(parent, name) if self.in_memory else None

    def try_getattr(self, node):
        return self.getattr(node) if self.in_memory else None

    def try_listing(self, node):
        return self.listing(node) if self.in_memory else None

    def listing(self, node):
        return Listing()

    def open(self, node):
        return File(self)

    def names(self, node):
        return ()

    def statfs(self):
        return Statistics(5000, 3)

    def getxattr(self, node, name):
        return b"value"

    def listxattr(self, node):
        return ("user.one", "user.two")


class Device:
    """The kernel's side of ``/dev/fuse``: whole messages, both ways."""

    def __init__(self, operations, *, limits=None, memory=None):
        self.kernel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.settimeout(5)
        theirs.setblocking(False)
        self._theirs = theirs
        self._unique = 0
        self.failure = None
        self.memory = memory or VolatileMemory()
        self.engine = NativeEngine(
            theirs.fileno(), operations, self.memory, OPTIONS, ThreadRuntime(), limits=limits
        )
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        try:
            self.engine.serve()
        except ConfigError as error:
            self.failure = error

    def send(self, opcode, body=b"", node=1, unique=None):
        """Send a request; return its number."""
        self._unique += 2
        unique = unique or self._unique
        head = protocol.IN_HEADER.pack(40 + len(body), opcode, unique, node, 0, 0, 0, 0, 0)
        self.kernel.send(head + body)
        return unique

    def receive(self):
        """Return the number, the error and the body of the next answer."""
        answer = self.kernel.recv(1 << 20)
        length, error, unique = protocol.OUT_HEADER.unpack_from(answer)
        assert length == len(answer)
        return unique, -error, answer[16:]

    def ask(self, opcode, body=b"", node=1):
        unique = self.send(opcode, body, node)
        answered, error, answer = self.receive()
        assert answered == unique
        return error, answer

    def close(self):
        self.kernel.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self._theirs.close()


@pytest.fixture
def operations():
    return Operations()


@pytest.fixture
def device(operations):
    made = Device(operations, limits=EngineLimits(threads=6, reads=2))
    yield made
    operations.gate.set()
    made.close()


def read_body(handle=0, offset=0, size=4096):
    return protocol.READ_IN.pack(handle, offset, size, 0, 0, 0, 0)


def initialise(device, minor=44, flags=0xFFFFFFFF, flags2=0xFFFFFFFF):
    body = protocol.INIT_IN_EXT.pack(7, minor, 131072, flags, flags2) + bytes(44)
    return device.ask(protocol.INIT, body)


def test_init_takes_what_it_knows_and_records_it(device):
    error, answer = initialise(device)
    assert error == 0
    major, minor, ahead, flags, *_, pages, _, flags2, depth = protocol.INIT_OUT.unpack(answer)
    assert (major, minor, ahead, pages) == (7, protocol.MINOR, 4 << 20, 256)
    assert flags & protocol.ASYNC_READ
    assert flags & protocol.INIT_EXT
    assert not flags & (1 << 16)  # WRITEBACK_CACHE, which excludes passing through
    assert flags2 << 32 & protocol.HAS_RESEND
    assert depth == (1 if flags2 << 32 & protocol.PASSTHROUGH else 0)
    record = device.memory.records()[0]
    assert record["flags"] == flags | flags2 << 32


def test_init_offers_nothing_that_the_kernel_did_not(device):
    _, answer = initialise(device, minor=31, flags=protocol.ASYNC_READ, flags2=0xFFFFFFFF)
    _, minor, _, flags, *_, flags2, depth = protocol.INIT_OUT.unpack(answer)
    assert (minor, flags, flags2, depth) == (31, protocol.ASYNC_READ, 0, 0)


def test_a_kernel_that_is_too_old_is_refused_with_an_error_that_says_so(device):
    assert initialise(device, minor=30)[0] == errno.EPROTO
    device.thread.join(10)
    assert "7.30" in str(device.failure)


def test_names_are_looked_up(device):
    error, answer = device.ask(protocol.LOOKUP, b"file\0")
    assert error == 0
    assert protocol.ENTRY_OUT.unpack(answer)[:6] == (FILE, 0, 1, 1, 500_000_000, 500_000_000)
    error, answer = device.ask(protocol.LOOKUP, b"other\0")
    assert (error, protocol.ENTRY_OUT.unpack(answer)[:3]) == (0, (0, 0, 5))


def test_names_in_memory_are_looked_up_by_the_thread_that_reads(device, operations):
    operations.in_memory = True
    for _ in range(20):
        test_names_are_looked_up(device)
        assert device.ask(protocol.GETATTR, bytes(16))[0] == 0
    assert len(set(operations.tried)) == 1
    operations.failure = OSError(errno.EACCES, "no")
    assert device.ask(protocol.LOOKUP, b"file\0")[0] == errno.EACCES


def test_a_file_is_opened_read_and_closed(device, operations):
    error, answer = device.ask(protocol.OPEN, protocol.OPEN_IN.pack(os.O_RDONLY, 0), FILE)
    handle, flags, backing = protocol.OPEN_OUT.unpack(answer)
    assert (error, backing) == (0, 0)
    assert flags & protocol.FOPEN_KEEP_CACHE
    error, answer = device.ask(protocol.READ, read_body(handle, 100, 1000), FILE)
    assert (error, answer) == (0, CONTENT[100:1100])
    error, answer = device.ask(protocol.READ, read_body(handle, len(CONTENT) - 10, 1000), FILE)
    assert (error, answer) == (0, CONTENT[-10:])
    assert device.ask(protocol.RELEASE, protocol.RELEASE_IN.pack(handle, 0, 0, 0), FILE) == (0, b"")
    assert operations.closed == 1


def test_a_handle_of_another_process_is_as_good(device):
    assert device.ask(protocol.READ, read_body(12345, 7, 9), FILE) == (0, CONTENT[7:16])
    assert device.ask(protocol.RELEASE, protocol.RELEASE_IN.pack(12345, 0, 0, 0), FILE)[0] == 0
    error, answer = device.ask(protocol.READDIR, read_body(777))
    assert error == 0
    assert answer


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC])
def test_a_file_is_not_opened_for_writing(device, flags):
    body = protocol.OPEN_IN.pack(flags, 0)
    assert device.ask(protocol.OPEN, body, FILE)[0] == errno.EROFS


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("plus", [False, True])
def test_a_folder_is_read_in_parts_without_loss(device, operations, plus, in_memory):
    operations.in_memory = in_memory
    handle = protocol.OPEN_OUT.unpack(device.ask(protocol.OPENDIR)[1])[0]
    names, offset = [], 0
    while True:
        opcode = protocol.READDIRPLUS if plus else protocol.READDIR
        error, answer = device.ask(opcode, read_body(handle, offset, 1000))
        assert error == 0
        assert len(answer) <= 1000
        if not answer:
            break
        while answer:
            answer = answer[128:] if plus else answer
            _, offset, length, _ = protocol.DIRENT.unpack_from(answer)
            names.append(answer[24 : 24 + length])
            answer = answer[24 + -(-length // 8) * 8 :]
    assert names == [b".", b"..", *(b"name-%d" % index for index in range(500))]
    assert device.ask(protocol.RELEASEDIR, protocol.RELEASE_IN.pack(handle, 0, 0, 0))[0] == 0


def test_extended_attributes_have_a_length_and_a_value(device):
    def get(size, name=b"user.one\0"):
        return device.ask(protocol.GETXATTR, protocol.XATTR_IN.pack(size, 0) + name, FILE)

    assert get(0) == (0, protocol.XATTR_OUT.pack(5, 0))
    assert get(5) == (0, b"value")
    assert get(4)[0] == errno.ERANGE
    assert get(0, b"security.selinux\0")[0] == errno.EOPNOTSUPP
    listed = device.ask(protocol.LISTXATTR, protocol.XATTR_IN.pack(100, 0), FILE)
    assert listed == (0, b"user.one\0user.two\0")


def test_statfs_rounds_up_and_leaves_no_room(device):
    blocks, free, available, files, *_ = protocol.STATFS_OUT.unpack(device.ask(protocol.STATFS)[1])
    assert (blocks, free, available, files) == (2, 0, 0, 3)


@pytest.mark.parametrize("opcode", sorted(protocol.WRITING))
def test_what_would_write_is_refused(device, opcode):
    assert device.ask(opcode, bytes(200), FILE)[0] == errno.EROFS


@pytest.mark.parametrize("opcode", [protocol.ACCESS, protocol.LSEEK, protocol.FLUSH, 999, 4096])
def test_what_it_does_not_know_is_not_implemented(device, opcode):
    assert device.ask(opcode, bytes(64))[0] == errno.ENOSYS


def test_forgetting_is_not_answered(device):
    device.send(protocol.FORGET, bytes(8), FILE)
    device.send(protocol.BATCH_FORGET, bytes(8))
    assert device.ask(protocol.STATFS)[0] == 0


@pytest.mark.parametrize(
    "opcode", [protocol.READ, protocol.OPEN, protocol.READDIR, protocol.GETXATTR]
)
def test_a_request_with_half_a_body_gets_an_error(device, opcode):
    assert device.ask(opcode, b"\1\2\3", FILE)[0] == errno.EIO
    assert device.ask(protocol.STATFS)[0] == 0


@pytest.mark.parametrize(
    "message", [b"x", bytes(40), b"\xff" * 40, b"\xff" * 5000, bytes(39), b"\0" * 16000]
)
def test_nonsense_is_not_answered_and_does_no_harm(device, message):
    device.kernel.send(message)
    assert device.ask(protocol.STATFS)[0] == 0


def test_errors_and_bugs_reach_the_program_as_numbers(device, operations):
    operations.failure = OSError(errno.ESTALE, "moved")
    assert device.ask(protocol.LOOKUP, b"file\0")[0] == errno.ESTALE
    assert device.ask(protocol.READ, read_body(), FILE)[0] == errno.ESTALE
    operations.failure = RuntimeError("a bug")
    assert device.ask(protocol.LOOKUP, b"file\0")[0] == errno.EIO
    assert device.ask(protocol.READ, read_body(), FILE)[0] == errno.EIO
    operations.failure = None
    assert device.ask(protocol.LOOKUP, b"file\0")[0] == 0


def test_an_interrupted_read_is_answered_once_and_at_once(device, operations):
    operations.gate.clear()
    read = device.send(protocol.READ, read_body(), FILE)
    assert operations.arrived.acquire(timeout=5)
    device.send(protocol.INTERRUPT, protocol.INTERRUPT_IN.pack(read), unique=read | 1)
    assert device.receive()[:2] == (read, errno.EINTR)
    operations.gate.set()
    assert device.ask(protocol.STATFS)[0] == 0  # and nothing else came before it


def test_a_read_that_waits_for_its_turn_can_be_interrupted(device, operations):
    operations.gate.clear()
    first = {device.send(protocol.READ, read_body(), FILE) for _ in range(2)}
    for _ in first:
        assert operations.arrived.acquire(timeout=5)
    waiting = device.send(protocol.READ, read_body(), FILE)
    while True:  # until it was read, the kernel is told to ask again
        device.send(protocol.INTERRUPT, protocol.INTERRUPT_IN.pack(waiting), unique=waiting | 1)
        answered, error, _ = device.receive()
        if answered == waiting:
            break
        assert (answered, error) == (waiting | 1, errno.EAGAIN)
    assert error == errno.EINTR
    operations.gate.set()
    assert {device.receive()[0] for _ in first} == first
    assert device.ask(protocol.STATFS)[0] == 0


def test_an_interrupt_of_a_request_that_is_not_known_is_to_be_sent_again(device):
    unique = device.send(protocol.INTERRUPT, protocol.INTERRUPT_IN.pack(4444))
    assert device.receive()[:2] == (unique, errno.EAGAIN)


def test_reads_that_wait_leave_the_rest_alone_and_end_in_any_order(device, operations):
    operations.gate.clear()
    waiting = {device.send(protocol.READ, read_body(0, 10 * n, 10), FILE): n for n in range(20)}
    for _ in range(50):
        assert device.ask(protocol.STATFS)[0] == 0
    operations.gate.set()
    for _ in range(20):
        unique, error, answer = device.receive()
        number = waiting.pop(unique)
        assert (error, answer) == (0, CONTENT[10 * number :][:10])
    assert waiting == {}


def test_a_successor_asks_for_what_was_not_answered_and_needs_no_init(operations):
    first = Device(operations)
    initialise(first)
    first.close()
    second = Device(operations, memory=first.memory)
    try:
        message = second.kernel.recv(100)
        assert protocol.OUT_HEADER.unpack(message) == (16, protocol.NOTIFY_RESEND, 0)
        resent = second.send(protocol.READ, read_body(9, 0, 10), FILE, protocol.UNIQUE_RESEND | 2)
        assert second.receive() == (resent, 0, CONTENT[:10])
    finally:
        second.close()


def test_an_engine_that_is_closed_finishes_what_it_has_and_takes_nothing_new(operations):
    device = Device(operations)
    try:
        operations.gate.clear()
        read = device.send(protocol.READ, read_body(0, 0, 10), FILE)
        assert operations.arrived.acquire(timeout=5)
        closing = threading.Thread(target=device.engine.close)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
        device.send(protocol.STATFS)
        operations.gate.set()
        assert device.receive() == (read, 0, CONTENT[:10])
        closing.join(5)
        assert not closing.is_alive()
        device.thread.join(5)
        assert not device.thread.is_alive()
        device.kernel.settimeout(0.1)
        with pytest.raises(TimeoutError):
            device.receive()
    finally:
        operations.gate.set()
        device.close()
