"""What the tests of SEMANTICS.md mount: one dataset with something of everything."""

import errno
import os
from pathlib import Path

import pytest

from tests.fuse.mounting import MIB, content

NAMES = (
    "plain.txt",
    " space before and after ",
    "-rf",
    "new\nline",
    "tab\tand\x7f",
    "quote\"and'and\\",
    "*?[a]",
    "naïve",  # one letter
    "nai\u0308ve",  # two: another name to us, as on any Linux file system
    "日本語",
    "👩‍🚀",
    "UPPER",
    "upper",
    ".hidden",
    "...",
    "n" * 255,
    "é" * 127,
)
SMALL = {f"names/{name}": content(name, 100) for name in NAMES}
FILES = {
    "config.json": b'{"layers": 1}\n',
    "empty": b"",
    "weights/model.safetensors": content("weights", 3 * MIB + 77),
    "weights/deep/er/and/deeper/last": b"down here",
    "linked": b"the content behind a link",
    **SMALL,
}
HUGE = "huge"
HUGE_BYTES = 5 * 1024 * MIB + 3
MARKS = {0: b"begin", 4 * 1024 * MIB - 2: b"over the 4 GiB mark", HUGE_BYTES - 3: b"end"}
"""What is in the huge file, by offset; all else is zeros."""


def write_origin(folder: Path) -> str:
    """Write the origin; return its URL."""
    for path, data in FILES.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path == "linked":
            (folder / "names").mkdir(exist_ok=True)
            place.symlink_to(".behind")
            (folder / ".behind").write_bytes(data)
        else:
            place.write_bytes(data)
    (folder / "nothing in it").mkdir()
    (folder / "broken link").symlink_to("nowhere")
    (folder / "out of it").symlink_to("/etc/hostname")
    with (folder / HUGE).open("wb") as file:
        file.truncate(HUGE_BYTES)
        for offset, mark in MARKS.items():
            os.pwrite(file.fileno(), mark, offset)
    return f"file://{folder}"


def fails(call, *arguments, **options):
    """Return the name of the number that a call fails with."""
    with pytest.raises(OSError, match=r".") as raised:
        call(*arguments, **options)
    return errno.errorcode[raised.value.errno]
