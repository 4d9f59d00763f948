"""Extended attributes: ``user.cachefs.*`` tell what a file is and where its bytes are.

All but two follow from the manifest and cost nothing. ``block_digests`` and ``residency`` ask the
cluster, for at most two seconds; what nobody could say is left out of the answer, which is then
shorter but never late.

None is listed, as other file systems keep to themselves what they make up: ``cp -a``, ``mv`` and
``shutil.copytree`` take along what is listed. On a copy the attributes would be lies sooner or later,
cost a disk block a file, and those of a large file do not fit ext4 at all, so that the copy fails.
"""

import errno
import json
import os
from collections.abc import Callable
from typing import Any

from cachefs.client.reader import Reader
from cachefs.core.blocks import block_count
from cachefs.errors import CacheFSError
from cachefs.fuse.showing.namespace import Catalogue, Namespace
from cachefs.fuse.showing.trees import ShownVersion
from cachefs.ports import FileRef

USERS = "user."
"""Of Linux's kinds of attributes, the one that there are some of."""
PREFIX = "user.cachefs."
VALUE_BYTES_MAX = 64 * 1024
"""``XATTR_SIZE_MAX`` of Linux."""
_CLUSTER_SECONDS = 2.0


class ExtendedAttributes:
    """The extended attributes of a mount. Safe from any thread."""

    def __init__(self, reader: Reader, namespace: Namespace, catalogue: Catalogue | None) -> None:
        """Describe what a namespace shows; without a catalogue, the cluster's part is left out."""
        self._reader = reader
        self._namespace = namespace
        self._catalogue = catalogue
        self._files: dict[str, Callable[[FileRef], str]] = {
            "file_version": lambda file: file.entry.file_version,
            "origin_token": lambda file: file.entry.token,
            "digest": lambda file: file.entry.digest,
            "block_size": lambda _: str(reader.cluster.block_size),
            "block_digests": self._block_digests,
            "residency": self._residency,
        }

    def get(self, node: int, name: str) -> bytes:
        """Return an attribute's value.

        Raises:
            OSError: ``ENODATA``: there is none of that name; ``EOPNOTSUPP``: labels, access lists
                and whatever else is not a user's; ``E2BIG``: Linux allows no value of this size.
        """
        if not name.startswith(USERS):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        short = name.removeprefix(PREFIX)
        place = self._namespace.place(node) if short != name else None
        value = None if place is None else self._value(*place, short)
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        encoded = value.encode()
        if len(encoded) > VALUE_BYTES_MAX:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return encoded

    def _value(self, shown: ShownVersion, number: int, name: str) -> str | None:
        if name == "dataset":
            return str(shown.dataset.name)
        if name == "version":
            return shown.dataset.version
        if name == "path":
            return shown.tree.path(number)
        entry = shown.tree.entry(number)
        value = self._files.get(name)
        if entry is None or value is None or (name == "digest" and not entry.digest):
            return None
        return value(shown.dataset.resolved.file(entry))

    def _block_digests(self, file: FileRef) -> str:
        """Return one line a block: its digest in hexadecimal, or ``-`` while none is known."""
        count = block_count(file.entry.size, self._reader.cluster.block_size)
        runtime = self._reader.runtime
        try:
            known = self._reader.metadata.digests(
                file, deadline=runtime.monotonic() + _CLUSTER_SECONDS
            )
        except CacheFSError:
            known = ()
        lines = [known[at] if at < len(known) else None for at in range(count)]
        return "".join(f"{'-' if each is None else each.hex()}\n" for each in lines)

    def _residency(self, file: FileRef) -> str:
        """Return how many blocks there are, on this node, and by worker; as JSON."""
        answer: dict[str, Any] = {  # Any: what JSON can hold
            "blocks": block_count(file.entry.size, self._reader.cluster.block_size),
        }
        if self._catalogue is not None:
            try:
                answer |= self._catalogue.residency(
                    file.dataset,
                    file.version,
                    file.entry.path,
                    timeout_seconds=_CLUSTER_SECONDS,
                )
            except CacheFSError as error:
                answer["failure"] = str(error)
        return json.dumps(answer, sort_keys=True)
