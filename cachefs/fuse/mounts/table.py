"""The mount table: what is mounted where, as the kernel has it.

``/proc/self/mountinfo`` is the only way to ask that can never be made to wait by a mount whose
process is dead or frozen: every look at the mount point itself may. So nothing here touches one.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILE_SYSTEM = "fuse.cachefs"
"""The type of our mounts, with either engine."""
_TABLE = "/proc/self/mountinfo"
_ESCAPED = re.compile(rb"\\([0-7]{3})")
"""The kernel writes space, tab, newline, backslash and ``#`` so."""
_FIELDS_MIN = 10


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One line of the mount table."""

    id: int
    """By which ``/proc/PID/fdinfo`` says on which mount a file is open."""
    mountpoint: Path
    device: str
    """``major:minor`` of ``st_dev``, never used by two mounts that live at once."""
    type: str
    source: str
    options: frozenset[str]
    """Those of the mount and those of the file system together."""
    root: str = "/"
    """Which folder of the file system is shown there; not the top for a bind mount of another."""

    @property
    def ours(self) -> bool:
        """Whether cachefs mounted it."""
        return self.type == FILE_SYSTEM

    def owner(self) -> tuple[int, int]:
        """Return user and group of who mounted it; they alone may look, unless others may."""
        found = dict(option.partition("=")[::2] for option in self.options)
        return int(found.get("user_id", 0)), int(found.get("group_id", 0))


def read_table(path: str = _TABLE) -> list[TableEntry]:
    """Return what is mounted in this process's mount namespace, older mounts first."""
    return list(parse_table(Path(path).read_bytes().split(b"\n")))


def parse_table(lines: Iterable[bytes]) -> Iterator[TableEntry]:
    """Yield the entries of lines as proc(5) describes them; a torn line yields none."""
    for line in lines:
        fields = line.split(b" ")
        if len(fields) < _FIELDS_MIN or b"-" not in fields[6:]:
            continue
        # Between the sixth field and the dash are as many optional ones as there are.
        after = fields[fields.index(b"-", 6) + 1 :]
        yield TableEntry(
            int(fields[0]),
            Path(_text(fields[4])),
            fields[2].decode(),
            _text(after[0]),
            _text(after[1]),
            frozenset(_text(fields[5] + b"," + after[2]).split(",")),
            _text(fields[3]),
        )


def find_mount(mountpoint: Path) -> TableEntry | None:
    """Return what is mounted on a folder: the newest, if there are several on top of each other."""
    found = [entry for entry in read_table() if entry.mountpoint == mountpoint]
    return found[-1] if found else None


def locate(given: str | Path) -> Path:
    """Return the absolute path of a mount point as the table has it, without touching the mount.

    Links in the path are followed, the last part's only if nothing is mounted there.
    """
    path = Path(os.path.abspath(given))  # noqa: PTH100 - `resolve` would ask the mount itself
    located = Path(os.path.realpath(path.parent)) / path.name
    if find_mount(located) is not None:
        return located
    with suppress(OSError):
        if located.is_symlink():
            return Path(os.path.realpath(located))
    return located


def elsewhere(device: str) -> bool:
    """Say whether a file system is mounted in the mount namespace of some process that we may see.

    A container or a service that was started while it was mounted may have a mount of its own,
    which nobody can remove from outside.
    """
    seen: set[str] = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):
            namespace = str((process / "ns/mnt").readlink())
            if namespace in seen:
                continue
            seen.add(namespace)
            entries = parse_table((process / "mountinfo").read_bytes().split(b"\n"))
            if any(entry.ours and entry.device == device for entry in entries):
                return True
    return False


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field))
