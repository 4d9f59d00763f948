"""Fetching blocks over a simulated network: the data plane, as readers and peers use it.

A fetch is a conversation of two tasks: the caller waits, as a thread waits in ``recv``, and a task of
the *serving* process finds the block and sends it, some bytes at a time, straight into the caller's
buffer. The caller gives up when it has heard nothing for ``stall_seconds``; a live server that is busy
with a fill is heard all the time, as the real one's ``102 Processing``.
"""

from collections.abc import Callable

from cachefs.core.membership import Member
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    DeadlineError,
    DeniedError,
    OriginError,
    WorkerUnavailableError,
)
from cachefs.ports import BlockRequest, FetchedBlock, FileRef, Referral
from cachefs.testing.simulation.world.network import BlockServer, ServedBlock, SimNetwork
from cachefs.testing.simulation.world.runtime import SimRuntime, SimSignal
from cachefs.wire import failures
from cachefs.wire.http import PROGRESS_SECONDS

_PASSED_ON = (OriginError, CapacityError, DeniedError)
"""What a worker may say that is about the block and not about the worker."""


class SimBlockSource:
    """Implements :class:`cachefs.ports.ProofSource` for one process."""

    def __init__(self, network: SimNetwork, client: SimRuntime, *, unproven: bool = False) -> None:
        """Belong to the process that asks; a worker's brings unproven blocks too."""
        self._network = network
        self._client = client
        self._unproven = unproven

    def fetch(self, member: Member, request: BlockRequest) -> FetchedBlock | Referral | None:
        """Read one whole block from a worker; see the port."""
        network, client = self._network, self._client
        client.check_alive()
        heard = client.signal()
        conversation = _Conversation(network, client, request, heard)
        request.cancel.on_cancel(
            lambda: conversation.fail(WorkerUnavailableError("cancelled", subject=member.worker))
        )
        try:
            patience = _Patience(client, request.deadline, network.stall_seconds, member)
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
                    f"serve {request.file.entry.path}#{request.index}",
                    lambda: conversation.answer(server, unproven=self._unproven),
                )
            return patience.listen(conversation)
        finally:
            network.end(conversation)
            request.cancel.on_cancel(None)

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

    def listen(self, conversation: "_Conversation") -> FetchedBlock | Referral | None:
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
        self, network: SimNetwork, client: SimRuntime, request: BlockRequest, heard: SimSignal
    ) -> None:
        self.network = network
        self.client = client
        self.server: SimRuntime | None = None
        self.request = request
        self.into = request.into
        self.heard = heard
        self.heard_at = 0.0
        self.is_open = True
        self.is_done = False
        self.is_filling = False
        self.error: CacheFSError | None = None
        self.fetched: FetchedBlock | Referral | None = None

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

    def answer(self, server: BlockServer | None, *, unproven: bool) -> None:
        """Find the block and send it; this is the server's task."""
        if server is None:
            self.fail(WorkerUnavailableError("it does not serve blocks"))
            return
        self.is_filling = True
        try:
            with server.serve(self.request, unproven=unproven) as served:
                self.is_filling = False
                if isinstance(served, Referral):
                    self.network.referrals += 1
                    self.fetched = served
                elif served is not None:
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
