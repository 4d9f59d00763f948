"""What a simulated worker answers the others: fetches, small questions, and calls of the control plane.

What is simulated is the wire; behind it are the real filler, prover, knowledge and control.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cachefs.config.schema import ClusterConfig
from cachefs.core.membership import View
from cachefs.core.names import WorkerId
from cachefs.errors import NotKnownError, WorkerUnavailableError
from cachefs.ports import BlockRequest, DiskFile, FileRef, Referral, ResolvedVersion
from cachefs.testing.simulation.world.control import DATASET, TIMEOUT_SECONDS
from cachefs.testing.simulation.world.network import ServedBlock
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.workers.control import WorkerControl
from cachefs.workers.filling.filler import Filler
from cachefs.workers.filling.fills import ObtainedBlock
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.proving.prover import Prover
from cachefs.workers.serving.spreading import Spreading


class SimServing:
    """Answers for one process of a worker."""

    def __init__(
        self,
        process: SimRuntime,
        cluster: ClusterConfig,
        *,
        filler: Filler,
        prover: Prover,
        knowledge: Knowledge,
        control: WorkerControl,
        spreading: Spreading,
    ) -> None:
        """Answer from the parts of a worker."""
        self._process = process
        self._cluster = cluster
        self._filler = filler
        self._prover = prover
        self._knowledge = knowledge
        self._control = control
        self._spreading = spreading

    @contextmanager
    def serve(
        self, request: BlockRequest, *, unproven: bool
    ) -> Iterator[ServedBlock | Referral | None]:
        """Answer a fetch, as the data plane does."""
        file, index = request.file, request.index
        if request.zone is not None:
            replica = self._spreading.refer(file, index, request.zone)
            if replica is not None:
                yield Referral(replica.worker)
                return
        welcome = not request.from_peers or self._spreading.welcomes(file, index)
        with self._spreading.sending(file, index):
            obtained = (self._filler if unproven else self._prover).obtain(
                file,
                index,
                only_cached=request.only_cached or not welcome,
                from_peers=request.from_peers,
                verify=request.verify,
                deadline=request.deadline,
            )
            if obtained is None:
                yield None
                return
            with obtained:
                yield _Served(obtained, index * self._cluster.block_size)

    def prove(self, file: FileRef, *, only_cached: bool, deadline: float) -> bytes | None:
        """Answer another worker that wants a proof, as the data plane does."""
        if only_cached:
            proof = self._prover.known(file)
        else:
            proof = self._prover.prove(file, deadline=deadline)
        return b"".join(proof) if proof is not None else None

    def warm(self, job: str, wanted: Mapping[FileRef, list[int]]) -> None:
        """Begin a warm-up, as the control server does."""
        self._filler.warm(job, wanted)
        self._prover.begin(file for file, blocks in wanted.items() if 0 in blocks)

    def answer(self, method: str, request: Any) -> Any:  # Any: each method has a class of its own
        """Answer a call of the control plane, by the real servicer."""
        return getattr(self._control, method)(request, None)

    def known_view(self) -> View:
        """Return the view as of the last renewal."""
        return self._knowledge.view(deadline=0.0)

    def known_version(self, version: str | None) -> ResolvedVersion:
        """Return a version from what is known here."""
        return self._knowledge.resolve_here(
            DATASET, version, deadline=self._process.monotonic() + TIMEOUT_SECONDS
        )

    def known_digests(self, file: FileRef) -> Sequence[bytes | None]:
        """Return digests from what is known here."""
        deadline = self._process.monotonic() + TIMEOUT_SECONDS
        return self._knowledge.digests(file, deadline=deadline)

    def known_holders(self, file: FileRef) -> Mapping[WorkerId, int]:
        """Refuse: a worker knows of itself only."""
        raise NotKnownError("a worker knows of itself only", subject=file.entry.path)


class _Served:
    """A block that the filler has obtained, as the data plane sends it."""

    def __init__(self, obtained: ObtainedBlock, start: int) -> None:
        self.digest = obtained.digest
        self.source = obtained.source
        self._file: DiskFile | None = obtained.held.file if obtained.held is not None else None
        self._data = obtained.view() if self._file is None else None
        self._start = start

    def read_into(self, into: memoryview, offset: int) -> None:
        """Copy bytes out of the tier's file, or out of memory."""
        if self._data is not None:
            into[:] = self._data[offset : offset + len(into)]
            return
        assert self._file is not None
        try:
            count = self._file.pread_into(into, self._start + offset)
        except OSError as error:
            raise WorkerUnavailableError("connection reset: its disk failed") from error
        if count < len(into):
            raise WorkerUnavailableError("connection reset: its file is short")
