"""Names: of datasets, workers and files, each by one strict grammar.

A dataset is ``namespace/name``; the namespace ``default`` may be left out. Both parts are lower-case
letters, digits, ``.``, ``_`` and ``-``, begin and end with a letter or digit, and have at most 63
characters. What people type to name a file is a *reference*: ``name[@version][/path]`` or
``namespace/name[@version][/path]``. A dataset of the default namespace may not share its name with a
namespace (the coordinator refuses it), so a reference always means one thing.

A file's path is relative, ``/``-separated, valid Unicode without NUL, and has no empty, ``.`` or
``..`` segment. Newlines and other control characters are legal in files (origins have them), and
are escaped wherever a path is shown.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import NewType

from cachefs.errors import ConfigError

WorkerId = NewType("WorkerId", str)
"""The lasting identity of a worker: it survives restarts, with the worker's tiers."""

DEFAULT_NAMESPACE = "default"
SEGMENT_BYTES_MAX = 255
"""``NAME_MAX`` of Linux: a longer segment could not be shown by the mount."""
PATH_BYTES_MAX = 4095
"""``PATH_MAX`` of Linux less its closing NUL."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[0-9a-f]{4,40}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


def parse_name(text: str, *, kind: str) -> str:
    """Return a name that obeys the grammar.

    Raises:
        ConfigError: It does not; ``kind`` (dataset, namespace, pool, worker …) says what it names.
    """
    if _NAME.fullmatch(text) and ".." not in text:
        return text
    raise ConfigError(
        f"not a {kind} name: {printable(text)!r}",
        hint="use 1 to 63 of a-z 0-9 . _ -, beginning and ending with a letter or digit",
    )


@dataclass(frozen=True, slots=True, order=True)
class DatasetName:
    """A dataset's full name."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "DatasetName":
        """Parse ``name`` or ``namespace/name``."""
        namespace, slash, name = text.partition("/")
        if not slash:
            namespace, name = DEFAULT_NAMESPACE, text
        return cls(parse_name(namespace, kind="namespace"), parse_name(name, kind="dataset"))

    def __str__(self) -> str:
        """Return the shortest text that parses back."""
        if self.namespace == DEFAULT_NAMESPACE:
            return self.name
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a person typed to name a dataset, a version of it, a path in it."""

    dataset: DatasetName
    version: str | None
    """A version's id, a prefix of it, or a label; ``None`` means the current version."""
    path: str
    """Empty for the dataset itself."""


def parse_reference(text: str) -> tuple[Reference, ...]:
    """Return the readings of ``[namespace/]name[@version][/path]``, most likely first.

    There are two when the first segment may be a namespace or a dataset; the one whose dataset
    exists is meant, and at most one can.
    """
    text = text.removeprefix("cachefs://")
    segments = text.rstrip("/").split("/")
    readings = []
    first, at, version = segments[0].partition("@")
    readings.append(_reference("", first, at, version, segments[1:]))
    if not at and len(segments) > 1:
        second, at, version = segments[1].partition("@")
        with suppress(ConfigError):  # then it is of the file's path: icon@2x.png, v1..v2
            readings.append(_reference(first, second, at, version, segments[2:]))
    return tuple(readings)


def _reference(namespace: str, name: str, at: str, version: str, rest: list[str]) -> Reference:
    if at and not (_VERSION.fullmatch(version) or is_label(version)):
        raise ConfigError(
            f"not a version: {printable(version)!r}",
            hint="4 or more digits of its id, or its label: see `cachefs dataset versions`",
        )
    path = "/".join(rest)
    dataset = DatasetName.parse(f"{namespace}/{name}" if namespace else name)
    return Reference(dataset, version or None, parse_path(path) if path else "")


def is_label(text: str) -> bool:
    """Say whether a text can be a version's label: a short word that cannot begin a version's id."""
    return _LABEL.fullmatch(text) is not None and not _VERSION.fullmatch(text)


def parse_label(text: str) -> str:
    """Return a label that obeys the grammar.

    Raises:
        ConfigError: It does not.
    """
    if not is_label(text):
        raise ConfigError(
            f"not a label: {printable(text)!r}",
            hint="up to 63 letters, digits, '.', '_', '-', and not only hexadecimal digits: v2",
        )
    return text


def parse_path(path: str) -> str:
    """Return a legal file path within a dataset.

    Raises:
        ConfigError: The path is absolute, leaves the dataset, or cannot be a file name on Linux.
    """
    fault = _path_fault(path)
    if fault is None:
        return path
    raise ConfigError(f"{fault} in file name {printable(path)!r}")


def _path_fault(path: str) -> str | None:
    if "\0" in path:
        return "a NUL character"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "bytes that are not UTF-8"
    if len(encoded) > PATH_BYTES_MAX:
        return f"more than {PATH_BYTES_MAX} bytes"
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            return f"the segment {segment!r}"
        if len(segment.encode()) > SEGMENT_BYTES_MAX:
            return f"a segment of more than {SEGMENT_BYTES_MAX} bytes"
    return None


def printable(text: str) -> str:
    """Return text that is safe in a log line or a terminal: control characters are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
