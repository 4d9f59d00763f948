"""``doctor``, ``status`` and ``down`` know of mounts; what is stale is cleared away, and nothing else."""

import json
import os
import signal

import pytest

from cachefs.fuse.mounts.table import find_mount
from tests.fuse.mounting import FILES, LARGE, Mounts
from tests.integration.systems import wait_for

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def kill_server(mounts, place):
    os.kill(mounts.record(place).server.pid, signal.SIGKILL)
    wait_for(lambda: not mounts.record(place).alive)


def findings(mounts, *words):
    # Mounts of other tests are in the mount namespace of the process that runs them.
    done = mounts.cachefs("doctor", "--json", *words, code=None)
    return [
        each
        for each in json.loads(done.stdout)
        if each["check"] == "mounting" or str(mounts.folder) in each["message"]
    ]


def test_doctor_says_which_engine_would_serve_and_why(mounts):
    (engine, *_) = [each for each in findings(mounts) if each["check"] == "mounting"]
    assert engine["level"] == "ok"
    assert engine["message"].startswith("engine native: Linux ")


def test_doctor_finds_dead_mounts_and_fix_clears_them_away_and_no_live_one(mounts):
    live = mounts.mount("model", at=mounts.place("live"))
    dead = mounts.mount("model", "--no-recovery", at=mounts.place("dead"))
    kill_server(mounts, dead)
    levels = {
        each["message"].partition(":")[0]: each["level"]
        for each in findings(mounts)
        if each["check"] == "mounts"
    }
    assert levels == {str(live): "ok", str(dead): "problem"}
    (fixed, *after) = [each for each in findings(mounts, "--fix") if each["check"] == "mounts"]
    assert fixed["message"].startswith(f"{dead}: what was left")
    assert [each["message"].partition(":")[0] for each in after] == [str(live)]
    assert find_mount(dead) is None
    assert (live / LARGE).read_bytes() == FILES[LARGE]
    assert [record.mountpoint for _, record in mounts.run_folders.all()] == [live]


def test_a_run_folder_of_which_nothing_else_is_left_is_cleared_away(mounts):
    place = mounts.mount("model")
    for process in mounts.record(place).processes:
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: mounts.processes() == [])
    mounts.system("umount", place)
    assert [each["level"] for each in findings(mounts) if each["check"] == "mounts"] == ["problem"]
    assert mounts.listed() == []
    findings(mounts, "--fix")
    assert list(mounts.run_folders.all()) == []


def test_a_new_mount_clears_such_folders_away_by_itself(mounts):
    place = mounts.mount("model")
    for process in mounts.record(place).processes:
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: mounts.processes() == [])
    mounts.system("umount", place)
    other = mounts.mount("model", at=mounts.place("other"))
    assert [record.mountpoint for _, record in mounts.run_folders.all()] == [other]


def test_status_names_the_mounts_of_the_system(mounts):
    place = mounts.mount("model")
    document = json.loads(mounts.cachefs("status", "--json").stdout)
    assert [each["mountpoint"] for each in document["mounts"]] == [str(place)]
    assert f"{place}: cachefs://model, live" in mounts.cachefs("status").stdout


def test_down_unmounts_what_is_idle_and_says_who_uses_the_rest(tmp_path):
    mounts = Mounts(tmp_path / "state", tmp_path)
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "file").write_bytes(b"content")
    try:
        mounts.cachefs("up", "--detach", "--disk", "64MiB")
        mounts.cachefs("dataset", "add", "d", f"file://{tmp_path}/origin")
        idle, busy = mounts.mount("d", at=mounts.place("idle")), mounts.place("busy")
        mounts.mount("d", at=busy)
        file = os.open(busy / "file", os.O_RDONLY)
        assert os.read(file, 10) == b"content"
        said = mounts.cachefs("down").stderr
        assert f"unmounted {idle}" in said
        assert f"{busy} is in use: " in said
        assert find_mount(idle) is None
        assert (busy / "file").stat().st_size == len(b"content")
        os.close(file)
    finally:
        mounts.close()
        mounts.cachefs("down")
