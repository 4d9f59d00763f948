"""What programs are tried on: one folder of theirs, mounted, and how they are run.

A program is run twice with the same words, once on a plain folder and once on the mount of the same
content, and has to say the same. So there is nothing that the two may differ in: no links, no empty
folders, no file that may be run. The plain folder is a copy of the origin, because programs write
into it (git refreshes its index), which would change the origin under the mount.
"""

import os
import shutil
import sqlite3
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuse.mounting import MIB, Mounts, content

SECONDS = 60
TEXTS = 40
ROWS = 30_000
VERIFIED = ("verified.bin", "held.bin")
VERIFIED_BYTES = 6 * MIB
GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
}
"""Nobody's settings, and commits that are always the same."""


def needs(package: str, program: str = "") -> pytest.MarkDecorator:
    """Skip a test if a program is not there."""
    missing = shutil.which(program or package) is None
    return pytest.mark.skipif(missing, reason=f"needs Debian's package {package}")


def run(
    *words: object, at: Path | None = None, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder; it must end with that exit code."""
    done = subprocess.run(
        list(map(str, words)),
        cwd=at,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == code, f"{words}: {done.returncode}: {done.stderr or done.stdout}"
    return done


def show(shared_system, folders, engine: str, name: str, write) -> Iterator[tuple[Path, Path]]:
    """Yield the mount of a dataset, and a plain folder like it; both are written at first use."""
    origin = shared_system.folder / f"origin-of-{name}"
    plain = shared_system.folder / f"plain-{name}"
    if not plain.exists():
        origin.mkdir()
        write(origin)
        shared_system.add(name, f"file://{origin}")
        run("cp", "-a", origin, plain)
    made = Mounts(shared_system.folder, folders.mktemp(f"{name}-{engine}"))
    try:
        yield made.mount(name, "--engine", engine), plain
    finally:
        made.close()


def write_folder(folder: Path) -> None:
    """Write what the programs of ``test_programs.py`` read."""
    for number in range(TEXTS):
        place = folder / "texts" / f"part {number % 5}" / f"{number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(f"line {line} of {number}\n" for line in range(number * 37)))
    for name in ("two\nlines", "quote'\"", "-n", "nai\u0308ve", "é" * 127, "\\", "$HOME", " "):
        place = folder / "names" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(name)
    (folder / "large.bin").write_bytes(content("large", 5 * MIB + 4097))
    (folder / "zeros.bin").write_bytes(bytes(3 * MIB) + b"end")
    with zipfile.ZipFile(folder / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for place in sorted((folder / "texts").rglob("*.txt")):
            archive.write(place, place.relative_to(folder))
    with sqlite3.connect(folder / "rows.db") as rows:
        rows.execute("create table rows (id integer primary key, name text, size integer)")
        rows.execute("create index by_name on rows (name)")
        draw = ((at, content(f"{at}", 24).hex(), at * 7919 % 1000) for at in range(ROWS))
        rows.executemany("insert into rows values (?, ?, ?)", draw)
    rows.close()
    if shutil.which("git"):
        _write_repository(folder / "repository")
    if shutil.which("fio"):
        for name in VERIFIED:
            write_verified(folder / name)


def _write_repository(place: Path) -> None:
    """Write a repository with packed and loose objects, without anything that may be run."""
    git = ("git", "-C", place, "-c", "gc.auto=0")
    run("git", "init", "-q", "-b", "main", "--template=", place, **GIT)
    for number in range(6):
        for name in ("a.txt", f"folder/{number}.txt"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(f"{number}\n" * 2000)
        run(*git, "add", ".", **GIT)
        run(*git, "commit", "-q", "-m", f"number {number}", **GIT)
        if number == 3:
            run(*git, "repack", "-a", "-d", "-q", **GIT)
    run(*git, "tag", "-a", "-m", "a tag", "v1", **GIT)


def write_verified(place: Path) -> None:
    """Write a file whose blocks say, in each, where they belong and what they sum up to."""
    run("fio", *verifying(place), "--rw=write", "--do_verify=0", at=place.parent)


def verifying(place: Path, *words: str) -> list[str]:
    """Return fio's words for a file that it checks."""
    return [
        "--name=verified",
        f"--filename={place}",
        f"--size={VERIFIED_BYTES}",
        "--bs=64k",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--randseed=11",
        "--verify_state_save=0",
        *words,
    ]
