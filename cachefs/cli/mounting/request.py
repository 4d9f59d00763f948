"""What somebody asks to be mounted: from the command line, or from a line of ``/etc/fstab``."""

from dataclasses import dataclass
from pathlib import Path

ALL_SOURCE = "cachefs"
"""What the mount table shows as the source of a mount of all datasets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What shall be mounted, and how; ``None`` and empty where nothing was said."""

    reference: str
    """Empty for all datasets."""
    folder: str
    state: Path | None = None
    config: Path | None = None
    engine: str | None = None
    read_ahead: str | None = None
    recovery: bool | None = None
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: str = "0"
    follow_current: bool = False
    nonempty: bool = False
    foreground: bool = False
