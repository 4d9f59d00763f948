"""The state folder."""

import json
import stat

import pytest

from cachefs.cli.system.statefolder import StateFolder, check_private, read_json, write_json
from cachefs.errors import ConfigError, ConflictError


@pytest.fixture
def folder(tmp_path):
    made = StateFolder(tmp_path / "state")
    made.prepare()
    return made


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_and_its_token_are_closed_to_others(folder):
    assert mode(folder.path) == 0o700
    assert mode(folder.token) == 0o600
    assert len(folder.token.read_text().strip()) >= 32


def test_a_second_start_keeps_the_token(folder):
    token = folder.token.read_text()
    folder.prepare()
    assert folder.token.read_text() == token


def test_a_folder_that_others_may_enter_is_refused(folder):
    folder.path.chmod(0o750)
    with pytest.raises(ConfigError, match="others may enter") as caught:
        folder.prepare()
    assert caught.value.hint.startswith("chmod 700")


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make"):
        StateFolder(tmp_path / "file" / "state").prepare()


def test_only_one_supervisor_holds_a_folder(folder):
    assert not folder.is_locked()
    with folder.locked():
        assert folder.is_locked()
        with pytest.raises(ConflictError, match="running already"), folder.locked():
            pass
    assert not folder.is_locked()


def test_cleaning_up_removes_what_means_nothing_any_more_and_keeps_the_rest(folder):
    write_json(folder.cluster, {})
    write_json(folder.processes, [])
    (folder.worker("worker-1") / "socket").mkdir(parents=True)
    (folder.worker("worker-1") / "socket" / "worker").write_text("")
    (folder.worker("worker-1") / "identity").write_text("kept")
    folder.memory.mkdir(mode=0o700)
    (folder.memory / "block").write_text("")
    folder.clean_up()
    folder.clean_up()
    assert not folder.memory.exists()
    kept = {path.name for path in folder.path.rglob("*") if path.is_file()}
    assert kept == {"token", "identity"}


def test_a_memory_folder_that_is_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "precious").mkdir(mode=0o700)
    folder.memory.symlink_to(tmp_path / "precious")
    try:
        with pytest.raises(ConfigError, match="not a folder of ours"):
            folder.clean_up()
        assert (tmp_path / "precious").exists()
    finally:
        folder.memory.unlink()


def test_two_state_folders_have_two_memory_folders(tmp_path):
    assert StateFolder(tmp_path / "a").memory != StateFolder(tmp_path / "b").memory


def test_a_json_file_is_replaced_whole_or_not_there(tmp_path):
    assert read_json(tmp_path / "a.json") is None
    write_json(tmp_path / "a.json", {"a": 1})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    (tmp_path / "a.json").write_text(json.dumps({"a": 1})[:-1])
    assert read_json(tmp_path / "a.json") is None


def test_a_missing_folder_is_not_private(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_private(tmp_path / "nothing")
