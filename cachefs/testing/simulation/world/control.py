"""How the processes of a simulated cluster ask each other small things: calls, views, versions, digests.

Whoever answers is found in a :data:`Directory` by its address, as everything else is on the
network. Readers ask the coordinator, or the workers they know when it is silent, as ``HttpMetadata``
does; workers ask nobody else, and go on with what they know.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from cachefs.core.membership import EMPTY_VIEW, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import (
    CacheFSError,
    CoordinatorUnavailableError,
    NotKnownError,
    WorkerUnavailableError,
)
from cachefs.ports import Closing, FileRef, ResolvedVersion
from cachefs.testing.simulation.world.network import SimNetwork
from cachefs.testing.simulation.world.runtime import SimRuntime

COORDINATOR = "coordinator"
"""The coordinator's address and process name."""
DATASET = DatasetName.parse("weights")
TIMEOUT_SECONDS = 1.0
"""How long anybody waits for an answer to a small question."""

Answer = TypeVar("Answer")


class Answering(Protocol):
    """What answers at one address: the questions of :class:`cachefs.ports.Metadata`, and calls."""

    def known_view(self) -> View:
        """Return its view."""
        ...

    def known_version(self, version: str | None) -> ResolvedVersion:
        """Return a version, or raise ``NotKnownError``."""
        ...

    def known_digests(self, file: FileRef) -> Sequence[bytes | None]:
        """Return what digests it knows."""
        ...

    def known_holders(self, file: FileRef) -> Mapping[WorkerId, int]:
        """Return who holds which blocks; the coordinator alone knows."""
        ...

    def answer(self, method: str, request: Any) -> Any:  # Any: each method has a class of its own
        """Answer a call of the control plane."""
        ...


Directory = dict[str, Answering]
"""Who answers at which address."""


class SimChannel(Closing):
    """What calls of the control plane go through, in place of a gRPC channel."""

    def __init__(
        self, process: SimRuntime, network: SimNetwork, directory: Directory, address: str
    ) -> None:
        """Belong to the process that calls."""
        self._process = process
        self._network = network
        self._directory = directory
        self._address = address

    @property
    def channel(self) -> "SimChannel":
        """What a generated stub is built on."""
        return self

    def unary_unary(self, path: str, **_codecs: object) -> str:
        """Return what the stub keeps as a method: its name."""
        return path.rpartition("/")[2]

    unary_stream = unary_unary

    def call(self, method: str, request: Any, *, timeout_seconds: float | None = None) -> Any:
        # Any: each method has a class of its own
        """Make a call, as ``ControlChannel`` does.

        Raises:
            CacheFSError: What the other side raised, or that it could not be reached.
        """
        try:
            return ask(
                self._process,
                self._network,
                self._directory,
                self._address,
                lambda one: one.answer(method, request),
                timeout_seconds=timeout_seconds or TIMEOUT_SECONDS,
            )
        except WorkerUnavailableError as error:
            if self._address == COORDINATOR:
                raise CoordinatorUnavailableError(error.message) from error
            raise

    def close(self) -> None:
        """Do nothing: nothing is kept open."""


class SimMetadata:
    """Implements :class:`cachefs.ports.WorkerMetadata`: by default the coordinator, else workers."""

    def __init__(
        self,
        process: SimRuntime,
        network: SimNetwork,
        directory: Directory,
        *,
        asks_coordinator: bool = True,
        workers: Callable[[], View] | None = None,
    ) -> None:
        """Ask nobody yet.

        Args:
            process: Who asks.
            network: Between it and the others.
            directory: Who answers where.
            asks_coordinator: Whether the coordinator is asked, and first.
            workers: Says which workers are asked; by default those of the last view.
        """
        self._process = process
        self._network = network
        self._directory = directory
        self._asks_coordinator = asks_coordinator
        self._view = EMPTY_VIEW
        self._workers = workers if workers is not None else lambda: self._view
        self._resolved: dict[str | None, ResolvedVersion] = {}

    def view(self, *, deadline: float) -> View:
        """Return the newest view that can be had."""
        for address, view in self._answers(lambda one: one.known_view(), deadline):
            if address == COORDINATOR or view.epoch >= self._view.epoch:
                self._view = view
            return self._view
        raise CoordinatorUnavailableError("nobody answered with a view")

    def resolve(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return a version; the last known answer when nobody answers."""
        if name != DATASET:
            raise NotKnownError("no such dataset", subject=str(name))
        for _, resolved in self._answers(lambda one: one.known_version(version), deadline):
            self._resolved[version] = self._resolved[resolved.manifest.id] = resolved
            return resolved
        if version in self._resolved:
            return self._resolved[version]
        raise CoordinatorUnavailableError("nobody answered with the version")

    def digests(self, file: FileRef, *, deadline: float) -> Sequence[bytes | None]:
        """Return the known digest of each block."""
        for _, known in self._answers(lambda one: one.known_digests(file), deadline):
            return known
        raise CoordinatorUnavailableError("nobody answered with digests")

    def holders(self, file: FileRef, *, deadline: float) -> Mapping[WorkerId, int]:
        """Return who holds which blocks, as the coordinator has heard."""
        for address, held in self._answers(lambda one: one.known_holders(file), deadline):
            if address == COORDINATOR:
                return held
        raise CoordinatorUnavailableError("the coordinator did not say who holds the file")

    def _answers(
        self, question: Callable[[Answering], Answer], deadline: float
    ) -> Iterator[tuple[str, Answer]]:
        workers = [member.data_address for member in self._workers().members]
        self._process.random.shuffle(workers)
        for address in (*((COORDINATOR,) if self._asks_coordinator else ()), *workers):
            left = deadline - self._process.monotonic()
            if left <= 0:
                return
            try:
                answer = ask(
                    self._process,
                    self._network,
                    self._directory,
                    address,
                    question,
                    timeout_seconds=min(left, TIMEOUT_SECONDS),
                )
            except NotKnownError:
                if address == COORDINATOR:
                    raise
            except CacheFSError:
                continue
            else:
                yield address, answer


def ask(
    process: SimRuntime,
    network: SimNetwork,
    directory: Directory,
    address: str,
    question: Callable[[Answering], Answer],
    *,
    timeout_seconds: float,
) -> Answer:
    """Put a question to whoever listens at an address."""

    def answer() -> Answer:
        answering = directory.get(address)
        if answering is None:
            raise WorkerUnavailableError("nobody there", subject=address)
        return question(answering)

    return network.call(process, address, answer, timeout_seconds=timeout_seconds)
