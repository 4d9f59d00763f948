"""A network in memory, whose links are slow, broken and lied over as a seed decides.

Processes listen at addresses; a :class:`SimBlockSource` is one process's way to fetch blocks from
them. A fetch is a conversation of two tasks: the caller waits, as a thread waits in ``recv``, and a
task of the *serving* process finds the block and sends it, some bytes at a time, straight into the
caller's buffer. So whatever happens to either process happens to its half of the conversation:

- a **killed** server resets its connections, and refuses new ones until something listens again;
- a machine **without power** answers nothing at all;
- a **stopped** server accepts, and then is silent;
- a **cut** link loses everything between two processes, resets too, until it is healed;
- a **lost** connection breaks after some bytes have arrived;
- a **liar** sends wrong bytes under the right head.

The caller gives up when it has heard nothing for ``stall_seconds``; a live server that is busy with a
fill is heard all the time, as the real one's ``102 Processing``. Failures pass through their wire
encoding, so that nothing crosses here that could not cross there.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar

from cachefs.core.membership import Member
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    DeadlineError,
    DeniedError,
    OriginError,
    WorkerUnavailableError,
)
from cachefs.ports import CancelToken, FetchedBlock, FileRef
from cachefs.testing.runtime import SimRuntime, SimSignal
from cachefs.wire import failures
from cachefs.wire.http import PROGRESS_SECONDS

_PASSED_ON = (OriginError, CapacityError, DeniedError)
"""What a worker may say that is about the block and not about the worker."""

Answer = TypeVar("Answer")


class ServedBlock(Protocol):
    """A block that a server has found, and holds while it sends."""

    digest: bytes
    source: str

    def read_into(self, into: memoryview, offset: int) -> None:
        """Copy bytes of the block, from ``offset`` within it."""
        ...


class BlockServer(Protocol):
    """What a simulated worker answers fetches with."""

    def serve(
        self,
        file: FileRef,
        index: int,
        *,
        only_cached: bool,
        verify: bool,
        unproven: bool,
        deadline: float,
    ) -> AbstractContextManager[ServedBlock | None]:
        """Find or fill a block; ``None`` if only a cached one was wanted and it is not here."""
        ...

    def prove(self, file: FileRef, *, only_cached: bool, deadline: float) -> bytes | None:
        """Return the packed digests of a file once it is proven, or now or never."""
        ...


@dataclass(slots=True)
class NetworkFaults:
    """How likely a conversation goes wrong, and how slow all of them are."""

    lost: float = 0.0
    """The connection breaks in the middle of a body."""
    latency_seconds: tuple[float, float] = (0.0001, 0.001)
    """One way, drawn evenly."""
    byte_seconds: float = 1e-6
    """For each byte of a body."""


class SimNetwork:
    """Who listens where, and what is broken between whom."""

    def __init__(self, random: Random, *, stall_seconds: float) -> None:
        """Make a network without anybody in it."""
        self.random = random
        self.stall_seconds = stall_seconds
        self.faults = NetworkFaults()
        self.liars: set[str] = set()
        """Names of processes that serve wrong bytes."""
        self.without_power: set[str] = set()
        """Addresses whose machine is off."""
        self.served_bytes = 0
        self._listening: dict[str, tuple[SimRuntime, BlockServer | None]] = {}
        self._cut: set[frozenset[str]] = set()
        self._conversations: dict[_Conversation, None] = {}

    def listen(self, address: str, process: SimRuntime, server: BlockServer | None = None) -> None:
        """Let a process answer at an address."""
        self.without_power.discard(address)
        self._listening[address] = (process, server)

    def close(self, address: str) -> None:
        """Stop listening, and break what is under way, as the end of a process does."""
        process, _server = self._listening.pop(address)
        for conversation in tuple(self._conversations):
            silent = address in self.without_power or not conversation.is_linked()
            if conversation.server is process and not silent:
                conversation.fail(WorkerUnavailableError("connection reset", subject=address))

    def cut(self, one: str, other: str) -> None:
        """Lose everything between two processes, given by name."""
        self._cut.add(frozenset((one, other)))

    def mend(self, one: str, other: str) -> None:
        """Undo a cut."""
        self._cut.discard(frozenset((one, other)))

    def heal(self) -> None:
        """Mend all links, and make liars honest."""
        self._cut.clear()
        self.liars.clear()
        self.faults = NetworkFaults()

    def is_linked(self, one: SimRuntime, other: SimRuntime) -> bool:
        """Say whether two processes can reach each other."""
        return frozenset((one.name, other.name)) not in self._cut

    def latency(self) -> float:
        """Draw how long a message takes."""
        return self.random.uniform(*self.faults.latency_seconds)

    def call(
        self,
        client: SimRuntime,
        address: str,
        answer: Callable[[], Answer],
        *,
        timeout_seconds: float,
    ) -> Answer:
        """Ask a process something small.

        Raises:
            WorkerUnavailableError: Nobody listens there, or no answer came in time.
            CacheFSError: What ``answer`` raised, through its wire encoding.
        """
        until = client.monotonic() + timeout_seconds
        client.sleep(self.latency())
        reached = self._listening.get(address)
        if reached is None and address not in self.without_power:
            raise WorkerUnavailableError("connection refused", subject=address)
        replied: SimSignal = client.signal()
        replies: list[Answer | CacheFSError] = []

        def reply() -> None:
            try:
                replies.append(answer())
            except CacheFSError as error:
                replies.append(failures.decode(failures.encode(error)))
            replied.set()

        if reached is not None and self.is_linked(client, reached[0]):
            reached[0].start("answer", reply)
        in_time = replied.wait(until - client.monotonic())
        if not in_time or reached is None or not self.is_linked(client, reached[0]):
            client.sleep(until - client.monotonic())
            raise WorkerUnavailableError("no answer", subject=address)
        client.sleep(self.latency())
        given = replies[0]
        if isinstance(given, CacheFSError):
            raise given
        return given

    def source(self, client: SimRuntime, *, unproven: bool = False) -> "SimBlockSource":
        """Return a process's way to fetch blocks; a worker's brings unproven ones too."""
        return SimBlockSource(self, client, unproven=unproven)

    def reach(self, address: str) -> tuple[SimRuntime, BlockServer | None] | None:
        """Return who listens at an address."""
        return self._listening.get(address)

    def begin(self, conversation: "_Conversation") -> None:
        """Remember a conversation, to break it when its server ends."""
        self._conversations[conversation] = None

    def end(self, conversation: "_Conversation") -> None:
        """Forget it; the server's half finds out when it sends the next bytes."""
        conversation.is_open = False
        self._conversations.pop(conversation, None)


class SimBlockSource:
    """Implements :class:`cachefs.ports.ProofSource` for one process."""

    def __init__(self, network: SimNetwork, client: SimRuntime, *, unproven: bool) -> None:
        """Belong to the process that asks."""
        self._network = network
        self._client = client
        self._unproven = unproven

    def fetch(
        self,
        member: Member,
        file: FileRef,
        index: int,
        into: memoryview,
        *,
        only_cached: bool,
        verify: bool = False,
        deadline: float,
        cancel: CancelToken,
    ) -> FetchedBlock | None:
        """Read one whole block from a worker; see the port."""
        network, client = self._network, self._client
        client.check_alive()
        heard = client.signal()
        conversation = _Conversation(network, client, into, heard)
        cancel.on_cancel(
            lambda: conversation.fail(WorkerUnavailableError("cancelled", subject=member.worker))
        )
        try:
            patience = _Patience(client, deadline, network.stall_seconds, member)
            patience.wait(heard, network.latency())
            if conversation.error is not None:
                raise conversation.error
            reached = network.reach(member.data_address)
            if reached is None and member.data_address not in network.without_power:
                raise WorkerUnavailableError("connection refused", subject=member.worker)
            if reached is not None and network.is_linked(client, reached[0]):
                process, server = reached
                conversation.server = process
                network.begin(conversation)
                process.start(
                    f"serve {file.entry.path}#{index}",
                    lambda: conversation.answer(
                        server,
                        file,
                        index,
                        only_cached=only_cached,
                        verify=verify,
                        unproven=self._unproven,
                        deadline=deadline,
                    ),
                )
            return patience.listen(conversation)
        finally:
            network.end(conversation)
            cancel.on_cancel(None)

    def proof(
        self,
        member: Member,
        file: FileRef,
        *,
        only_cached: bool,
        deadline: float,
        on_wait: Callable[[str], None],  # noqa: ARG002 - nobody looks at it here
    ) -> bytes | None:
        """Return the packed digests of a proven file; see the port."""
        # A worker that is busy with a proof is asked again and again, in place of its 102.
        while True:
            left = deadline - self._client.monotonic()
            if left <= 0:
                raise DeadlineError("the deadline passed", subject=member.worker)
            reached = self._network.reach(member.data_address)
            server = reached[1] if reached is not None else None

            def answer(server: BlockServer | None = server) -> tuple[bool, bytes | None]:
                if server is None:
                    raise WorkerUnavailableError("it serves no proofs", subject=member.worker)
                try:
                    until = self._client.monotonic() + PROGRESS_SECONDS
                    return True, server.prove(file, only_cached=only_cached, deadline=until)
                except DeadlineError:
                    return False, None

            try:
                is_final, packed = self._network.call(
                    self._client,
                    member.data_address,
                    answer,
                    timeout_seconds=min(left, self._network.stall_seconds),
                )
            except _PASSED_ON:
                raise
            except CacheFSError as error:
                raise WorkerUnavailableError(error.message, subject=member.worker) from error
            if is_final:
                return packed

    def close(self) -> None:
        """Do nothing: there is no pool."""


class _Patience:
    """How long a caller goes on listening."""

    def __init__(
        self, client: SimRuntime, deadline: float, stall_seconds: float, member: Member
    ) -> None:
        self._client = client
        self._deadline = deadline
        self._stall_seconds = stall_seconds
        self._worker = member.worker

    def wait(self, heard: SimSignal, seconds: float) -> None:
        left = self._deadline - self._client.monotonic()
        if left <= 0:
            raise DeadlineError("the deadline passed", subject=self._worker)
        heard.wait(min(seconds, left))

    def listen(self, conversation: "_Conversation") -> FetchedBlock | None:
        conversation.heard_at = self._client.monotonic()
        while not conversation.is_done:
            self.wait(conversation.heard, PROGRESS_SECONDS)
            if conversation.is_progressing():
                conversation.heard_at = self._client.monotonic()
            if conversation.heard_at + self._stall_seconds <= self._client.monotonic():
                raise WorkerUnavailableError("stalled", subject=self._worker)
        if conversation.error is not None:
            raise conversation.error
        return conversation.fetched


class _Conversation:
    """One request and its answer."""

    def __init__(
        self, network: SimNetwork, client: SimRuntime, into: memoryview, heard: SimSignal
    ) -> None:
        self.network = network
        self.client = client
        self.server: SimRuntime | None = None
        self.into = into
        self.heard = heard
        self.heard_at = 0.0
        self.is_open = True
        self.is_done = False
        self.is_filling = False
        self.error: CacheFSError | None = None
        self.fetched: FetchedBlock | None = None

    def is_linked(self) -> bool:
        return self.server is not None and self.network.is_linked(self.client, self.server)

    def is_progressing(self) -> bool:
        """Whether the server is alive, and says so."""
        server = self.server
        awake = server is not None and not server.dead and not server.stopped
        return awake and self.is_filling and self.is_linked()

    def fail(self, error: CacheFSError) -> None:
        if self.is_open and not self.is_done:
            self.error = error
            self._finish()

    def _finish(self) -> None:
        self.is_done = True
        self.heard.set()

    def answer(
        self,
        server: BlockServer | None,
        file: FileRef,
        index: int,
        *,
        only_cached: bool,
        verify: bool,
        unproven: bool,
        deadline: float,
    ) -> None:
        """Find the block and send it; this is the server's task."""
        if server is None:
            self.fail(WorkerUnavailableError("it does not serve blocks"))
            return
        self.is_filling = True
        try:
            with server.serve(
                file,
                index,
                only_cached=only_cached,
                verify=verify,
                unproven=unproven,
                deadline=deadline,
            ) as served:
                self.is_filling = False
                if served is not None:
                    self._send(served)
                    self.fetched = FetchedBlock(served.digest, served.source)
        except CacheFSError as error:
            self.is_filling = False
            if self._await_link():
                self.fail(_as_heard(error))
        except _HungUpError:
            return
        else:
            if self._await_link() and not self.is_done:
                self._finish()

    def _send(self, served: ServedBlock) -> None:
        network, server = self.network, self.server
        assert server is not None
        size = len(self.into)
        lost_at = network.random.randrange(size) if self._draw(network.faults.lost) else size
        at = 0
        while at < size:
            count = min(max(size // 2, 1), size - at)
            chunk = bytearray(count)
            served.read_into(memoryview(chunk), at)
            server.sleep(network.latency() + count * network.faults.byte_seconds)
            if not self._await_link():
                raise _HungUpError
            if server.name in network.liars:
                chunk[network.random.randrange(count)] ^= 1 << network.random.randrange(8)
            if lost_at < at + count:
                self.into[at:lost_at] = chunk[: lost_at - at]
                self.fail(WorkerUnavailableError("connection reset", subject=server.name))
                raise _HungUpError
            self.into[at : at + count] = chunk
            self.heard_at = server.monotonic()
            network.served_bytes += count
            at += count

    def _draw(self, chance: float) -> bool:
        return chance > 0 and self.network.random.random() < chance

    def _await_link(self) -> bool:
        """Wait while the link is cut, as TCP does; ``False`` when nobody listens any more."""
        assert self.server is not None
        while self.is_open and not self.is_done and not self.is_linked():
            self.server.sleep(PROGRESS_SECONDS)
        return self.is_open and not self.is_done


class _HungUpError(Exception):
    """Nobody listens any more."""


def _as_heard(error: CacheFSError) -> CacheFSError:
    failure = failures.decode(failures.encode(error))
    if isinstance(failure, _PASSED_ON):
        return failure
    # Among the rest is the worker's own DeadlineError, which is not about the caller's.
    return WorkerUnavailableError(f"answered: {failure.message}", subject=failure.subject)
