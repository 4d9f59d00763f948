"""The Unix sockets of simulated workers, and the files that they lend to readers on their node.

A :class:`SimLine` stands for a connection. Behind it is the real
:class:`cachefs.workers.serving.handout.Handout`, which answers in tasks of the *serving* process, one
question after the other; before it are the real local node and nearby source. In place of a
descriptor travels a :class:`SimLentFile`, which is open as long as its reader lives and refers to it:
the worker that lent it may be long dead.

A killed worker breaks its lines. A reader that crashed hangs up, and its leases end. A stopped worker
is silent.
"""

from collections import deque
from itertools import count
from typing import Any, cast

from cachefs.errors import CacheFSError, check
from cachefs.ports import DiskFile
from cachefs.testing.simulation.world.disk import SimFile
from cachefs.testing.simulation.world.drive import Inode, SimDrive
from cachefs.testing.simulation.world.runtime import SimRuntime, SimSignal
from cachefs.transport.sockets import Line
from cachefs.wire import failures, local
from cachefs.workers.serving.handout import Handout


class SimHandout(Handout):
    """Lends out files by numbers that stand for descriptors."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # Any: as the real one's
        """Lend out nothing yet."""
        super().__init__(*arguments, **named)
        self.reopened: dict[int, SimFile] = {}
        """Files that are on their way to a reader, by what stands for the descriptor."""
        self._numbers = count(1)

    def _reopen(self, file: DiskFile) -> int:
        check(isinstance(file, SimFile), "a real file in a simulation")
        number = next(self._numbers)
        self.reopened[number] = cast("SimFile", file)
        return number


class SimLentFile:
    """Implements :class:`cachefs.transport.sockets.LentFile` for one reader's process."""

    def __init__(self, file: SimFile, client: SimRuntime) -> None:
        """Open what the worker has open."""
        self.inode: Inode = file.inode
        self.drive: SimDrive = file.drive
        self._client = client
        self._cuts = file.drive.power_cuts
        self.inode.openers.add(self)

    @property
    def is_open(self) -> bool:
        """Whether the reader lives, and the machine has had power ever since."""
        return not self._client.dead and self._cuts == self.drive.power_cuts

    def size(self) -> int:
        """Return the bytes from begin to end, holes included."""
        return len(self.inode.content)

    def stamp(self) -> int:
        """Return the change time; none that was ever told if the machine was without power."""
        return self.inode.stamp if self.is_open else -1

    def read_at(self, offset: int, into: memoryview) -> bool:
        """Fill a buffer; ``False`` if the file ends or the disk fails before."""
        faults = self.drive.faults
        if not self.is_open or (
            faults.read_error and self.drive.random.random() < faults.read_error
        ):
            return False
        self._client.preempt()
        found = self.inode.content[offset : offset + len(into)]
        into[: len(found)] = found
        self._client.preempt()
        return len(found) == len(into)


Reply = tuple[dict[str, Any], SimLentFile | None]
"""A message of the worker's, with the file that comes along."""


class SimSockets:
    """All sockets of a simulated cluster."""

    def __init__(self) -> None:
        """Begin without any."""
        self._listening: dict[str, tuple[SimRuntime, SimHandout]] = {}
        self._lines: dict[SimLine, None] = {}

    def listen(self, path: str, process: SimRuntime, handout: SimHandout) -> None:
        """Let a worker's process answer at a path."""
        self._listening[path] = (process, handout)

    def close(self, path: str) -> None:
        """Stop listening, and break the connections, as the end of a process does."""
        process, _handout = self._listening.pop(path)
        for line in tuple(self._lines):
            if line.server is process:
                line.shut_down()

    def find(self, path: str) -> tuple[SimRuntime, SimHandout] | None:
        """Return who listens at a path."""
        return self._listening.get(path)

    def begin(self, line: "SimLine") -> None:
        """Remember a connection."""
        self._lines[line] = None

    def end(self, line: "SimLine") -> None:
        """Forget it."""
        self._lines.pop(line, None)

    def hang_up(self, client: SimRuntime) -> None:
        """Break the connections of a process that has ended."""
        for line in tuple(self._lines):
            if line.client is client:
                line.shut_down()

    def of(self, client: SimRuntime) -> "SimLines":
        """Return a process's way to the sockets of its node."""
        return SimLines(self, client)


class SimLines:
    """Implements :class:`cachefs.transport.sockets.Lines` for one process."""

    def __init__(self, sockets: SimSockets, client: SimRuntime) -> None:
        """Belong to the process that asks."""
        self._sockets = sockets
        self._client = client

    def exists(self, path: str) -> bool:
        """Say whether there is a socket of that path."""
        return self._sockets.find(path) is not None

    def open(self, path: str, timeout_seconds: float) -> Line:
        """Connect."""
        self._client.check_alive()
        found = self._sockets.find(path)
        if found is None:
            raise ConnectionRefusedError(path)
        server, handout = found
        return SimLine(self._sockets, self._client, server, handout, timeout_seconds)


class SimLine:
    """Implements :class:`cachefs.transport.sockets.Line`."""

    def __init__(
        self,
        sockets: SimSockets,
        client: SimRuntime,
        server: SimRuntime,
        handout: SimHandout,
        timeout_seconds: float,
    ) -> None:
        """Connect."""
        self.client = client
        self.server = server
        self._sockets = sockets
        self._handout = handout
        self._timeout_seconds = timeout_seconds
        self._lent: dict[int, Any] = {}
        self._replies: deque[Reply] = deque()
        self._heard: SimSignal = client.signal()
        self._answering = False
        self._broken = False
        sockets.begin(self)

    def set_timeout(self, seconds: float) -> None:
        """Bound each of the waits that follow."""
        self._timeout_seconds = seconds

    def send(self, message: dict[str, Any]) -> None:
        """Have the worker answer a message, in a task of its own."""
        self.client.preempt()
        self._check_open()
        request = _received(local.encode(message))
        self.server.start(f"local {request.get('op')}", lambda: self._answer(request))

    def receive(self) -> Reply:
        """Wait for the next message."""
        until = self.client.monotonic() + self._timeout_seconds
        while not self._replies:
            self._check_open()
            self._heard = self.client.signal()
            if not self._heard.wait(until - self.client.monotonic()):
                raise TimeoutError("timed out")
        return self._replies.popleft()

    def shut_down(self) -> None:
        """Wake whoever waits, and have the worker take back what it lent."""
        if self._broken:
            return
        self._broken = True
        self._sockets.end(self)
        self._heard.set()
        if not self.server.dead and not self._answering:
            self.server.start("local end", self._release)

    def close(self) -> None:
        """End the connection; idempotent. Who dies does not get to say so: see ``hang_up``."""
        if not self.client.dead:
            self.shut_down()

    def sendall(self, encoded: bytes | memoryview) -> None:
        """Send a message of the worker's, in the middle of an answer."""
        if self._broken:
            raise BrokenPipeError("the reader has left")
        self._push(_received(bytes(encoded)), None)

    def _check_open(self) -> None:
        self.client.check_alive()
        if self._broken:
            raise ConnectionResetError("the worker closed it")

    def _answer(self, request: dict[str, Any]) -> None:
        """Answer a message; this is the server's task."""
        if self._broken:
            return
        self._answering = True
        try:
            if request.get("op") == "hello":
                answer = {"worker": self._handout._own, "block_size": self._handout._block_size}
                self._push(answer, None)
                return
            number = None
            try:
                answer, number = self._handout._handle(cast("Any", self), request, self._lent)
            except CacheFSError as error:
                answer = {"failure": failures.to_document(error)}
            except BrokenPipeError:
                return
            file = self._handout.reopened.pop(number) if number is not None else None
            lent = SimLentFile(file, self.client) if file is not None else None
            self._push(_received(local.encode(answer)), lent)
        finally:
            self._answering = False
            self._end_answer()

    def _end_answer(self) -> None:
        """Take back what was lent if the reader has hung up in the meantime."""
        if self._broken and not self.server.dead:
            self._release()

    def _push(self, message: dict[str, Any], file: SimLentFile | None) -> None:
        if not self._broken:
            self._replies.append((message, file))
            self._heard.set()

    def _release(self) -> None:
        """Take back what was lent; this is the server's task."""
        while self._lent:
            _number, each = self._lent.popitem()
            self._handout._release(each)


def _received(encoded: bytes) -> dict[str, Any]:
    """Return a message as the other side decodes it."""
    length = local.decode_length(encoded[: local.HEADER.size])
    body = encoded[local.HEADER.size :]
    check(len(body) == length, "not one whole message")
    return local.decode(body)
