"""Who uses a mount: the processes that keep it from being unmounted.

Only links and tables in ``/proc`` are read, which the kernel answers by itself, whatever state the
mount is in. Processes that we may not look into are not found.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cachefs.fuse.mounts.table import TableEntry

_MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class User:
    """A process that uses a mount."""

    pid: int
    name: str
    how: str
    """``has a file open``, ``has a file mapped``, ``is in it``."""

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.name} ({self.pid}) {self.how}"


def find_users(entry: TableEntry) -> list[User]:
    """Return the processes that use a mount, each once."""
    users = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            how = next(_uses(folder, entry), "")
            if how:
                name = (folder / "comm").read_text().strip()
                users.append(User(int(folder.name), name, how))
    return sorted(users, key=lambda user: user.pid)


def _uses(process: Path, entry: TableEntry) -> Iterator[str]:
    for link in ("cwd", "root"):
        with suppress(OSError):
            if _is_in((process / link).readlink(), entry.mountpoint):
                yield "is in it"
    with suppress(OSError):
        for file in (process / "fdinfo").iterdir():
            with suppress(OSError):
                found = _MOUNT_ID.search(file.read_text())
                if found and int(found[1]) == entry.id:
                    yield "has a file open"
    with suppress(OSError):
        device = _device_in_maps(entry.device)
        for line in (process / "maps").read_bytes().split(b"\n"):
            fields = line.split(maxsplit=5)
            if len(fields) > 4 and fields[3] == device:
                yield "has a file mapped"


def _is_in(path: Path, mountpoint: Path) -> bool:
    shown = Path(os.fspath(path).removesuffix(_DELETED))
    return shown == mountpoint or mountpoint in shown.parents


def _device_in_maps(device: str) -> bytes:
    major, minor = map(int, device.split(":"))
    return b"%02x:%02x" % (major, minor)
