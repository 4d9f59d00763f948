"""``python -m cachefs.k8s.webhook.copying NS/NAME[@VERSION][/PATH]=FOLDER …``: copies datasets, and ends.

It runs before a pod's own containers, and fails if a byte is missing, so these find whole folders only. Who
looks earlier sees nothing either: files are copied out of sight and moved to their names when all are there.
Each start begins anew, since what an earlier one left may be half of it, or of another version.

Blocks are checked as they are read, and a file has the size that the version says. It is not brought to the
disk for good: the volume ends with the pod.
"""

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from cachefs.client.connecting import connect
from cachefs.client.reader import OpenDataset, Reader
from cachefs.config.schema import ReaderConfig
from cachefs.core.backoff import Backoff
from cachefs.core.manifest import FileEntry
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError, CapacityError, ConfigError, NotKnownError
from cachefs.k8s.webhook.reading import endpoint_of, run
from cachefs.ports import Runtime
from cachefs.transport.runtime import ThreadRuntime

_UNSEEN = ".cachefs-copying"
"""The folder, in the volume, in which files are until all are there."""
_FILES_AT_ONCE = 4
_BLOCKS_AT_ONCE = 16
"""Of all files together."""
_STEP_BYTES = 32 * 1024 * 1024
"""Read at once: several blocks, so that the reader has something to do in parallel."""
_BACKOFF = Backoff(attempts_limit=12, first_seconds=1.0, wait_seconds_max=30.0)
"""Some minutes: a pod that may not be started again would fail for good with us."""

_log = logging.getLogger("cachefs.copying")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A dataset, or a folder of one, and where it shall be."""

    dataset: DatasetName
    version: str | None
    path: str
    folder: Path

    @classmethod
    def parse(cls, word: str) -> "Wanted":
        """Parse an argument.

        Raises:
            ConfigError: It is none.
        """
        reference, given, folder = word.rpartition("=")
        namespace, slash, rest = reference.partition("/")
        name, _, path = rest.partition("/")
        name, _, version = name.partition("@")
        if not (given and slash and Path(folder).is_absolute()):
            raise ConfigError(
                "not a dataset and a folder", subject=word, hint="write NS/NAME[@VERSION]=/FOLDER"
            )
        return cls(DatasetName.parse(f"{namespace}/{name}"), version or None, path, Path(folder))


def copy_all(reader: Reader, wanted: Sequence[Wanted]) -> int:
    """Copy datasets; return the bytes.

    Raises:
        NotKnownError: There is no such dataset, version or folder.
        CapacityError: A volume has no room.
        CacheFSError: Something could not be read.
    """
    for each in wanted:
        _clear(each.folder)
    opened: dict[tuple[DatasetName, str | None], OpenDataset] = {}
    total = 0
    for each in wanted:
        key = (each.dataset, each.version)
        # Two folders of one dataset are of one version.
        opened[key] = opened.get(key) or reader.open(each.dataset, each.version)
        total += _copy(opened[key], each)
    return total


def _copy(dataset: OpenDataset, wanted: Wanted) -> int:
    prefix = f"{wanted.path}/" if wanted.path else ""
    entries = [each for each in dataset.files if each.path.startswith(prefix)]
    if wanted.path and not entries:
        raise NotKnownError("no such folder in the dataset", subject=wanted.path)
    size = sum(each.size for each in entries)
    there = shutil.disk_usage(wanted.folder).free
    if size > there:
        raise CapacityError(
            f"the volume has room for {there:,} bytes of {size:,}", subject=str(dataset.name)
        )
    unseen = wanted.folder / _UNSEEN
    unseen.mkdir()
    stopped = Event()
    with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="copy") as pool:
        copies = [
            pool.submit(_copy_file, dataset, each, unseen / each.path.removeprefix(prefix), stopped)
            for each in entries
        ]
        try:
            for each in copies:
                each.result()
        finally:
            # The first failure ends the others at their next step.
            stopped.set()
            pool.shutdown(cancel_futures=True)
    for path in sorted(unseen.iterdir()):
        path.rename(wanted.folder / path.name)
    unseen.rmdir()
    _log.info(
        "copied",
        extra={"dataset": str(dataset.name), "version": dataset.version, "bytes": size},
    )
    return size


def _copy_file(dataset: OpenDataset, entry: FileEntry, target: Path, stopped: Event) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb", buffering=0) as file, dataset.file(entry.path) as source:
        if entry.size:  # a volume without room says so now and not at the end
            os.posix_fallocate(file.fileno(), 0, entry.size)
        buffer = memoryview(bytearray(min(entry.size, _STEP_BYTES)))
        offset = 0
        while offset < entry.size and not stopped.is_set():
            part = buffer[: min(len(buffer), entry.size - offset)]
            count = source.read_into(offset, part)
            for piece in _written(file.fileno(), part[:count]):
                offset += piece


def _written(descriptor: int, part: memoryview) -> Iterator[int]:
    while part:
        count = os.write(descriptor, part)
        part = part[count:]
        yield count


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def copy_patiently(
    words: Sequence[str], environment: Mapping[str, str], runtime: Runtime, backoff: Backoff
) -> int:
    """Copy what the arguments say; try again while that may help, and return the exit status.

    Raises:
        CacheFSError: It did not help.
    """
    wanted = [Wanted.parse(word) for word in words]
    endpoint = endpoint_of(environment)
    attempt = 0
    while True:
        attempt += 1
        try:
            with connect(
                endpoint, ReaderConfig(connections_limit=_BLOCKS_AT_ONCE), runtime
            ) as reader:
                copy_all(reader, wanted)
                return 0
        except CacheFSError as error:
            wait = backoff.wait_after(attempt, draw=runtime.random.random())
            if not error.retryable or wait is None:
                raise
            _log.warning("trying again", extra={"failure": str(error), "seconds": round(wait, 1)})
        runtime.sleep(wait)


if __name__ == "__main__":
    sys.exit(
        run("copying", lambda: copy_patiently(sys.argv[1:], os.environ, ThreadRuntime(), _BACKOFF))
    )
