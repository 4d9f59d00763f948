"""Mounting, looking at mounts, and what may go wrong before there is one."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from cachefs.fuse.mounts.table import find_mount
from tests.fuse.mounting import FILES, LARGE
from tests.integration.systems import wait_for

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def read_all(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


def test_a_dataset_is_there_when_the_command_returns_and_gone_after_umount(mounts):
    place = mounts.mount("model")
    assert read_all(place) == FILES
    entry = find_mount(place)
    assert (entry.type, entry.source) == ("fuse.cachefs", "cachefs://model")
    assert {"ro", "nosuid", "nodev", "noexec", "default_permissions"} <= entry.options
    mounts.cachefs("umount", place)
    assert list(place.iterdir()) == []
    assert mounts.processes() == []
    assert list(mounts.run_folders.all()) == []


@pytest.mark.parametrize("engine", ["native", "libfuse"])
def test_each_engine_can_be_asked_for_and_says_why_it_serves(mounts, engine):
    place = mounts.mount("model", "--engine", engine)
    assert read_all(place) == FILES
    (found,) = mounts.listed()
    assert found["state"] == "live"
    assert found["engine"] == engine
    assert found["engine_reason"].startswith("as asked; ")
    assert found["recovery"] is (engine == "native")
    mounts.cachefs("umount", place)
    assert mounts.processes() == []


def test_a_version_is_mounted_by_a_prefix_and_shown_whole(mounts, shared_system):
    version = shared_system.api.get("/v1/datasets/default/model")["current"]
    place = mounts.mount(f"model@{version[:8]}")
    assert find_mount(place).source == f"cachefs://model@{version}"


def test_all_datasets_are_mounted_by_namespace_and_name(mounts):
    place = mounts.mount("")
    assert read_all(place / "default" / "model") == FILES
    assert find_mount(place).source == "cachefs"


def test_a_dataset_called_list_is_mounted_by_its_full_name(mounts, shared_system, tmp_path):
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "file").write_bytes(b"of the dataset called list")
    shared_system.add("list", f"file://{tmp_path}/origin")
    place = mounts.place()
    refused = mounts.cachefs("mount", "list", place, code=2)
    assert "default/list" in refused.stderr
    mounts.cachefs("mount", "default/list", place)
    assert (place / "file").read_bytes() == b"of the dataset called list"


def test_two_mounts_of_one_dataset_do_not_know_of_each_other(mounts):
    places = [mounts.mount("model", at=mounts.place(name)) for name in ("a", "b")]
    assert [read_all(place) for place in places] == [FILES, FILES]
    mounts.cachefs("umount", places[0])
    assert read_all(places[1]) == FILES


def test_mounting_the_same_again_is_no_failure_and_something_else_is(mounts):
    place = mounts.mount("model")
    before = mounts.record(place)
    assert "already" in mounts.cachefs("mount", "model", place).stderr
    assert mounts.record(place) == before
    refused = mounts.cachefs("mount", "--all", place, code=10)
    assert "cachefs://model is mounted there" in refused.stderr
    assert len(mounts.listed()) == 1


def test_two_commands_at_once_make_one_mount(mounts):
    place = mounts.place()
    running = [
        subprocess.Popen(
            mounts.command("mount", "model", place), env=mounts.environment, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1].decode() for process in running]
    codes = sorted(process.returncode for process in running)
    assert codes in ([0, 0], [0, 10]), said
    assert read_all(place) == FILES
    mounts.cachefs("umount", place)
    assert find_mount(place) is None
    assert mounts.processes() == []


@pytest.mark.parametrize(
    ("make", "words", "code", "said"),
    [
        (lambda place: None, [], 2, "mkdir"),
        (lambda place: place.write_bytes(b""), [], 2, "not a folder"),
        (lambda place: (place.mkdir(), (place / "f").touch()), [], 2, "--nonempty"),
        (lambda place: place.mkdir(), ["--umask", "999"], 2, "octal"),
        (lambda place: place.mkdir(), ["--engine", "steam"], 2, "not an engine"),
    ],
    ids=["missing", "a file", "not empty", "umask", "engine"],
)
def test_what_cannot_be_mounted_is_said_before_anything_is_started(mounts, make, words, code, said):
    place = mounts.folder / "place"
    make(place)
    refused = mounts.cachefs("mount", *words, "model", place, code=code)
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert mounts.processes() == []
    assert list(mounts.run_folders.all()) == []


def test_a_folder_with_files_can_be_mounted_on_if_one_says_so(mounts):
    place = mounts.place()
    (place / "hidden").write_bytes(b"below")
    mounts.mount("model", "--nonempty")
    assert read_all(place) == FILES
    mounts.cachefs("umount", place)
    assert (place / "hidden").read_bytes() == b"below"


@pytest.mark.parametrize(
    ("reference", "code"), [("nothing", 4), ("model@0123abcd", 4), ("model/config.json", 2)]
)
def test_a_dataset_that_is_not_there_is_an_error_of_the_command(mounts, reference, code):
    refused = mounts.cachefs("mount", reference, mounts.place(), code=code)
    assert refused.stderr.startswith("error: ")
    assert find_mount(mounts.place()) is None


def test_a_system_that_does_not_run_is_an_error_of_the_command(mounts, tmp_path):
    refused = mounts.cachefs("mount", "--state", tmp_path / "none", "model", mounts.place(), code=3)
    assert "not running" in refused.stderr


@pytest.mark.parametrize("name", ["with space", "new\nline", "tab\tand\\back", "模型", "#hash"])
def test_mount_points_of_any_name_are_mounted_listed_and_unmounted(mounts, name):
    place = mounts.mount("model", at=mounts.place(name))
    assert (place / "config.json").read_bytes() == FILES["config.json"]
    (found,) = mounts.listed()
    assert Path(found["mountpoint"]) == place
    assert found["state"] == "live"
    mounts.cachefs("umount", place)
    assert find_mount(place) is None


def test_a_mount_point_whose_name_is_not_unicode(mounts):
    place = Path(os.fsdecode(os.fsencode(mounts.folder) + b"/not-\xff-unicode"))
    place.mkdir()
    mounts.cachefs("mount", "model", place)
    assert (place / "config.json").read_bytes() == FILES["config.json"]
    (found,) = mounts.listed()
    assert Path(found["mountpoint"]) == place
    mounts.cachefs("umount", place)
    assert find_mount(place) is None


def test_a_link_to_a_mount_point_is_as_good_as_the_folder_itself(mounts):
    place = mounts.place()
    link = mounts.folder / "link"
    link.symlink_to(place)
    mounts.cachefs("mount", "model", link)
    assert read_all(place) == FILES
    mounts.cachefs("umount", link)
    assert find_mount(place) is None


def test_owner_and_modes_are_as_asked(mounts):
    place = mounts.mount("model", "--uid", 1234, "--gid", 4321, "--umask", "027", "--allow-other")
    file, folder = (place / "config.json").stat(), place.stat()
    assert (file.st_uid, file.st_gid, file.st_mode & 0o777) == (1234, 4321, 0o440)
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (1234, 4321, 0o550)
    assert "allow_other" in find_mount(place).options


def test_a_mount_in_the_foreground_ends_with_ctrl_c(mounts):
    place = mounts.place()
    process = subprocess.Popen(
        mounts.command("mount", "--foreground", "model", place),
        env=mounts.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process.stderr:
        wait_for(lambda: find_mount(place) is not None and (place / "config.json").exists())
        assert read_all(place) == FILES
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
    assert process.wait(20) == 0
    assert "is mounted on" in said
    assert find_mount(place) is None
    assert mounts.processes() == []


def test_the_keeper_unmounts_at_sigterm_and_lets_open_files_be_read_on_for_a_while(mounts):
    mounts.set(mount__unmount_seconds="1s")
    place = mounts.mount("model")
    record = mounts.record(place)
    file = os.open(place / LARGE, os.O_RDONLY)
    assert os.pread(file, 100, 0) == FILES[LARGE][:100]
    os.kill(record.keeper.pid, signal.SIGTERM)
    wait_for(lambda: find_mount(place) is None)
    assert os.pread(file, 100, 2_000_000) == FILES[LARGE][2_000_000:][:100]
    wait_for(lambda: mounts.processes() == [])
    with suppress(OSError):  # What is left of the mount has ended.
        os.close(file)


def test_a_mount_list_names_everything_a_person_asks_for(mounts):
    place = mounts.mount("model")
    (found,) = mounts.listed()
    assert found["system"] == mounts.environment["CACHEFS_STATE"]
    assert Path(found["log"]).exists()
    assert {found["keeper"], found["server"]} == set(mounts.processes())
    table = mounts.cachefs("mount", "list").stdout
    assert str(place) in table
    assert "live" in table


def may_lower_scores() -> bool:
    """Say whether this process has CAP_SYS_RESOURCE, which some containers' root has not."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 24 & 1)


def test_the_keeper_is_small_and_the_first_to_be_spared(mounts):
    place = mounts.mount("model")
    record = mounts.record(place)
    keeper, server = (Path(f"/proc/{process.pid}") for process in record.processes)
    loaded = (keeper / "maps").read_text()
    assert "grpc" not in loaded
    assert "xxhash" not in loaded
    own = Path("/proc/self/oom_score_adj").read_text()
    assert (server / "oom_score_adj").read_text() == own
    assert (keeper / "oom_score_adj").read_text() == ("-900\n" if may_lower_scores() else own)


def test_nothing_secret_is_in_arguments_environment_or_run_folder(mounts, shared_system):
    place = mounts.mount("model")
    token = (shared_system.folder / "token").read_text().strip()
    record = mounts.record(place)
    texts = [Path(f"/proc/{each.pid}/cmdline").read_text() for each in record.processes]
    texts += [Path(f"/proc/{each.pid}/environ").read_text() for each in record.processes]
    ((folder, _),) = mounts.run_folders.all()
    texts += [path.read_text() for path in folder.path.rglob("*.json")]
    texts.append(folder.log.read_text())
    assert all(token not in text for text in texts)
    assert json.loads(folder.plan.read_text())["mount"]["token_file"].endswith("/token")
