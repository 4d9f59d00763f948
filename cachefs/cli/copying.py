"""Copies out of the cache: parallel, verified, and never half a file under its final name.

Each file is written to a hidden neighbour of its destination and renamed over it when it is whole,
has reached the disk, and has the digest that the origin gave, if it gave one that we can compute.
Block digests were checked by the reader before that.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

from cachefs.cli.session import no_such_file
from cachefs.core.manifest import FileEntry, Manifest
from cachefs.core.names import printable
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ConfigError,
    IntegrityError,
)

_STEP_BYTES = 32 * 1024 * 1024
"""Read at once: several blocks, so that the reader has something to do in parallel."""
_DIGESTS = {"md5", "sha1", "sha256", "sha512"}


@dataclass(frozen=True, slots=True)
class Copy:
    """One file to copy, and where to."""

    entry: FileEntry
    target: Path


class OpenFile(AbstractContextManager["OpenFile"], Protocol):
    """A file of a dataset that is open for reading."""

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill ``into`` from ``offset``; return how many bytes there were."""
        ...


class OpenDataset(Protocol):
    """A dataset that is open for reading, at one version."""

    def file(self, path: str) -> OpenFile:
        """Open a file."""
        ...


class _StoppedError(Exception):
    """Another copy has failed, and this one ends too."""


def plan_copies(manifest: Manifest, path: str, destination: Path, name: str) -> list[Copy]:
    """Return what to copy where.

    A single file goes to ``destination``, or into it if it is a folder. A folder's or a dataset's
    files go below ``destination``, with their paths relative to what was named.

    Raises:
        NotKnownError: There is no such file or folder.
        ConfigError: The destination cannot take it.
    """
    entries = list(manifest.below(path))
    if path and not entries:
        raise no_such_file(manifest, name, path)
    if len(entries) == 1 and entries[0].path == path:
        file_name = path.rpartition("/")[2]
        target = destination / file_name if destination.is_dir() else destination
        return [Copy(entries[0], target)]
    if destination.exists() and not destination.is_dir():
        raise ConfigError("is not a folder", subject=printable(str(destination)))
    prefix = f"{path}/" if path else ""
    return [Copy(entry, destination / entry.path.removeprefix(prefix)) for entry in entries]


def copy_files(
    dataset: OpenDataset, copies: Sequence[Copy], *, jobs: int, advance: Callable[[int], None]
) -> int:
    """Copy files; the first failure ends all of them.

    Args:
        dataset: What to read from.
        copies: What to copy where.
        jobs: How many at once.
        advance: Called with the bytes that were copied since its last call.

    Returns:
        How many were compared with a digest of the origin.
    """
    stopped = Event()
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="copy") as pool:
        futures = [pool.submit(_copy, dataset, copy, stopped, advance) for copy in copies]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # Also on Ctrl-C: the copies in flight end at their next step and clean up.
            stopped.set()
            pool.shutdown(cancel_futures=True)
        failures = [failure for future in done if (failure := future.exception()) is not None]
        for failure in sorted(failures, key=lambda failure: isinstance(failure, _StoppedError)):
            raise failure
    return sum(future.result() for future in futures)


def _copy(dataset: OpenDataset, copy: Copy, stopped: Event, advance: Callable[[int], None]) -> bool:
    """Copy one file; return whether its digest was checked."""
    algorithm, _, expected = copy.entry.digest.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm in _DIGESTS else None
    partial = copy.target.parent / f".cachefs-{secrets.token_hex(8)}.partial"
    try:
        copy.target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb", buffering=0) as file, dataset.file(copy.entry.path) as source:
            if copy.entry.size:  # so that a full disk is an error now and not at the end
                os.posix_fallocate(file.fileno(), 0, copy.entry.size)
            for part in _parts(source, copy.entry.size, advance):
                if stopped.is_set():
                    raise _StoppedError
                write_all(file.fileno(), part)
                if digest is not None:
                    digest.update(part)
            os.fsync(file.fileno())
        if digest is not None and digest.hexdigest() != expected:
            raise IntegrityError(
                f"has the {algorithm} {digest.hexdigest()}, not {expected}",
                subject=printable(copy.entry.path),
                hint="the origin's content is not what its listing or your checksums say",
            )
        partial.replace(copy.target)
    except OSError as error:
        if isinstance(error, CacheFSError):
            raise  # some errors of ours are also an OSError
        raise _write_failure(error, copy.target) from error
    finally:
        with suppress(OSError):  # its folder could not be made, or the disk has gone
            partial.unlink()
    return digest is not None


def _write_failure(error: OSError, target: Path) -> CacheFSError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cls = CapacityError if full else ConfigError
    return cls(f"cannot write: {error.strerror}", subject=printable(str(target)))


def _parts(source: OpenFile, size: int, advance: Callable[[int], None]) -> Iterator[memoryview]:
    """Yield a file's bytes; each part is only good until the next."""
    buffer = memoryview(bytearray(min(size, _STEP_BYTES)))
    offset = 0
    while offset < size:
        count = source.read_into(offset, buffer[: min(len(buffer), size - offset)])
        yield buffer[:count]
        offset += count
        advance(count)


def write_all(descriptor: int, part: memoryview) -> None:
    """Write a buffer whole: a write to a pipe or an unbuffered file may take only a part of it."""
    while part:
        part = part[os.write(descriptor, part) :]
