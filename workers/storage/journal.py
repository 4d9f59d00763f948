"""The journal of a tier: which blocks it holds, so that a restart finds them again.

One append-only file for the whole tier; a hundred thousand files are read back in about a second,
where a journal for each would be a hundred thousand opens. It is a row of *slots* of 80 bytes. A
record takes one slot or more, and carries its own checksum; a record that does not verify is passed
over one slot at a time until the next whole one, so damage costs the records it hit and no others.
A torn end is written over by the next append.

=========  ===============================================================  ====================
record     says                                                             holds
=========  ===============================================================  ====================
session    from here on a store writes that was opened under this boot id   boot id, block size,
                                                                            digest algorithm
file       a file version has a data file, with no blocks yet               size, dataset, version
block      its bytes are in the data file                                   index, digest, stamp
gone       a block is no longer there                                       index, stamp
stamp      all blocks of the file are verified under this stamp             stamp
removed    the data file was removed                                        -
clean      everything was synced; only as the very last record              -
=========  ===============================================================  ====================

**What a record proves.** A block's bytes are written before its record, and a hole is punched before
its record, so a record never promises what is not there. The *stamp* is the data file's change time
after that write, or 0 if some block of the file was not verified at that time. After a kill, a data
file whose stamp equals its last record's holds what the records say: the page cache outlives the
process. In every other case (a write that was not recorded, damage, a lost record) the two differ,
and each block is verified before it is trusted.

Stamps mean nothing after a power cut, when a data file may have kept its time and lost its bytes; so
they count only if the last session ran under the present boot id, or was closed cleanly. Nor do they
if any slot is damaged: the record that was lost may be the one that said that a block is gone.

Records are not synced one by one. What a power cut costs is a read of each block, not a wrong one.

The journal keeps what it has written in memory as well (:attr:`Journal.files`), and writes that out
anew, atomically, when most slots are history, and after a failed append, whose record may be
missing in the middle of a history that must not be believed without it.
"""

import errno
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from zlib import crc32

from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import check
from cachefs.ports import Disk, DiskFile, Runtime

JOURNAL_NAME = "journal"
DRAFT_NAME = "journal.new"
FORMAT = 1
SLOT_SIZE = 80
"""Holds a block's record with a digest of 32 bytes."""
HISTORY_SLOTS_MIN = 8192
"""A journal with less history than this is left as it is: it is read in milliseconds."""
PATIENCE_SECONDS = 10.0
"""An append that waited so long for another one has failed: the disk hangs."""

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_HEAD = struct.Struct("<IBBH")  # checksum of all that follows, kind, slots, bytes of the payload
_CHECKSUM_BYTES = 4
_FILE = struct.Struct("<20sQ20s")  # then the dataset's name
_BLOCK = struct.Struct("<20sIq")  # then the digest
_GONE = struct.Struct("<20sIq")
_STAMP = struct.Struct("<20sq")
_REMOVED = struct.Struct("<20s")
_SESSION = struct.Struct("<IQ16s36s")


class Kind(IntEnum):
    """The kinds of records, as they are written."""

    SESSION = 1
    FILE = 2
    BLOCK = 3
    GONE = 4
    STAMP = 5
    REMOVED = 6
    CLEAN = 7


_KINDS = frozenset(Kind)


@dataclass(slots=True)
class RecordedFile:
    """What the journal knows of one file version."""

    size: int
    dataset: DatasetName
    version: VersionId
    stamp: int = 0
    """After the last recorded write; 0 if some block was unverified then."""
    blocks: dict[int, bytes] = field(default_factory=dict)
    """Digest by index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Under what a session writes; blocks of another size or digest are of no use to it."""

    boot_id: str
    block_size: int
    digest: str


@dataclass(frozen=True, slots=True)
class FileAdded:
    """A file version got a data file."""

    file_version: FileVersionId
    size: int
    dataset: DatasetName
    version: VersionId


@dataclass(frozen=True, slots=True)
class BlockAdded:
    """A block was written."""

    file_version: FileVersionId
    index: int
    digest: bytes
    stamp: int


@dataclass(frozen=True, slots=True)
class BlockGone:
    """A block is no longer there."""

    file_version: FileVersionId
    index: int
    stamp: int


@dataclass(frozen=True, slots=True)
class Stamped:
    """All blocks of a file are verified."""

    file_version: FileVersionId
    stamp: int


@dataclass(frozen=True, slots=True)
class FileRemoved:
    """A data file was removed."""

    file_version: FileVersionId


Record = FileAdded | BlockAdded | BlockGone | Stamped | FileRemoved


@dataclass(slots=True)
class History:
    """What reading a journal found."""

    files: dict[FileVersionId, RecordedFile] = field(default_factory=dict)
    setting: Setting | None = None
    """Of the last session; ``None`` if no record of one is whole."""
    clean: bool = False
    damaged_slots: int = 0
    block_count: int = 0
    """Blocks of all files."""

    def apply(self, record: Record) -> None:
        """Bring the files up to date with one record."""
        file = self.files.get(record.file_version)
        if isinstance(record, FileAdded | FileRemoved):
            self.block_count -= len(file.blocks) if file else 0
            if isinstance(record, FileAdded):
                added = RecordedFile(record.size, record.dataset, record.version)
                self.files[record.file_version] = added
            else:
                self.files.pop(record.file_version, None)
            return
        if file is None:  # its record was damaged: without the size its blocks are of no use
            return
        before = len(file.blocks)
        file.stamp = record.stamp
        if isinstance(record, BlockAdded):
            file.blocks[record.index] = record.digest
        elif isinstance(record, BlockGone):
            file.blocks.pop(record.index, None)
        self.block_count += len(file.blocks) - before

    def records(self) -> Iterator[Record]:
        """Yield the shortest history that leads here."""
        for file_version, file in self.files.items():
            yield FileAdded(file_version, file.size, file.dataset, file.version)
            for index, digest in file.blocks.items():
                yield BlockAdded(file_version, index, digest, file.stamp)


class Journal:
    """The journal of one tier, open for appending. Safe from any thread.

    :meth:`load` comes first. Appends are written one after the other, in the order in which they
    were asked for; the caller keeps the order of one file's.
    """

    def __init__(self, disk: Disk, runtime: Runtime, setting: Setting) -> None:
        """Prepare; nothing is read yet."""
        self._disk = disk
        self._runtime = runtime
        self._setting = setting
        self._condition = runtime.condition()
        self._busy = False
        self._file: DiskFile | None = None
        self._slots = 0
        self._broken = False
        self._missed: list[Record] = []
        """What happened and could not be recorded."""
        self._history = History()

    @property
    def files(self) -> dict[FileVersionId, RecordedFile]:
        """What was read; to be looked at before anything is appended."""
        return self._history.files

    def load(self) -> bool:
        """Read what was recorded, and say whether its stamps can be relied on.

        If not, they are set to 0 here and on the disk, so that nobody after us relies on them
        either. A journal that cannot be read counts as empty.

        A full disk is no obstacle: the old journal stands, and the next append writes a new one. What
        happens until then cannot be recorded, which shows in the stamps.

        Raises:
            OSError: No new journal can be written, for another reason.
        """
        with self._exclusive():
            history = decode(self._read())
            known, wanted = history.setting, self._setting
            if known and (known.block_size, known.digest) != (wanted.block_size, wanted.digest):
                history = History()
            same_boot = bool(wanted.boot_id) and known == wanted
            reliable = (same_boot or history.clean) and not history.damaged_slots
            if not reliable:
                for file in history.files.values():
                    file.stamp = 0
            self._history = history
            try:
                self._rewrite()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
        return reliable

    @property
    def is_behind(self) -> bool:
        """Whether the last attempt to write anew failed, so that the disk has an older journal."""
        return self._broken

    def append(self, records: Sequence[Record]) -> None:
        """Write records, in one go.

        Raises:
            OSError: They are not recorded, and neither is anything else until the journal has been
                written anew; the next append tries that. A file or block that could not be recorded
                does not count as added; whatever else the records say has happened all the same.
        """
        encoded = b"".join(_encode(record) for record in records)
        try:
            with self._exclusive():
                if self._broken or self._missed or self._is_mostly_history():
                    self._rewrite()
                self._write(encoded)
                for record in records:
                    self._history.apply(record)
        except OSError:
            with self._condition:
                self._missed += [
                    record for record in records if not isinstance(record, FileAdded | BlockAdded)
                ]
            raise

    def close(self, *, clean: bool) -> None:
        """Write the last record if everything it vouches for was synced, and let go; idempotent.

        Raises:
            OSError: The last record could not be written; all else is as it was.
        """
        with self._exclusive():
            file = self._file
            if file is None:
                return
            try:
                if clean and not (self._broken or self._missed):
                    self._write(_pack(Kind.CLEAN, b""))
                    file.sync()
            finally:
                self._file = None
                file.close()

    def _read(self) -> bytes:
        try:
            file = self._disk.open(JOURNAL_NAME)
        except OSError:
            return b""
        try:
            content = memoryview(bytearray(file.size()))
            return bytes(content[: file.pread_into(content, 0)])
        except OSError:
            return b""
        finally:
            file.close()

    def _is_mostly_history(self) -> bool:
        live = 2 * len(self._history.files) + self._history.block_count
        return self._slots > 2 * live + HISTORY_SLOTS_MIN

    def _rewrite(self) -> None:
        # Readers of the journal find the old one or the new one, whole: the draft is synced before
        # it takes the name. Whoever appends waits; nothing can be recorded twice or lost between.
        self._broken = True
        with self._condition:
            missed, self._missed = self._missed, []
        for record in missed:
            self._history.apply(record)
        encoded = _encode_session(self._setting) + b"".join(
            _encode(record) for record in self._history.records()
        )
        draft = self._disk.open(DRAFT_NAME, create=True)
        try:
            draft.truncate(0)
            draft.pwrite(memoryview(encoded), 0)
            draft.sync()
            self._disk.replace(DRAFT_NAME, JOURNAL_NAME)
        except OSError:
            draft.close()
            raise
        previous, self._file = self._file, draft
        if previous is not None:
            previous.close()
        self._slots = len(encoded) // SLOT_SIZE
        self._broken = False

    def _write(self, encoded: bytes) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "the journal is closed")
        try:
            self._file.pwrite(memoryview(encoded), self._slots * SLOT_SIZE)
        except OSError:
            self._broken = True
            raise
        self._slots += len(encoded) // SLOT_SIZE

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        deadline = self._runtime.monotonic() + PATIENCE_SECONDS
        with self._condition:
            while self._busy:
                left = deadline - self._runtime.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    raise OSError(errno.ETIMEDOUT, "the disk of the journal hangs")
            self._busy = True
        try:
            yield
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()


def decode(content: bytes) -> History:
    """Read a journal: apply each whole record, in order, and count the slots that are none."""
    history = History()
    at = 0
    while at + SLOT_SIZE <= len(content):
        checksum, kind, slots, length = _HEAD.unpack_from(content, at)
        end = at + slots * SLOT_SIZE
        fits = at < end <= len(content) and _HEAD.size + length <= end - at
        whole = fits and kind in _KINDS
        if not whole or crc32(content[at + _CHECKSUM_BYTES : end]) != checksum:
            history.damaged_slots += 1
            at += SLOT_SIZE
            continue
        payload = content[at + _HEAD.size : at + _HEAD.size + length]
        history.clean = kind == Kind.CLEAN
        if kind == Kind.SESSION:
            history.setting = _decode_session(payload)
        elif kind != Kind.CLEAN:
            history.apply(_decode(Kind(kind), payload))
        at = end
    return history


def _pack(kind: Kind, payload: bytes) -> bytes:
    slots = -(-(_HEAD.size + len(payload)) // SLOT_SIZE)
    body = _HEAD.pack(0, kind, slots, len(payload))[_CHECKSUM_BYTES:] + payload
    body = body.ljust(slots * SLOT_SIZE - _CHECKSUM_BYTES, b"\0")
    return crc32(body).to_bytes(_CHECKSUM_BYTES, "little") + body


def _encode_session(setting: Setting) -> bytes:
    text = setting.digest.encode().ljust(16, b"\0"), setting.boot_id.encode().ljust(36, b"\0")
    check(len(text[0]) == 16 and len(text[1]) == 36, "a digest's name or a boot id is too long")
    return _pack(Kind.SESSION, _SESSION.pack(FORMAT, setting.block_size, *text))


def _decode_session(payload: bytes) -> Setting:
    layout, block_size, digest, boot_id = _SESSION.unpack(payload)
    return Setting(
        boot_id=boot_id.rstrip(b"\0").decode(),
        block_size=block_size if layout == FORMAT else 0,  # 0 is nobody's: all is left behind
        digest=digest.rstrip(b"\0").decode(),
    )


def _encode(record: Record) -> bytes:
    name = bytes.fromhex(record.file_version)
    match record:
        case FileAdded(_, size, dataset, version):
            text = f"{dataset.namespace}/{dataset.name}".encode()
            return _pack(Kind.FILE, _FILE.pack(name, size, bytes.fromhex(version)) + text)
        case BlockAdded(_, index, digest, stamp):
            return _pack(Kind.BLOCK, _BLOCK.pack(name, index, stamp) + digest)
        case BlockGone(_, index, stamp):
            return _pack(Kind.GONE, _GONE.pack(name, index, stamp))
        case Stamped(_, stamp):
            return _pack(Kind.STAMP, _STAMP.pack(name, stamp))
        case FileRemoved():
            return _pack(Kind.REMOVED, _REMOVED.pack(name))


def _decode(kind: Kind, payload: bytes) -> Record:
    file_version = FileVersionId(payload[:20].hex())
    if kind is Kind.BLOCK:
        _, index, stamp = _BLOCK.unpack_from(payload)
        return BlockAdded(file_version, index, payload[_BLOCK.size :], stamp)
    if kind is Kind.FILE:
        _, size, version = _FILE.unpack_from(payload)
        namespace, _, name = payload[_FILE.size :].decode().partition("/")
        dataset = DatasetName(namespace, name)
        return FileAdded(file_version, size, dataset, VersionId(version.hex()))
    if kind is Kind.GONE:
        _, index, stamp = _GONE.unpack(payload)
        return BlockGone(file_version, index, stamp)
    if kind is Kind.STAMP:
        _, stamp = _STAMP.unpack(payload)
        return Stamped(file_version, stamp)
    return FileRemoved(file_version)
