"""What is published on this node, in small files: so that it is known after a restart, of us or of the machine.

Above all they hold the version that a volume had when it was published first. The kubelet asks again for the
same target after a restart, and gets the same version; so a pod sees one version for as long as it lives.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cachefs.config.files import from_document
from cachefs.errors import CacheFSError


@dataclass(frozen=True, slots=True)
class Publication:
    """One volume at one target."""

    volume: str
    target: str
    namespace: str
    """The dataset's; empty for the workers' sockets."""
    dataset: str
    version: str
    """The whole id; empty if it follows the current version, or is no dataset."""
    path: str
    asked: str
    """The version as it was asked for."""

    @property
    def what_was_asked(self) -> tuple[str, str, str, str]:
        """Volume, namespace, dataset and version: who asks the same again gets the same version."""
        return self.volume, self.namespace, self.dataset, self.asked

    @property
    def source(self) -> str:
        """The version's folder below the node's mount; empty for the sockets."""
        if not self.dataset:
            return ""
        place = f"{self.namespace}/{self.dataset}"
        return f"{place}/.versions/{self.version}" if self.version else place

    @property
    def shown(self) -> str:
        """What of the node's mount is shown."""
        return f"{self.source}/{self.path}" if self.path else self.source


class Published:
    """The files, one for each target. Two threads may not write about one target at once."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when something is written."""
        self._folder = folder

    def find(self, target: Path) -> Publication | None:
        """Return what is at a target; ``None`` if nothing is, or its file is damaged."""
        return _read(self._path(target))

    def keep(self, publication: Publication) -> None:
        """Remember; it survives a power cut when this returns.

        Raises:
            OSError: It cannot be written.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(Path(publication.target))
        write_whole(path, json.dumps(asdict(publication)))

    def forget(self, target: Path) -> None:
        """Forget what is at a target; idempotent."""
        self._path(target).unlink(missing_ok=True)

    def all(self) -> Iterator[Publication]:
        """Yield everything."""
        with suppress(FileNotFoundError):
            for path in sorted(self._folder.glob("*.json")):
                found = _read(path)
                if found is not None:
                    yield found

    def _path(self, target: Path) -> Path:
        digest = hashlib.blake2b(os.fsencode(target), digest_size=16).hexdigest()
        return self._folder / f"{digest}.json"


def write_whole(path: Path, text: str) -> None:
    """Replace a file, whole, on disk.

    Raises:
        OSError: It cannot be written.
    """
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> Publication | None:
    try:
        return from_document(Publication, dict(json.loads(path.read_text())))
    except (OSError, ValueError, TypeError, CacheFSError):
        return None
