"""Proving: a file whose digest is known beforehand is compared with it before a byte is delivered.

Theory of operation. A block's digest says that its bytes are those that were filled; it cannot say
that they were right to begin with. The digest of the *whole* file can, where it is known, but a
reader of one block cannot wait until it has read all others. So one worker of the cluster reads the
whole file once, in order: its own blocks from its tiers, the others from their owners, which fill
what nobody has yet. It hashes what it reads twice, for the file and block by block. If the file's
digest is the known one, then the list of the blocks' digests is the *proof*: whoever has it can hold
any single block to it. Proofs are small, never change, and are kept over restarts.

Who proves is the first owner of block 0, the file's *prover*. A worker that is asked for a block of
such a file asks the prover for the proof first (the next worker in placement, if that one is dead),
and then delivers only what matches. It never passes such a question on: two workers that see different
members could wait for each other. The bytes that a proof is made from travel among workers unproven,
and wait for no proof. So the waiting ends: a block waits for a proof, a proof for unproven blocks,
and these for peers and the origin.

When the file does not match, nobody can tell which block is wrong, and who else holds it. So it is
read once more, from the origin alone. If that matches, every worker drops what does not match the
proof as soon as it meets it, and fills it again. If it does not, the file is *refuted*: its blocks here
are dropped, the coordinator is told why, and for a while, which doubles each time, the answer comes
from memory.

What is not proven is not spoken of. The coordinator, for which the first digest of a block stands,
hears of no digest; and of block 0 of the prover only once there is a proof, so that a warm-up that is
done has left proven files behind.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from cachefs.config.schema import ClusterConfig, FillConfig
from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId, block_count
from cachefs.core.names import WorkerId, printable
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ClusterError,
    OriginContentError,
)
from cachefs.ports import FileRef, ProofSource, Runtime
from cachefs.wire import digests
from cachefs.workers.filling.filler import Filler
from cachefs.workers.filling.fills import FillFailure, ObtainedBlock
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.proving.asking import PROOF_SECONDS, Asker
from cachefs.workers.proving.attempts import Attempt, name_of
from cachefs.workers.proving.gathering import Gatherer
from cachefs.workers.proving.proofs import Proof, Proofs, ProofStatistics, Reportable
from cachefs.workers.proving.verdicts import Verdicts
from cachefs.workers.storage.inventory import FileResidency
from cachefs.workers.storage.store import TieredStore

PROOFS_LIMIT = 2
"""Files proven at once: each takes a core and ``inflight_fills_limit`` blocks of memory."""
ASKING_LIMIT = 64
"""Files whose proof is asked of other workers at once."""
ROUNDS_LIMIT = 3
"""How often a block that does not match is filled again within one call."""
CLOSE_SECONDS = 2.0

_log = logging.getLogger("cachefs.worker")


_Attempts = dict[FileVersionId, Attempt]


class Prover:
    """Stands between a worker's blocks and whoever wants to read them. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        store: TieredStore,
        filler: Filler,
        source: ProofSource,
        knowledge: Knowledge,
        *,
        config: FillConfig,
        cluster: ClusterConfig,
        own: WorkerId,
        proofs: Proofs,
    ) -> None:
        """Prove with the blocks that the filler has, and those that ``source`` brings."""
        self._runtime = runtime
        self._store = store
        self._filler = filler
        self._source = source
        self._knowledge = knowledge
        self._config = config
        self._own = own
        self._block_size = cluster.block_size
        self._gatherer = Gatherer(
            runtime, store, filler, source, knowledge, config=config, cluster=cluster, own=own
        )
        self._asker = Asker(
            runtime, source, self._gatherer, filler.peers, config=config, cluster=cluster, own=own
        )
        self._proofs = proofs
        # Straight-line code only under this lock.
        self._lock = threading.Lock()
        self._proving: _Attempts = {}
        self._asking: _Attempts = {}
        self._queue: deque[Attempt] = deque()
        self._running = 0
        self._proven_count = self._refuted_count = 0
        self._verdicts = Verdicts(memory_seconds=config.failure_memory_seconds)
        self._fresh: dict[FileVersionId, None] = {}
        """Proofs that nobody has taken note of yet."""
        self._idle = runtime.condition()
        self._closed = False

    # ---- for those who deliver --------------------------------------------------------------

    def obtain(
        self,
        file: FileRef,
        index: int,
        *,
        only_cached: bool,
        deadline: float,
        from_peers: bool = False,
        verify: bool = False,
        on_wait: Callable[[], None] | None = None,
    ) -> ObtainedBlock | None:
        """Return a block as :meth:`Filler.obtain` does, but never an unproven one.

        Raises:
            OriginContentError: The origin's bytes are not those of the known digest.
            CacheFSError: What proving or filling raises.
        """
        proof: Proof | None = None
        if self.is_needed(file):
            proof = self.known(file)
            if proof is None:
                if only_cached:
                    return None
                proof = self.proof(file, deadline=deadline, on_wait=on_wait)
        for _ in range(ROUNDS_LIMIT):
            block = self._filler.obtain(
                file,
                index,
                only_cached=only_cached,
                deadline=deadline,
                from_peers=from_peers,
                verify=verify,
                on_wait=on_wait,
            )
            if block is None or proof is None or block.digest == proof[index]:
                return block
            # It came here before the proof did. The fill that follows knows the right digest.
            block.close()
            self._store.discard(file.entry.file_version, index, block.digest)
        raise CapacityError(
            "a block was filled with wrong bytes again and again", subject=name_of(file)
        )

    def proof(
        self, file: FileRef, *, deadline: float, on_wait: Callable[[], None] | None = None
    ) -> Proof:
        """Return a file's proof, from here, from its prover, or made here if need be.

        Raises:
            OriginContentError: The file is not what its digest says.
            OriginError: A block cannot be filled, and so nothing can be proven.
            DeadlineError: It takes longer; the work goes on.
        """
        attempts = self._proving if self._is_prover(file) else self._asking
        return self._get(attempts, file, deadline, on_wait)

    def prove(
        self, file: FileRef, *, deadline: float, on_wait: Callable[[], None] | None = None
    ) -> Proof:
        """Return a file's proof, from here or made here; raises as :meth:`proof`."""
        return self._get(self._proving, file, deadline, on_wait)

    def begin(self, files: Iterable[FileRef]) -> None:
        """Prove those of which this worker is the prover, ahead of use; returns at once."""
        for file in files:
            if self.is_needed(file) and self._is_prover(file) and self.known(file) is None:
                try:
                    self._join(self._proving, file)
                except CacheFSError as error:
                    _log.info("a proof cannot begin", extra={"failure": str(error)})

    def is_needed(self, file: FileRef) -> bool:
        """Say whether a file must be proven. One of a single block is held to its digest when filled."""
        return file.entry.size > self._block_size and digests.is_provable(file.entry.digest)

    def known(self, file: FileRef) -> Proof | None:
        """Return a file's proof if it is here."""
        return self._proofs.find(file)

    def progress(self, file: FileRef) -> str:
        """Return what is being done for a file's proof; empty if nothing is."""
        name = file.entry.file_version
        with self._lock:
            attempt = self._proving.get(name) or self._asking.get(name)
        return attempt.progress if attempt is not None else ""

    def vouched(self, file: FileRef, resident: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """Return the digests of those resident blocks that may be delivered, ``None`` for others."""
        if not self.is_needed(file):
            return resident
        proof = self.known(file)
        if proof is None:
            return [None] * len(resident)
        return [
            digest if digest == right else None
            for digest, right in zip(resident, proof, strict=False)
        ]

    # ---- for those who report ---------------------------------------------------------------

    def reportable(self, resident: FileResidency) -> Reportable:
        """Return which blocks the coordinator may hear of, with their digests if they are proven."""
        file = self._knowledge.known_file(resident.file_version)
        if file is None:
            # Nobody can say whether it must be proven; what is known of it, is known already.
            return Reportable(resident.resident, ())
        if not self.is_needed(file):
            return Reportable(resident.resident, resident.digests)
        proof = self.known(file)
        if proof is None:
            return Reportable(resident.resident & ~self._is_prover(file), ())
        right = [digest for index, digest in enumerate(proof) if resident.resident >> index & 1]
        is_right = tuple(right) == resident.digests
        return Reportable(resident.resident, resident.digests if is_right else ())

    def take_proven(self) -> list[FileVersionId]:
        """Return the file versions of which more is reportable since the last call."""
        with self._lock:
            taken = list(self._fresh)
            self._fresh.clear()
        return taken

    def statistics(self) -> ProofStatistics:
        """Return what was done so far."""
        with self._lock:
            return ProofStatistics(
                proven_files=self._proven_count,
                refuted_files=self._refuted_count,
                proving_files=len(self._proving),
            )

    def drop(self, file_versions: Iterable[FileVersionId]) -> None:
        """Forget the proofs of file versions that nobody wants any more."""
        self._proofs.drop(file_versions)

    def close(self) -> None:
        """Fail what is queued, and give what runs a moment to end."""
        with self._lock:
            self._closed = True
            abandoned = list(self._queue)
            self._queue.clear()
        for attempt in abandoned:
            self._end(self._proving, attempt, None, ClusterError("the worker is shutting down"))
        deadline = self._runtime.monotonic() + CLOSE_SECONDS
        with self._idle:
            while self._running and (left := deadline - self._runtime.monotonic()) > 0:
                self._idle.wait(left)

    # ---- attempts ---------------------------------------------------------------------------

    def _get(
        self,
        attempts: _Attempts,
        file: FileRef,
        deadline: float,
        on_wait: Callable[[], None] | None,
    ) -> Proof:
        known = self.known(file)
        return known or self._join(attempts, file).wait(self._runtime, deadline, on_wait)

    def _join(self, attempts: _Attempts, file: FileRef) -> Attempt:
        """Return the attempt that is under way, or begin one."""
        name = file.entry.file_version
        changed = self._runtime.condition()
        now = self._runtime.monotonic()
        with self._lock:
            if self._closed:
                raise ClusterError("the worker is shutting down")
            attempt = attempts.get(name)
            if attempt is not None:
                return attempt
            self._verdicts.check(name, now)
            proves = attempts is self._proving
            limit = self._config.queued_fills_limit if proves else ASKING_LIMIT
            if len(attempts) >= limit:
                raise CapacityError("too many files are being verified")
            attempt = attempts[name] = Attempt(file, changed)
            if proves:
                self._queue.append(attempt)
            starts = not proves or self._running < PROOFS_LIMIT
            self._running += proves and starts
        if starts and proves:
            self._start(attempts, attempt, self._prove_queued)
        elif starts:
            self._start(attempts, attempt, lambda: self._attempt(attempts, attempt, self._ask))
        return attempt

    def _start(self, attempts: _Attempts, attempt: Attempt, body: Callable[[], None]) -> None:
        try:
            self._runtime.start("prove", body)
        except RuntimeError as error:
            with self._lock:
                waits = attempt in self._queue
                if waits:
                    self._queue.remove(attempt)
                proves = attempts is self._proving
                self._running -= proves
            if waits or not proves:  # else another thread has taken it
                failure = ClusterError(f"cannot start a thread: {error}")
                self._end(attempts, attempt, None, failure)

    def _prove_queued(self) -> None:
        while True:
            with self._lock:
                attempt = self._queue.popleft() if self._queue else None
                if attempt is None:
                    self._running -= 1
                    break
            self._attempt(self._proving, attempt, self._prove)
        with self._idle:
            self._idle.notify_all()

    def _attempt(
        self, attempts: _Attempts, attempt: Attempt, body: Callable[[Attempt], Proof]
    ) -> None:
        # What escapes here is the end of the process; those who wait must not hang.
        error: CacheFSError | None = ClusterError("the proof was abandoned")
        proof: Proof | None = None
        try:
            proof = self.known(attempt.file)
            if proof is None:
                proof = body(attempt)
                self._proofs.keep(attempt.file, proof)
            error = None
        except CacheFSError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - the boundary of a proof, as of a fill
            _log.exception("a proof failed in an unexpected way")
            error = ClusterError(f"the proof failed: {type(failure).__name__}: {failure}")
        finally:
            self._end(attempts, attempt, proof, error)

    def _end(
        self,
        attempts: _Attempts,
        attempt: Attempt,
        proof: Proof | None,
        error: CacheFSError | None,
    ) -> None:
        name = attempt.file.entry.file_version
        now = self._runtime.monotonic()
        with self._lock:
            attempts.pop(name, None)
            if error is None:
                self._proven_count += attempts is self._proving
                self._fresh[name] = None
                self._verdicts.forgive(name)
            elif not isinstance(error, CapacityError):
                self._verdicts.note(name, error, now)
        attempt.end(proof, error)
        # A proof, or a refutation, is worth telling the coordinator at once.
        self._filler.on_fill(True)

    # ---- proving ----------------------------------------------------------------------------

    def _ask(self, attempt: Attempt) -> Proof:
        """Get the proof from whoever should have it, or make it here if nobody else can."""
        file = attempt.file

        def show(progress: str) -> None:
            attempt.progress = progress or attempt.progress

        proof = self._asker.ask_prover(file, on_wait=show)
        if proof is not None:
            return proof
        deadline = self._runtime.monotonic() + PROOF_SECONDS
        return self.prove(file, deadline=deadline, on_wait=lambda: show(self.progress(file)))

    def _prove(self, attempt: Attempt) -> Proof:
        """Read the whole file and compare it with its digest."""
        file = attempt.file
        proof = self._asker.ask_around(file)
        if proof is not None:
            return proof
        is_refuted = self._verdicts.is_refuted(file.entry.file_version)
        whole, found = self._read_whole(attempt, anew=is_refuted)
        if not whole.matches:
            whole, found = self._read_whole(attempt, anew=True)
        if not whole.matches:
            self._refute(file, whole.found)
        return found

    def _read_whole(self, attempt: Attempt, *, anew: bool) -> tuple[digests.WholeFile, Proof]:
        file, count = attempt.file, self._count(attempt.file)
        whole = digests.WholeFile(file.entry.digest)
        found: list[bytes] = []
        for data, digest in self._gatherer.blocks(file, anew=anew):
            whole.update(data)
            found.append(digest)
            attempt.progress = (
                f"verifying the file against its known digest, {len(found)} of {count} blocks done; "
                f"to have that done ahead: cachefs warm {file.dataset} {printable(file.entry.path)}"
            )
            if self._closed:
                raise ClusterError("the worker is shutting down")
        return whole, tuple(found)

    def _refute(self, file: FileRef, found: str) -> None:
        name = file.entry.file_version
        with self._lock:
            self._refuted_count += 1
            self._verdicts.refute(name)
        self._store.drop([name])
        error = OriginContentError(
            "the file is not what its known digest says",
            subject=name_of(file),
            hint=f"expected {file.entry.digest}, found {found}; mend the origin or the checksum",
        )
        self._filler.note_failure(FillFailure(file, 0, error))
        _log.warning("a file was refuted", extra={"failure": str(error)})
        raise error

    def _is_prover(self, file: FileRef) -> bool:
        view = self._knowledge.view(deadline=0.0)
        block = BlockId(file.entry.file_version, 0)
        first = placement.owners(block, view.members, pool=file.pool, replicas=1)
        return any(member.worker == self._own for member in first)

    def _count(self, file: FileRef) -> int:
        return block_count(file.entry.size, self._block_size)
