"""Programs of the system read the mount as they read a plain folder of the same content."""

import shutil
import sqlite3
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.fuse.mounting import MIB
from tests.fuse.programs import (
    GIT,
    VERIFIED,
    needs,
    run,
    show,
    verifying,
    write_folder,
)
from tests.fuse.shown import HUGE, MARKS

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

ENTRIES = ("--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=a=rX")
"""What tar shall leave out: whatever a mount cannot have as the origin has it."""


@pytest.fixture(scope="module")
def folders(shared_system, engine, tmp_path_factory):
    """The mount, and the plain folder.

    One file is held open from the begin, when none of its bytes are here: the native engine then
    answers for it as long as that lasts, while it passes the other through as soon as it is here.
    """
    for mounted, plain in show(shared_system, tmp_path_factory, engine, "programs", write_folder):
        held = (mounted / VERIFIED[-1]).open("rb") if shutil.which("fio") else nullcontext()
        with held:
            yield mounted, plain


def same(folders: tuple[Path, Path], *words: object, **environment: str) -> str:
    """Return what a program says in either folder, after it has said it in both."""
    mounted, plain = (run(*words, at=folder, **environment) for folder in folders)
    assert mounted.stdout == plain.stdout
    assert mounted.stderr == plain.stderr
    assert plain.stdout
    return plain.stdout


# ---- bytes --------------------------------------------------------------------------------------


@needs("fio")
@pytest.mark.parametrize(
    "how",
    [
        "--rw=read --ioengine=psync",
        "--rw=read --ioengine=mmap",
        "--rw=read --ioengine=splice",
        "--rw=randread --ioengine=mmap",
        "--rw=randread --ioengine=pvsync2 --numjobs=4 --thread",
        "--rw=randread --ioengine=libaio --iodepth=16 --direct=1",
        "--rw=randread --ioengine=io_uring --iodepth=16 --numjobs=2",
    ],
)
@pytest.mark.parametrize("name", VERIFIED)
def test_fio_finds_every_block_where_it_belongs(folders, tmp_path, name, how):
    run("fio", *verifying(folders[0] / name), *how.split(), "--readonly", at=tmp_path)


@needs("fio")
def test_fio_would_find_a_wrong_byte(folders, tmp_path):
    copy = tmp_path / "verified.bin"
    content = bytearray((folders[0] / "verified.bin").read_bytes())
    content[3 * MIB + 500] ^= 1
    copy.write_bytes(content)
    words = [*verifying(copy), "--rw=randread", "--readonly"]
    assert "verify failed" in run("fio", *words, at=tmp_path, code=1).stderr


def test_sha256sum_agrees_with_the_sums_of_the_plain_folder(folders, tmp_path):
    sums = tmp_path / "sums"
    sums.write_text(run(*FIND, "-exec", "sha256sum", "{}", "+", at=folders[1]).stdout)
    said = run("sha256sum", "--check", "--strict", "--quiet", sums, at=folders[0])
    assert said.stdout == said.stderr == ""
    (tmp_path / "wrong").write_text(sums.read_text().replace("a", "b"))
    run("sha256sum", "--check", tmp_path / "wrong", at=folders[0], code=1)


FIND = ("find", ".", "-path", "./repository", "-prune", "-o", "-type", "f")


@pytest.mark.parametrize(
    "how",
    [
        "bs=4099",
        "bs=1M iflag=direct",
        "bs=512 iflag=direct,skip_bytes skip=1048576 count=77",
        "bs=3 skip=1747626 count=9000",
        "bs=7M iflag=nocache",
        "bs=64k iflag=nonblock,noatime,sync",
        "bs=100 skip=5246877 iflag=skip_bytes",
        "bs=1M skip=9",
    ],
)
def test_dd_of_any_size_gives_the_same(folders, tmp_path, how):
    copies = []
    for folder in folders:
        copy = tmp_path / str(len(copies))
        words = ("dd", f"if={folder}/large.bin", f"of={copy}", *how.split(), "status=none")
        run(*words)
        copies.append(copy.read_bytes())
    assert copies[0] == copies[1]
    assert copies[1] or "skip=9" in how


@pytest.mark.parametrize(
    "words",
    [
        ("head", "-c", "1000003"),
        ("head", "-c", "-4000000"),
        ("tail", "-c", "999"),
        ("tail", "-c", "+5000000"),
        ("tail", "-n", "3"),
        ("wc",),
        ("od", "-A", "d", "-t", "x1", "-j", "5200000"),
        ("split", "-n", "2/3"),
        ("cksum",),
        ("cmp", "-i", "3:3", "large.bin"),
    ],
)
def test_parts_of_files_are_those_of_the_plain_folder(folders, tmp_path, words):
    said = {
        run(*words, folder / "large.bin", at=folder).stdout.replace(str(folder), "")
        for folder in folders
    }
    assert len(said) == 1
    assert said != {""} or words[0] == "cmp"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tail -c 3", b"end"),
        ("head -c 5", b"begin"),
        (f"dd status=none bs=19 count=1 iflag=skip_bytes skip={2**32 - 2} if=", MARKS[2**32 - 2]),
    ],
)
def test_programs_reach_behind_4_gib(shown, words, said):
    """The huge file is of zeros, with a word at the begin, at the 4 GiB mark, and at the end."""
    *words, last = words.split()
    place = [last + str(shown / HUGE)] if last.endswith("=") else [last, shown / HUGE]
    assert run(*words, *place).stdout == said.decode()


def test_tail_follows_a_file_that_never_grows(folders):
    words = ("timeout", "1", "tail", "-c", "20", "-f", "zeros.bin")
    said = {run(*words, at=folder, code=124).stdout for folder in folders}
    assert len(said) == 1
    assert said.pop().endswith("end")


def test_grep_finds_what_is_there(folders):
    words = ("grep", "-r", "-c", "line 100 of", "--include=*.txt", ".")
    found = [sorted(run(*words, at=folder).stdout.splitlines()) for folder in folders]
    assert found[0] == found[1]
    assert any(line.endswith(":1") for line in found[0])


# ---- folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "find . -type f -printf %p\\0%s\\0",
        "find . -type d -printf %p\\0",
        "find . -name *.txt -size +20k -print0",
        "find . -empty -print0",
        "du --apparent-size -b -a -0 --exclude=repository texts names",
        "ls -lR --time-style=+ -b -g -G -o --quoting-style=escape texts",
        "stat --printf=%n\\0%s\\0%F\\0 large.bin texts names/-n",
    ],
)
def test_a_walk_finds_the_same_names_sizes_and_kinds(folders, words):
    said = [_walked(run(*words.split(), at=folder).stdout) for folder in folders]
    assert said[0] == said[1]
    assert words.startswith("find . -empty") or said[0]


def _walked(said: str) -> list[str]:
    """Return what a walk says in one order, less what of folders depends on the file system."""
    parts = said.split("\0") if "\0" in said else said.splitlines()
    kept = (part for part in parts if not part.startswith(("d", "total ")))
    return sorted(part.replace("-rw-r--r--", "-r--r--r--").strip("0123456789 \t") for part in kept)


def test_ls_and_stat_say_the_same_of_a_file(folders):
    place = folders[0] / "large.bin"
    status = place.stat()
    said = run("stat", "-c", "%i %s %b %B %h %a %u %g %Y", place).stdout.split()
    assert said == [
        str(number)
        for number in (
            status.st_ino,
            5 * MIB + 4097,
            -(-(5 * MIB + 4097) // 512),
            512,
            1,
            "444",
            status.st_uid,
            status.st_gid,
            int(status.st_mtime),
        )
    ]
    assert run("ls", "-i", place).stdout.split()[0] == str(status.st_ino)


def test_diff_finds_no_difference(folders):
    said = run("diff", "-r", "--exclude=repository", *folders)
    assert said.stdout == said.stderr == ""


def test_shells_match_names(folders):
    words = ("sh", "-c", "printf '%s|' names/* texts/*/1?.txt; cat ./names/*")
    assert "two\nlines" in same(folders, *words)


# ---- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    ["-a", "-r --reflink=auto", "-r --sparse=always", "-r --sparse=never", "-rL --preserve=all"],
)
def test_cp_copies_everything(folders, tmp_path, how):
    copy = tmp_path / "copy"
    said = run("cp", *how.split(), folders[0], copy)
    assert said.stderr == ""
    run("diff", "-r", "--exclude=repository", copy, folders[1])
    if "-a" in how:
        assert (copy / "large.bin").stat().st_mtime_ns == (
            (folders[0] / "large.bin").stat().st_mtime_ns
        )


def test_cp_cannot_make_two_file_systems_share(folders, tmp_path):
    run("cp", "--reflink=always", folders[0] / "large.bin", tmp_path / "copy", code=1)


@needs("rsync")
def test_rsync_has_nothing_to_do_after_a_copy(folders, tmp_path):
    copy = tmp_path / "copy"
    source = f"{folders[0]}/"
    run("rsync", "-a", source, copy)
    run("diff", "-r", "--exclude=repository", copy, folders[1])
    for how in ("-a", "-ac", "-aHA"):
        assert run("rsync", "--dry-run", "--itemize-changes", how, source, copy).stdout == ""
    # Sizes and bytes are the origin's; times and modes are the mount's own.
    changes = run("rsync", "-rcn", "--itemize-changes", f"{folders[1]}/", copy).stdout
    assert [line for line in changes.splitlines() if ".git/index" not in line] == []
    (copy / "large.bin").unlink()
    said = run("rsync", "--dry-run", "--itemize-changes", "-a", source, copy).stdout
    assert ">f+++++++++ large.bin" in said


def test_tar_streams_the_same_bytes(folders):
    words = ("tar", *ENTRIES, "--exclude=.git", "-cf", "-", ".")
    assert same(folders, "sh", "-c", '"$@" | sha256sum', "sh", *words)


def test_tar_packs_and_finds_no_difference(folders, tmp_path):
    run("tar", "-C", folders[0], "-cf", tmp_path / "all.tar", ".")
    assert run("tar", "-C", folders[0], "--compare", "-f", tmp_path / "all.tar").stdout == ""
    run("tar", "-C", tmp_path, "--one-top-level=out", "-xf", tmp_path / "all.tar")
    run("diff", "-r", "--exclude=repository", tmp_path / "out", folders[1])


# ---- git ----------------------------------------------------------------------------------------


def git(folders, *words, **environment):
    """Return what git says of the repository, in both folders."""
    # The owner may be another than who reads, of which git is wary.
    safe = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    mounted, plain = (
        run("git", "-C", folder / "repository", *words, **GIT, **safe, **environment).stdout
        for folder in folders
    )
    assert mounted == plain
    return plain


@needs("git")
def test_git_reads_history_and_objects(folders):
    log = git(folders, "log", "--stat", "--format=%H %s")
    assert log.count("number") == 6
    assert git(folders, "show", "v1:folder/3.txt") == "3\n" * 2000
    git(folders, "fsck", "--full", "--strict")
    assert git(folders, "rev-list", "--objects", "--all", "--count") != "0\n"
    git(folders, "blame", "a.txt")
    git(folders, "grep", "-c", "5", "v1")
    git(folders, "verify-pack", "-s", *_packs(folders[0]))


def _packs(folder: Path) -> list[str]:
    repository = folder / "repository"
    return [
        str(each.relative_to(repository)) for each in repository.glob(".git/objects/pack/*.idx")
    ]


@needs("git")
def test_git_finds_the_files_as_they_were_committed(folders):
    assert git(folders, "status", "--porcelain") == ""
    assert git(folders, "diff", "--stat", "HEAD") == ""
    assert git(folders, "diff", "--stat", "HEAD~1") != ""


@needs("git")
@pytest.mark.parametrize("how", ["--no-hardlinks", "--no-local", "--shared"])
def test_git_clones_from_the_mount(folders, tmp_path, how):
    clone = tmp_path / "clone"
    source = folders[0] / "repository"
    safe = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    run("git", "clone", "-q", how, source, clone, **GIT, **safe)
    run("git", "-C", clone, "fsck", "--full", "--strict", **GIT, **safe)
    run("diff", "-r", "--exclude=.git", clone, folders[1] / "repository")


@needs("git")
def test_git_says_that_it_cannot_commit(folders):
    said = run("git", "-C", folders[0] / "repository", "tag", "new", **GIT, code=128).stderr
    assert "Read-only file system" in said


# ---- sqlite -------------------------------------------------------------------------------------

QUERY = "select count(*), sum(size), min(name), max(name) from rows where name > '8'"


@needs("sqlite3")
@pytest.mark.parametrize(
    "how", ["rows.db", "file:rows.db?mode=ro", "file:rows.db?immutable=1", "file:rows.db?nolock=1"]
)
def test_sqlite_reads_a_database(folders, how):
    said = same(folders, "sqlite3", how, f"pragma integrity_check; {QUERY}")
    assert said.startswith("ok\n15")


def test_sqlite_maps_a_database_and_cannot_write_it(folders):
    with sqlite3.connect(f"file:{folders[0]}/rows.db?mode=ro", uri=True) as rows:
        rows.execute("pragma mmap_size = 100000000")
        assert rows.execute("pragma quick_check").fetchall() == [("ok",)]
        count = rows.execute(QUERY).fetchone()[0]
        found = rows.execute("select size from rows where id = 20000").fetchone()
    rows.close()
    assert count > 10_000
    assert found == (20_000 * 7919 % 1000,)
    rows = sqlite3.connect(folders[0] / "rows.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        rows.execute("delete from rows")
    rows.close()
