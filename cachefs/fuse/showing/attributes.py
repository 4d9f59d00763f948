"""What ``stat`` and ``statfs`` show, and how long the kernel may believe it.

A version never changes, so what it shows may be kept for ever; only the names that follow a
dataset's current version, or the list of datasets, are asked for again after :data:`MOVING_SECONDS`.

Inode numbers follow from what is shown, not from the mount: a file version has the same number in
every mount, on every machine, after every restart. That is what ``rsync``, ``tar`` and backup
programs compare.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from cachefs.core.blocks import FileVersionId

ROOT = 1
"""The node number of a mount's top folder, as the kernel has it."""
FOREVER = 365.0 * 86400
"""Seconds for what never changes; no mount lives longer without being asked once more."""
MOVING_SECONDS = 1.0
"""How long the kernel may keep a name that may come to mean another version."""
NAME_BYTES_MAX = 255
"""Of one segment of a path, as on every Linux file system."""
FILE_MODE = 0o444
FOLDER_MODE = 0o555
_INO_BITS = (1 << 63) - 1
"""Programs that keep inode numbers in signed words must not see negative ones."""
_INO_MIN = 2
"""0 means no inode to many programs, and 1 bad blocks to some."""


class Attributes(NamedTuple):
    """One file or folder as ``stat`` shows it; access and change time are the modification time."""

    node: int
    """Names it between the kernel and us, in one mount."""
    ino: int
    """What users see; never 0 or 1, and below 2^63."""
    folder: bool
    size: int
    """In bytes; 0 for folders."""
    mode: int
    """Permission bits alone."""
    nlink: int
    uid: int
    gid: int
    mtime_ns: int
    """When the coordinator first listed the version, in nanoseconds since 1970."""


class Found(NamedTuple):
    """What a name means, and how long the kernel may keep both name and attributes."""

    attributes: Attributes
    valid_seconds: float


class Statistics(NamedTuple):
    """What ``statfs`` shows; there is never room."""

    bytes: int
    """Of all files that are shown."""
    files: int
    """Files and folders."""
    name_bytes_max: int = NAME_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """How a mount shows what it shows, and how its engine reads."""

    uid: int
    """The owner of everything."""
    gid: int
    umask: int = 0
    """Permission bits that are taken away from 0444 and 0555."""
    allow_other: bool = False
    """Let other users in, by the permission bits; else only who mounted, not even root."""
    read_ahead_bytes: int = 4 * 1024 * 1024
    """What the kernel asks for ahead of a program that reads a file in order."""
    follow_current: bool = False
    """New look-ups see a dataset's current version, instead of the first that was shown."""


class Owner(NamedTuple):
    """What all attributes of one mount share."""

    uid: int
    gid: int
    file_mode: int
    folder_mode: int

    @classmethod
    def of(cls, options: MountOptions) -> "Owner":
        """Return what the options say."""
        return cls(
            options.uid, options.gid, FILE_MODE & ~options.umask, FOLDER_MODE & ~options.umask
        )

    def file(self, node: int, file_version: FileVersionId, size: int, mtime_ns: int) -> Attributes:
        """Return a file's attributes."""
        ino = int(file_version[:16], 16) & _INO_BITS
        # By position: it is made for every file that a program looks at.
        return Attributes(
            node,
            max(ino, _INO_MIN),
            False,
            size,
            self.file_mode,
            1,
            self.uid,
            self.gid,
            mtime_ns,
        )

    def folder(self, node: int, identity: str, folders: int | None, mtime_ns: int) -> Attributes:
        """Return a folder's attributes.

        Args:
            node: Its number.
            identity: Dataset and path, which name it in every mount.
            folders: How many folders are directly in it; they link to it. ``None`` if nobody has
                counted, which programs know from a single link.
            mtime_ns: Its version's time.
        """
        return Attributes(
            node,
            folder_ino(identity),
            folder=True,
            size=0,
            mode=self.folder_mode,
            nlink=1 if folders is None else 2 + folders,
            uid=self.uid,
            gid=self.gid,
            mtime_ns=mtime_ns,
        )


def folder_ino(identity: str) -> int:
    """Return a folder's inode number, which follows from what it is."""
    digest = hashlib.blake2b(identity.encode(), digest_size=8).digest()
    return max(int.from_bytes(digest, "big") & _INO_BITS, _INO_MIN)
