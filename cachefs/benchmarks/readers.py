"""Readers under test: the reader library, in this process and in others.

As a program (``python -m cachefs.benchmarks.readers STATE DATASET …``) it is one reader process that
reads a whole dataset once, through a small buffer that it uses again and again, and says in JSON
what it read, from where, and the digest of each file.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import xxhash

from cachefs.benchmarks.floors import in_threads, prepared, split
from cachefs.client.connecting import connect
from cachefs.client.reader import OpenDataset, Reader
from cachefs.config.discovery import discover
from cachefs.config.schema import MIB, ReaderConfig
from cachefs.config.secrets import Secret
from cachefs.errors import CacheFSError
from cachefs.ports import Metadata
from cachefs.transport.blocks import HttpBlockSource

_PIECE_BYTES = 64 * MIB
_READ_SECONDS = 600.0


@contextmanager
def open_reader(state: Path, config: ReaderConfig) -> Iterator[Reader]:
    """Open the reader library on the cluster of a state folder."""
    with connect(discover({}, state=state), config) as reader:
        yield reader


@contextmanager
def open_reader_of(like: Reader, metadata: Metadata) -> Iterator[Reader]:
    """Open a second reader, like another one, that believes other metadata; nothing is local."""
    token = Secret("unused: the yardstick lets everybody read")
    blocks = HttpBlockSource(like.runtime, token, block_size=like.cluster.block_size)
    with (
        closing(blocks),
        Reader(like.runtime, like.config, like.cluster, metadata=metadata, blocks=blocks) as reader,
    ):
        yield reader


def read_whole(dataset: OpenDataset, into: memoryview) -> int:
    """Read all files, end to end, into one buffer; the library's own threads do the work."""
    at = 0
    for entry in dataset.files:
        with dataset.file(entry.path) as file:
            read = file.read_into(0, into[at : at + entry.size])
        if read != entry.size:
            raise CacheFSError(f"read {read} of {entry.size} bytes", subject=entry.path)
        at += read
    return at


def read_file_in_threads(dataset: OpenDataset, path: str, into: memoryview, threads: int) -> int:
    """Read one file with threads of the caller's, each its own part."""
    with dataset.file(path) as file:
        parts = split([file.size], threads)

        def read(part: int) -> None:
            for _, offset, length, _ in parts[part]:
                file.read_into(offset, into[offset : offset + length])

        in_threads(threads, read)
        return file.size


def start_reader(
    state: Path, dataset: str, *, local: bool, rounds: int = 1
) -> subprocess.Popen[str]:
    """Start a reader process; it writes its report when it ends."""
    command = [sys.executable, "-m", "cachefs.benchmarks.readers", str(state), dataset]
    return subprocess.Popen(
        [*command, "local" if local else "remote", str(rounds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def finish_reader(reader: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for a reader process and return its report.

    Raises:
        CacheFSError: It failed; its traceback is on the standard error.
    """
    output, _ = reader.communicate(timeout=_READ_SECONDS)
    if reader.returncode:
        raise CacheFSError(f"a reader process ended with status {reader.returncode}")
    report: dict[str, Any] = json.loads(output)
    return report


def digests_of(paths: Sequence[Path]) -> dict[str, str]:
    """Return the digest of each file, by name."""
    found = {}
    for path in paths:
        digest = xxhash.xxh3_128()
        with path.open("rb") as file:
            while piece := file.read(4 * MIB):
                digest.update(piece)
        found[path.name] = digest.hexdigest()
    return found


def _read_and_report(state: str, name: str, how: str, rounds: str) -> dict[str, Any]:
    buffer = prepared(_PIECE_BYTES)
    digests, size = {}, 0
    started = time.perf_counter()
    with open_reader(Path(state), ReaderConfig(local=how == "local")) as reader:
        dataset = reader.open(name)
        for _ in range(int(rounds)):
            for entry in dataset.files:
                digest = xxhash.xxh3_128()
                with dataset.file(entry.path) as file:
                    for offset in range(0, entry.size, _PIECE_BYTES):
                        count = file.read_into(offset, buffer)
                        digest.update(buffer[:count])
                        size += count
                digests[entry.path] = digest.hexdigest()
    return {"size": size, "seconds": time.perf_counter() - started, "digests": digests}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_read_and_report(*sys.argv[1:])) + "\n")
