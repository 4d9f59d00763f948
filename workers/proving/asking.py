"""Asking other workers for a proof: who should have it, and who may have it already."""

import logging
from collections.abc import Callable

from cachefs.config.schema import ClusterConfig, FillConfig
from cachefs.core.blocks import block_count
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError, CapacityError, OriginError
from cachefs.ports import FileRef, ProofSource, Runtime
from cachefs.wire import digests
from cachefs.workers.filling.peers import Peers
from cachefs.workers.proving.gathering import Gatherer
from cachefs.workers.proving.proofs import Proof

PROOF_SECONDS = 3600.0
"""Nobody waits longer for a proof: it is a terabyte at 300 MB/s."""

PROOF_ASKED_LIMIT = 16
"""Members asked for a proof that may exist: a question is small, and a whole file is read without an answer.
When many workers have joined at once, whoever proved the file comes late in the new order."""

_log = logging.getLogger("cachefs.worker")


class Asker:
    """Asks for proofs on behalf of one worker. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        source: ProofSource,
        gatherer: Gatherer,
        peers: Peers,
        *,
        config: FillConfig,
        cluster: ClusterConfig,
        own: WorkerId,
    ) -> None:
        """Ask through ``source``, in the order that the gatherer reads a file's first block in."""
        self._runtime = runtime
        self._source = source
        self._gatherer = gatherer
        self._peers = peers
        self._config = config
        self._block_size = cluster.block_size
        self._digest_size = digests.digest_size(cluster.digest)
        self._own = own

    def ask_prover(self, file: FileRef, *, on_wait: Callable[[str], None]) -> Proof | None:
        """Return the proof from its prover, or from the next who lives; ``None`` if that is us.

        Raises:
            OriginError: The file cannot be proven.
        """
        deadline = self._runtime.monotonic() + PROOF_SECONDS
        for member in self._gatherer.order(file, 0):
            if member.worker == self._own:
                break
            proof = self._ask(file, member, only_cached=False, deadline=deadline, on_wait=on_wait)
            if proof is not None:
                return proof
        return None

    def ask_around(self, file: FileRef) -> Proof | None:
        """Return a proof that somebody has made already.

        Raises:
            OriginError: The file cannot be proven.
        """
        others = [member for member in self._gatherer.order(file, 0) if member.worker != self._own]
        for member in others[:PROOF_ASKED_LIMIT]:
            deadline = self._runtime.monotonic() + self._config.peer_timeout_seconds
            proof = self._ask(
                file, member, only_cached=True, deadline=deadline, on_wait=lambda _: None
            )
            if proof is not None:
                return proof
        return None

    def _ask(
        self,
        file: FileRef,
        member: Member,
        *,
        only_cached: bool,
        deadline: float,
        on_wait: Callable[[str], None],
    ) -> Proof | None:
        if self._peers.avoids(member.worker):
            return None
        try:
            packed = self._source.proof(
                member, file, only_cached=only_cached, deadline=deadline, on_wait=on_wait
            )
            if packed is None:
                return None
            proof = [each for each in digests.unpack(packed, self._digest_size) if each]
        except OriginError:
            raise  # the prover has read the whole file
        except CacheFSError as error:
            if not isinstance(error, CapacityError):
                self._peers.avoid_silent(member.worker)
            _log.info("no proof", extra={"peer": member.worker, "failure": str(error)})
            return None
        is_whole = len(proof) == block_count(file.entry.size, self._block_size)
        return tuple(proof) if is_whole else None
