"""Operations: everything that a mount shows and does, for whichever engine speaks with the kernel.

Node numbers are the kernel's names for what it has looked up. The top folder is ``ROOT``; others
come from :meth:`Operations.lookup` and from listings, and stay good as long as the mount lives, in
this process and in one that takes the mount over.

Every method raises ``OSError`` with the number that the program shall see, and nothing else
(:mod:`.errno`). All are safe from any thread. Those that may ask the cluster wait, at most for a
deadline; what a version shows is in memory and waits for nobody.
"""

import errno
import os
from collections.abc import Sequence
from typing import overload

from cachefs.client.reader import Reader
from cachefs.core.names import DatasetName
from cachefs.fuse.showing.alldatasets import AllDatasets
from cachefs.fuse.showing.attributes import FOREVER, NAME_BYTES_MAX, Found, MountOptions, Statistics
from cachefs.fuse.showing.errno import FAILURES, failure
from cachefs.fuse.showing.listing import Listing
from cachefs.fuse.showing.memory import Memory, Versions
from cachefs.fuse.showing.namespace import Catalogue, Namespace
from cachefs.fuse.showing.onedataset import OneDataset
from cachefs.fuse.showing.opened import Buffers, OpenedFile
from cachefs.fuse.showing.xattrs import ExtendedAttributes
from cachefs.ports import Runtime


class Operations:
    """One mount, without the kernel."""

    def __init__(self, runtime: Runtime, namespace: Namespace, xattrs: ExtendedAttributes) -> None:
        """Show a namespace."""
        self._namespace = namespace
        self._xattrs = xattrs
        self._runtime = runtime
        self._guard = runtime.condition()
        self._opened: dict[int, OpenedFile] = {}
        self._buffers = Buffers()

    def lookup(self, parent: int, name: bytes) -> Found:
        """Return what a name in a folder means.

        Raises:
            OSError: ``ENOENT``: nothing of that name; ``ENAMETOOLONG``: there cannot be;
                ``ENOTDIR``: the parent is a file; ``ESTALE``: the parent's version is gone;
                ``EIO``: nobody who knows answers.
        """
        if len(name) > NAME_BYTES_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        try:
            return self._namespace.lookup(parent, name)
        except FAILURES as error:
            raise failure("lookup", error) from error

    def getattr(self, node: int) -> Found:
        """Return a node's attributes.

        Raises:
            OSError: ``ESTALE``: its version is gone; ``EIO``: nobody who knows answers.
        """
        try:
            return self._namespace.getattr(node)
        except FAILURES as error:
            raise failure("getattr", error) from error

    def try_lookup(self, parent: int, name: bytes) -> Found | None:
        """Return what :meth:`lookup` does, or ``None`` if that might have to wait, or to fail.

        Raises:
            FileNotFoundError: Nothing of that name.
        """
        place = self._namespace.try_place(parent)
        if place is None or len(name) > NAME_BYTES_MAX:
            return None
        return place[0].lookup(place[1], name, FOREVER)

    def try_getattr(self, node: int) -> Found | None:
        """Return what :meth:`getattr` does, or ``None`` if that might have to wait, or to fail."""
        place = self._namespace.try_place(node)
        if place is None:
            return None
        return Found(place[0].attributes(place[1], node=node), FOREVER)

    def try_listing(self, node: int) -> Listing | None:
        """Return what :meth:`listing` does, or ``None`` if that might have to wait, or to fail."""
        place = self._namespace.try_place(node)
        return None if place is None else place[0].listing(place[1], moving=False)

    def listing(self, node: int) -> Listing:
        """Return what is in a folder, at this moment.

        Raises:
            OSError: ``ENOTDIR``: it is a file; else as :meth:`getattr`.
        """
        try:
            return self._namespace.listing(node)
        except FAILURES as error:
            raise failure("readdir", error) from error

    def open(self, node: int) -> OpenedFile:
        """Open a file for reading; nobody is asked for its bytes yet.

        All who open a node get the same object, and each of them closes it once.

        Raises:
            OSError: ``EISDIR``: it is a folder; else as :meth:`getattr`.
        """
        opened = self._share(node)
        if opened is not None:
            return opened
        try:
            file = self._namespace.open(node)
        except FAILURES as error:
            raise failure("open", error) from error
        made = OpenedFile(self._runtime, node, file, self._buffers, on_close=self._closed)
        opened = self._share(node, made)
        if opened is not made:
            made.release()  # Another thread was first.
        return opened

    @overload
    def _share(self, node: int, made: OpenedFile) -> OpenedFile: ...
    @overload
    def _share(self, node: int) -> OpenedFile | None: ...
    def _share(self, node: int, made: OpenedFile | None = None) -> OpenedFile | None:
        """Count a user of the file that is open, which is ``made`` if none is yet."""
        with self._guard:
            opened = self._opened.get(node, made)
            if opened is not None:
                self._opened[node] = opened
                opened.users += 1
            return opened

    def names(self, node: int) -> Sequence[tuple[int, bytes]]:
        """Return where the kernel may know a file: folders, and its name in each.

        Nothing for one whose version is gone, and for the mount's own folders.
        """
        try:
            return self._namespace.names(node)
        except (*FAILURES, OSError):
            return ()

    def statfs(self) -> Statistics:
        """Return how much is shown; there is never room for more."""
        try:
            return self._namespace.statistics()
        except FAILURES as error:
            raise failure("statfs", error) from error

    def getxattr(self, node: int, name: str) -> bytes:
        """Return an extended attribute.

        Raises:
            OSError: ``ENODATA``: there is none of that name; else as :meth:`getattr`.
        """
        try:
            return self._xattrs.get(node, name)
        except FAILURES as error:
            raise failure("getxattr", error) from error

    def listxattr(self, _node: int) -> tuple[str, ...]:
        """Return the names of the attributes that programs shall copy with a file: of none."""
        return ()

    def close(self) -> None:
        """Close what is open; the reader stays the caller's."""
        with self._guard:
            opened = list(self._opened.values())
            self._opened.clear()
        for each in opened:
            each.release()

    def _closed(self, opened: OpenedFile) -> None:
        with self._guard:
            opened.users -= 1
            last = opened.users == 0 and self._opened.get(opened.node) is opened
            if last:
                del self._opened[opened.node]
        if last:
            opened.release()


def show_dataset(
    reader: Reader,
    name: DatasetName,
    version: str | None,
    options: MountOptions,
    *,
    memory: Memory,
    versions: Versions,
    catalogue: Catalogue | None,
) -> Operations:
    """Return the operations of a mount of one dataset; the reader stays the caller's to close.

    Args:
        reader: Where bytes and metadata come from.
        name: The dataset.
        version: Its version, or a prefix; ``None`` for the current one.
        options: How it is shown.
        memory: Where the numbers are that an earlier process of this mount gave.
        versions: Where manifests are kept for a later one.
        catalogue: For ``user.cachefs.residency``; ``None`` leaves the cluster's part out.

    Raises:
        NotKnownError: There is no such dataset or version.
        CoordinatorUnavailableError: Nobody answers.
    """
    shown = OneDataset(reader, name, version, options, memory=memory, versions=versions)
    return Operations(reader.runtime, shown, ExtendedAttributes(reader, shown, catalogue))


def show_all(
    reader: Reader,
    options: MountOptions,
    *,
    memory: Memory,
    versions: Versions,
    catalogue: Catalogue,
) -> Operations:
    """Return the operations of a mount of all datasets; arguments as in :func:`show_dataset`."""
    shown = AllDatasets(reader, catalogue, options, memory=memory, versions=versions)
    return Operations(reader.runtime, shown, ExtendedAttributes(reader, shown, catalogue))
