"""Run folders: what commands learn of mounts, and what is left of dead ones."""

import os
from pathlib import Path

import pytest

from cachefs.errors import ConfigError, ConflictError
from cachefs.fuse.mounts.runfolder import MountRecord, RunFolder, RunFolders
from cachefs.transport.processes import ProcessRecord
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()


def record(**changes):
    known = {
        "mountpoint": Path("/mnt/with space\n\udcff"),
        "source": "cachefs://d",
        "engine": "native",
        "engine_reason": "",
        "recovery": True,
        "since": 12.5,
    }
    return MountRecord(**{**known, **changes})


@pytest.fixture
def folders(tmp_path):
    return RunFolders(tmp_path / "run")


def test_a_record_is_read_as_it_was_written_whatever_the_path(folders):
    written = record(
        device="0:45", keeper=ProcessRecord.of("keeper", os.getpid()), failure="it died", restarts=3
    )
    folder = folders.create(written.mountpoint)
    folder.write(written)
    assert folder.read() == written
    assert [each for _, each in folders.all()] == [written]
    assert written.alive


def test_a_record_of_processes_that_are_gone_is_not_alive():
    assert not record().alive
    assert not record(server=ProcessRecord("server", os.getpid(), "another boot/1")).alive


def test_folders_of_one_mount_point_are_two_and_closed_to_others(folders):
    made = [folders.create(Path("/mnt")) for _ in range(2)]
    assert made[0].path != made[1].path
    for path in (folders.path, *(folder.path for folder in made)):
        assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keeper": 1, "server": null}', "\x00"])
def test_what_is_no_record_is_none(folders, text):
    folder = folders.create(Path("/mnt"))
    (folder.path / "mount.json").write_text(text)
    assert folder.read() is None
    assert list(folders.all()) == []


def test_a_folder_that_others_may_enter_is_refused(folders):
    folders.path.mkdir()
    folders.path.chmod(0o755)  # whatever the umask is
    with pytest.raises(ConfigError, match="closed to others"):
        folders.create(Path("/mnt"))


def test_one_command_at_a_time_holds_the_lock(folders):
    with folders.locked(RUNTIME, seconds=1.0):
        began = RUNTIME.monotonic()
        with (
            pytest.raises(ConflictError, match="just now"),
            folders.locked(RUNTIME, seconds=0.1),
        ):
            pytest.fail("two hold it")
        assert RUNTIME.monotonic() - began < 1.0
    with folders.locked(RUNTIME, seconds=1.0):
        pass


def test_a_log_is_bounded_and_its_writers_go_on(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.log.open("ab", buffering=0) as log:
        log.write(b"old\n" * 400_000)
        folder.bound_log()
        log.write(b"new\n")
    assert folder.log.read_bytes() == b"new\n"
    assert (tmp_path / "log.1").read_bytes().startswith(b"old\n")


def test_removing_what_is_not_there_is_no_failure(tmp_path):
    RunFolder(tmp_path / "none").remove()
