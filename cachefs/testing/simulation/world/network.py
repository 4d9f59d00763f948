"""A network in memory, whose links are slow, broken and lied over as a seed decides.

Processes listen at addresses, and others call them there. A call, as a fetch of a block
(:mod:`.fetches`), runs in a task of the *serving* process, so whatever happens to either process
happens to its half:

- a **killed** server resets its connections, and refuses new ones until something listens again;
- a machine **without power** answers nothing at all;
- a **stopped** server accepts, and then is silent;
- a **cut** link loses everything between two processes, resets too, until it is healed;
- a **lost** connection breaks after some bytes have arrived;
- a **liar** sends wrong bytes under the right head.

Failures pass through their wire encoding, so that nothing crosses here that could not cross there.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar

from cachefs.errors import CacheFSError, WorkerUnavailableError
from cachefs.ports import BlockRequest, FileRef, Referral
from cachefs.testing.simulation.world.runtime import SimRuntime, SimSignal
from cachefs.wire import failures

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
        self, request: BlockRequest, *, unproven: bool
    ) -> AbstractContextManager[ServedBlock | Referral | None]:
        """Find or fill a block; ``None`` if only a cached one was wanted and it is not here."""
        ...

    def prove(self, file: FileRef, *, only_cached: bool, deadline: float) -> bytes | None:
        """Return the packed digests of a file once it is proven, or now or never."""
        ...


class Conversation(Protocol):
    """A request under way, which the end of a process or a link ends too."""

    server: SimRuntime | None
    """Who answers; ``None`` before it was reached."""
    is_open: bool
    """Whether the caller still listens."""

    def is_linked(self) -> bool:
        """Say whether its two processes can reach each other."""
        ...

    def fail(self, error: CacheFSError) -> None:
        """End it with an error, unless it has ended."""
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
        self.referrals = 0
        """Askers who were sent to somebody else."""
        self._listening: dict[str, tuple[SimRuntime, BlockServer | None]] = {}
        self._cut: set[frozenset[str]] = set()
        self._conversations: dict[Conversation, None] = {}

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

    def reach(self, address: str) -> tuple[SimRuntime, BlockServer | None] | None:
        """Return who listens at an address."""
        return self._listening.get(address)

    def begin(self, conversation: "Conversation") -> None:
        """Remember a conversation, to break it when its server ends."""
        self._conversations[conversation] = None

    def end(self, conversation: "Conversation") -> None:
        """Forget it; the server's half finds out when it sends the next bytes."""
        conversation.is_open = False
        self._conversations.pop(conversation, None)
