"""Folders: a dataset as the paths that programs want, with as few copies as can be.

:class:`LocalFolder` is a private folder with all files of a dataset, for as long as it is open: a
large file that is whole on this node is a link to the worker's own file, vouched for when it was
lent, and everything else a copy. :func:`keep_settings` makes a folder that stays, and that all
processes of a user share: configuration, tokenizer and whatever else is no weights, for engines that
want those by path and get the weights from us.

A link leads through ``/proc/PID/fd``, so child processes may follow it while this process has the
folder open. What was opened or mapped meanwhile is good for ever.
"""

import mmap
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeGuard

from cachefs.client.reader import OpenFile
from cachefs.config.schema import ReaderConfig
from cachefs.core.manifest import FileEntry
from cachefs.core.names import parse_reference, printable
from cachefs.errors import CapacityError, ConfigError, NotKnownError
from cachefs.ports import Closing
from cachefs.sdk.dataset import Dataset, open_reference
from cachefs.sdk.safetensors.checkpoints import PICKLE_SUFFIXES

SCHEME = "cachefs://"
WEIGHT_SUFFIXES = (
    *PICKLE_SUFFIXES,
    ".safetensors",
    ".gguf",
    ".h5",
    ".msgpack",
    ".npz",
    ".onnx",
    ".onnx_data",
    ".tensors",
    ".tflite",
)
"""Of files that hold weights, in any of the formats that models come in."""
SETTINGS_BYTES_MAX = 256 * 1024 * 1024
"""Of one file that is no weights: the largest tokenizers have some 40 MB."""
_LINK_BYTES_MIN = 1024 * 1024
"""A smaller file is copied, which takes less than a millisecond and no descriptor."""
_PIECE_BYTES = 64 * 1024 * 1024


def is_reference(name: object) -> TypeGuard[str]:
    """Say whether something is ``cachefs://…``."""
    return isinstance(name, str) and name.startswith(SCHEME)


def pinned(dataset: Dataset, path: str = "") -> str:
    """Return the reference that means this version of a dataset for ever, and a path in it."""
    name = f"{SCHEME}{dataset.name}@{dataset.version}"
    return f"{name}/{path}" if path else name


def pin(reference: str, *, state: str | Path | None = None) -> str:
    """Return a reference with the version that it means now.

    Raises:
        NotKnownError: There is no such dataset or version.
        CacheFSError: Nobody can say.
    """
    if all(reading.version for reading in parse_reference(reference)):
        return reference
    dataset, path = open_reference(reference, state=state)
    with dataset:
        return pinned(dataset, path)


def is_pickle(path: str) -> bool:
    """Say whether a file can run code when it is loaded, by its name."""
    return path.endswith(PICKLE_SUFFIXES)


def is_weights(path: str) -> bool:
    """Say whether a file holds weights, by its name."""
    return path.endswith(WEIGHT_SUFFIXES)


class LocalFolder(Closing, os.PathLike[str]):
    """A dataset's files in a private folder, which goes when this is closed or forgotten.

    Example:
        >>> with LocalFolder("cachefs://llama") as folder:
        ...     model = AutoModel.from_pretrained(folder)
    """

    def __init__(
        self,
        reference: str,
        *,
        leave_out: Callable[[str], bool] = is_pickle,
        into: str | Path | None = None,
        state: str | Path | None = None,
        config: ReaderConfig | None = None,
    ) -> None:
        """Make the folder; what is whole on this node is not read for that.

        Args:
            reference: ``cachefs://name[@version][/path]``, the path being of a folder.
            leave_out: Says of a path in the folder whether to do without that file; by default
                without pickles, which can run code when they are loaded.
            into: In which folder to make it; where temporary files go by default. Files that are not
                whole on this node take room there.
            state: The state folder of ``cachefs up``.
            config: How to read.

        Raises:
            NotKnownError: There is no such dataset or folder.
            CapacityError: There is no room for the files that must be copied.
            CacheFSError: They could not be read.
        """
        with ExitStack() as owned:
            dataset, self.inside = open_reference(reference, state=state, config=config)
            owned.enter_context(dataset)
            self.dataset = dataset
            self.path = tempfile.mkdtemp(prefix="cachefs-", dir=into)
            owned.callback(shutil.rmtree, self.path, ignore_errors=True)
            for entry, name in files_below(dataset, self.inside):
                if not leave_out(name):
                    self._add(entry, Path(self.path, name))
            self._closing = weakref.finalize(self, owned.pop_all().close)

    @property
    def reference(self) -> str:
        """What is in it, with the version."""
        return pinned(self.dataset, self.inside)

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    def close(self) -> None:
        """Remove the folder; idempotent."""
        self._closing()

    def _add(self, entry: FileEntry, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.size >= _LINK_BYTES_MIN and (lent := self.dataset.local_path(entry.path)):
            link = lent.replace("self", str(os.getpid()), 1)
            if os.access(link, os.R_OK):  # it is opened anew, as whoever we are
                place.symlink_to(link)
                return
        with self.dataset.open_raw(entry.path) as file:
            copy(file, place)


def files_below(dataset: Dataset, folder: str) -> Iterator[tuple[FileEntry, str]]:
    """Yield the files in a folder of a dataset, each with its path in that folder.

    Raises:
        NotKnownError: There is no such folder.
    """
    prefix = f"{folder}/" if folder else ""
    found = [entry for entry in dataset.files if entry.path.startswith(prefix)]
    if folder and not found:
        raise NotKnownError("no such folder", subject=printable(f"{dataset.name}/{folder}"))
    for entry in found:
        yield entry, entry.path.removeprefix(prefix)


def keep_settings(
    reference: str, *, root: str | Path | None = None, state: str | Path | None = None
) -> tuple[Path, str]:
    """Bring everything but the weights of a dataset to a folder that stays.

    It may be called by any number of processes at once; what is there is not brought again.

    Args:
        reference: ``cachefs://name[@version][/path]``, the path being of a folder.
        root: Where such folders are; ``~/.cache/cachefs/settings`` by default, below
            ``XDG_CACHE_HOME`` if that is set. A folder of some megabytes stays for each version.
        state: The state folder of ``cachefs up``.

    Returns:
        The folder, and the reference with its version.

    Raises:
        ConfigError: The folder for them belongs to somebody else, or others may write there.
        NotKnownError: There is no such dataset or folder.
        CacheFSError: A file could not be read.
    """
    dataset, inside = open_reference(reference, state=state)
    with dataset:
        name = "-".join([dataset.version, *inside.split("/")]).strip("-")
        folder = _private(Path(root) if root is not None else settings_root()) / name
        folder.mkdir(mode=0o700, exist_ok=True)
        for entry, path in files_below(dataset, inside):
            place = folder / path
            if is_weights(path) or entry.size > SETTINGS_BYTES_MAX or _is_there(place, entry.size):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            # Others may be at it: each file appears whole, and the last one stays.
            with (
                dataset.open_raw(entry.path) as file,
                tempfile.TemporaryDirectory(dir=folder) as at,
            ):
                copy(file, Path(at, "file"))
                Path(at, "file").replace(place)
        return folder, pinned(dataset, inside)


def settings_root() -> Path:
    """Return where the folders of settings are."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache, "cachefs", "settings")


def copy(file: OpenFile, place: Path) -> None:
    """Write a file of a dataset to a new file.

    Raises:
        CapacityError: There is no room for it.
        CacheFSError: It could not be read; the new file is gone.
    """
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if file.size:
            _make_room(descriptor, file.size, place)
            # Not closed by us: a thread of the reader may refer to it a little longer.
            view = memoryview(mmap.mmap(descriptor, file.size))
            for offset in range(0, file.size, _PIECE_BYTES):
                file.read_into(offset, view[offset : offset + _PIECE_BYTES])
    except BaseException:
        place.unlink()
        raise
    finally:
        os.close(descriptor)


def _make_room(descriptor: int, size: int, place: Path) -> None:
    """Take the disk's room for a file; without it, a write to a mapping ends the process."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        raise CapacityError(
            f"no room for {size} bytes: {error.strerror}", subject=printable(str(place))
        ) from error


def _private(root: Path) -> Path:
    """Return a folder that nobody else writes to, made if need be."""
    root.mkdir(parents=True, mode=0o700, exist_ok=True)
    found = root.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigError(
            "others may write to the folder for settings",
            subject=printable(str(root)),
            hint="set XDG_CACHE_HOME to a folder of your own",
        )
    return root


def _is_there(place: Path, size: int) -> bool:
    try:
        found = place.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size
