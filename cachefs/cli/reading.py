"""``cachefs ls``, ``cat`` and ``cp``: the files of a dataset, read through the cache."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json, print_table, say

if TYPE_CHECKING:
    from cachefs.core.manifest import FileEntry

_CAT_BYTES = 32 * 1024 * 1024
"""Read and written at once: several blocks, so that the reader has something to do in parallel."""

Reference = Annotated[
    str,
    typer.Argument(metavar="NAME[@VERSION][/PATH]", help="A dataset, or a file or folder in one."),
]


def list_files(
    reference: Reference,
    state: options.State = None,
    long: Annotated[
        bool, typer.Option("-l", "--long", help="Show sizes and digests or tokens.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("-R", "--recursive", help="Show all files, with their whole paths.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List files."""
    from cachefs.cli.session import Session, no_such_file
    from cachefs.core.names import printable

    named, version = Session(state).resolve(reference)
    entries = list(version.manifest.below(named.path))
    if named.path and not entries:
        raise no_such_file(version.manifest, named.dataset, named.path)
    shown = entries if recursive or as_json else _one_level(entries, named.path)
    if as_json:
        print_json(
            [
                {
                    "path": entry.path,
                    "size": entry.size,
                    "token": entry.token,
                    "digest": entry.digest,
                    "file_version": entry.file_version,
                }
                for entry in entries
            ]
        )
    elif long:
        rows = ((entry.size, entry.digest or entry.token, entry.path) for entry in shown)
        print_table(("SIZE>", "DIGEST OR TOKEN", "PATH"), rows)
    else:
        sys.stdout.writelines(printable(entry.path) + "\n" for entry in shown)


def _one_level(entries: Iterable["FileEntry"], folder: str) -> list["FileEntry"]:
    """Return files of a folder, and each folder in it as one entry with the bytes below it."""
    prefix = f"{folder}/" if folder else ""
    level: dict[str, FileEntry] = {}
    for entry in entries:
        if entry.path == folder:
            return [entry]
        name, slash, _ = entry.path.removeprefix(prefix).partition("/")
        if not slash:
            level[name] = entry._replace(path=name)
            continue
        known = level.get(f"{name}/")
        size = entry.size + (known.size if known else 0)
        level[f"{name}/"] = entry._replace(path=f"{name}/", size=size, digest="-")
    return list(level.values())


def cat(
    reference: Annotated[str, typer.Argument(metavar="NAME[@VERSION]/PATH", help="A file.")],
    state: options.State = None,
    byte_range: Annotated[
        str | None,
        typer.Option(
            "--range", metavar="A-B", help="Only bytes A to B, both included; A- for the rest."
        ),
    ] = None,
) -> None:
    """Write a file's bytes to standard output."""
    from cachefs.cli.copying import write_all
    from cachefs.cli.session import Session, no_such_file
    from cachefs.core.names import printable
    from cachefs.errors import ConfigError, NotKnownError

    session = Session(state)
    named, version = session.resolve(reference)
    if not named.path:
        raise ConfigError(
            "is a dataset, not a file",
            subject=printable(reference),
            hint=f"`cachefs ls {printable(reference)}` lists its files",
        )
    try:
        entry = version.manifest.find(named.path)
    except NotKnownError as error:
        raise no_such_file(version.manifest, named.dataset, named.path) from error
    offset, end = parse_range(byte_range, entry.size)
    buffer = memoryview(bytearray(min(_CAT_BYTES, max(end - offset, 0))))
    with session.open(version) as opened, opened.file(named.path) as file:
        while offset < end:
            count = file.read_into(offset, buffer[: min(len(buffer), end - offset)])
            write_all(sys.stdout.fileno(), buffer[:count])
            offset += count


def parse_range(text: str | None, size: int) -> tuple[int, int]:
    """Return begin and end of ``A-B`` (both included), ``A-`` or ``-N`` (the last N) of a file.

    Raises:
        ConfigError: It is not a range, or ends before it begins.
    """
    import re

    from cachefs.errors import ConfigError

    if text is None:
        return 0, size
    match = re.fullmatch(r"(\d*)-(\d*)", text, re.ASCII)
    if match is None or not (match[1] or match[2]):
        raise ConfigError(f"not a range: {text!r}", hint="write it like 0-99, 100- or -100")
    if not match[1]:
        return max(0, size - int(match[2])), size
    start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
    if match[2] and end <= start:
        raise ConfigError(f"the range {text} ends before it begins")
    return min(start, size), min(end, size)


def cp(
    reference: Reference,
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="A file or folder; a folder for several files.")
    ],
    state: options.State = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=64, metavar="N", help="Files at once.")
    ] = 4,
) -> None:
    """Copy a file, a folder, or a whole dataset out of the cache.

    A file appears under its name only when it is whole and, where the origin's digest is known,
    right. A copy that fails or is interrupted leaves nothing half-written behind.
    """
    from cachefs.cli.copying import Copy, copy_files, plan_copies
    from cachefs.cli.progress import progress_bar
    from cachefs.cli.session import Session

    session = Session(state)
    named, version = session.resolve(reference)
    copies: list[Copy] = plan_copies(version.manifest, named.path, destination, str(named.dataset))
    total = sum(copy.entry.size for copy in copies)
    with session.open(version) as opened, progress_bar("copying", total) as advance:
        verified = copy_files(opened, copies, jobs=jobs, advance=advance)
    number = "1 file" if len(copies) == 1 else f"{len(copies):,} files"
    checked = "" if not verified else f", {verified:,} of them checked against the origin's digest"
    say(f"copied {number}{checked}")
