"""Proofs: the digests of the blocks of files that were proven, kept over restarts.

One small file per file version in the worker's state folder, replaced atomically, with a digest of its
own before its content; whatever does not verify is deleted, and the file proven again. It names the
block size and the algorithms it was made with, so that a cluster that is set up anew finds nothing
in it.
"""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cachefs.config.schema import ClusterConfig
from cachefs.core.blocks import FileVersionId, block_count
from cachefs.ports import FileRef
from cachefs.wire import digests

PROOFS_IN_MEMORY = 1024
"""A terabyte's takes 7 MB, five gigabytes' 40 KB."""
PROOFS_ON_DISK = 10_000
"""The oldest give way; they cost a reading of the file to make again."""
_SEAL_BYTES = 32

_log = logging.getLogger("cachefs.worker")

Proof = tuple[bytes, ...]
"""The digest of each block of a file whose whole content matched its known digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofStatistics:
    """What a prover has done, and what it is doing."""

    proven_files: int
    refuted_files: int
    """Times that a file was not what its known digest says."""
    proving_files: int
    """Under way or queued."""


class Reportable(NamedTuple):
    """What the coordinator may hear of a file version in a tier."""

    resident: int
    """A mask."""
    digests: tuple[bytes, ...]
    """Of the blocks in it, or none at all."""


class Proofs:
    """All proofs that a worker has. Safe from any thread."""

    def __init__(self, cluster: ClusterConfig, folder: Path | None = None) -> None:
        """Use a folder, or memory only."""
        self._digest = cluster.digest
        self._digest_size = digests.digest_size(cluster.digest)
        self._block_size = cluster.block_size
        self._folder = folder
        self._lock = threading.Lock()
        self._proofs: OrderedDict[FileVersionId, Proof] = OrderedDict()
        self._written = 0
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._trim(folder)

    def find(self, file: FileRef) -> Proof | None:
        """Return a file's proof if it was made before."""
        name = file.entry.file_version
        with self._lock:
            proof = self._proofs.get(name)
            if proof is not None:
                self._proofs.move_to_end(name)
                return proof
        proof = self._read(self._folder / name, file) if self._folder is not None else None
        if proof is not None:
            self._remember(name, proof)
        return proof

    def keep(self, file: FileRef, proof: Proof) -> None:
        """Remember a proof."""
        name = file.entry.file_version
        self._remember(name, proof)
        if self._folder is None:
            return
        path = self._folder / name
        content = self._heading(file) + b"".join(proof)
        try:
            partial = path.with_suffix(".partial")
            partial.write_bytes(_seal(content) + content)
            partial.replace(path)
        except OSError as error:
            # Only the next process would miss it.
            _log.warning("cannot keep a proof", extra={"failure": str(error)})
        self._written += 1
        if self._written % (PROOFS_ON_DISK // 10) == 0:
            self._trim(self._folder)

    def drop(self, file_versions: Iterable[FileVersionId]) -> None:
        """Forget proofs."""
        for name in file_versions:
            with self._lock:
                self._proofs.pop(name, None)
            if self._folder is not None:
                (self._folder / name).unlink(missing_ok=True)

    def _remember(self, name: FileVersionId, proof: Proof) -> None:
        with self._lock:
            self._proofs[name] = proof
            self._proofs.move_to_end(name)
            if len(self._proofs) > PROOFS_IN_MEMORY:
                self._proofs.popitem(last=False)

    def _heading(self, file: FileRef) -> bytes:
        return f"{self._digest} {self._block_size} {file.entry.digest}\n".encode()

    def _read(self, path: Path, file: FileRef) -> Proof | None:
        try:
            sealed = path.read_bytes()
        except OSError:
            return None
        content, heading = sealed[_SEAL_BYTES:], self._heading(file)
        size = self._digest_size
        length = len(heading) + size * block_count(file.entry.size, self._block_size)
        if (
            sealed[:_SEAL_BYTES] != _seal(content)
            or not content.startswith(heading)
            or len(content) != length
        ):
            path.unlink(missing_ok=True)
            return None
        return tuple(content[at : at + size] for at in range(len(heading), length, size))

    def _trim(self, folder: Path) -> None:
        paths = [path for path in folder.iterdir() if not path.suffix]
        if len(paths) > PROOFS_ON_DISK:
            ages = sorted((path.stat().st_mtime_ns, path) for path in paths)
            for _, path in ages[: len(paths) - PROOFS_ON_DISK]:
                path.unlink(missing_ok=True)


def _seal(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_SEAL_BYTES).digest()
