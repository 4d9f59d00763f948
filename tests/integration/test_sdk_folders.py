"""Folders of a dataset's files: links to what is whole on this node, copies of the rest."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from cachefs.errors import CapacityError, ConfigError, NotKnownError
from cachefs.sdk import folders, open_dataset
from cachefs.sdk.folders import LocalFolder, keep_settings, pin
from tests.integration.sdk_systems import running

pytestmark = pytest.mark.slow

LARGE = os.urandom(3 * 1024 * 1024 + 17)
FILES = {
    "config.json": b'{"layers": 2}',
    "model.safetensors": LARGE,
    "pytorch_model.bin": b"a pickle",
    "sub/tokenizer.json": b"{}",
    "sub/empty.txt": b"",
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin")
    for path, content in FILES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def system(origin, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    with running(run, {"model": origin, "cold": origin}, ("model",)) as system:
        yield system


@pytest.fixture(scope="module")
def spread(origin, tmp_path_factory):
    """No worker of two has the large file whole."""
    run = tmp_path_factory.mktemp("spread")
    with running(run, {"model": origin}, ("model",), workers=2) as system:
        yield system


def files_in(folder):
    found = sorted(each for each in Path(folder).rglob("*") if each.is_file())
    return {str(each.relative_to(folder)): each.read_bytes() for each in found}


def test_what_is_whole_on_this_node_is_linked(system):
    with LocalFolder("cachefs://model", state=system.folder) as folder:
        place = Path(folder, "model.safetensors")
        assert place.is_symlink()
        assert not Path(folder, "config.json").is_symlink()
        reader = [sys.executable, "-c", "import sys; print(len(open(sys.argv[1], 'rb').read()))"]
        size = subprocess.run([*reader, place], capture_output=True, check=True, text=True).stdout
        assert int(size) == len(LARGE)
        assert files_in(folder) == {
            path: content for path, content in FILES.items() if path != "pytorch_model.bin"
        }
    assert not Path(folder.path).exists()


def test_what_is_not_whole_on_this_node_is_copied(spread):
    with LocalFolder("cachefs://model", state=spread.folder, leave_out=lambda _: False) as folder:
        assert not Path(folder, "model.safetensors").is_symlink()
        assert files_in(folder) == FILES
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700


def test_a_folder_goes_when_it_is_forgotten(system):
    folder = LocalFolder("cachefs://model/sub", state=system.folder)
    path = Path(folder)
    assert files_in(path) == {"tokenizer.json": b"{}", "empty.txt": b""}
    del folder
    assert not path.exists()


def test_a_folder_that_is_not_there_is_not_known(system, tmp_path):
    with pytest.raises(NotKnownError, match="no such folder"):
        LocalFolder("cachefs://model/nothing", state=system.folder, into=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_leaves_nothing(system, tmp_path, monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(CapacityError, match="no room for"):
        LocalFolder("cachefs://model", state=system.folder, into=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_everything_but_the_weights(system, tmp_path):
    folder, reference = keep_settings("cachefs://model", root=tmp_path, state=system.folder)
    wanted = {path: FILES[path] for path in ("config.json", "sub/empty.txt", "sub/tokenizer.json")}
    assert files_in(folder) == wanted
    with open_dataset("model", state=system.folder) as dataset:
        assert reference == f"cachefs://model@{dataset.version}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    inside, _ = keep_settings("cachefs://model/sub", root=tmp_path, state=system.folder)
    assert inside != folder
    assert sorted(files_in(inside)) == ["empty.txt", "tokenizer.json"]


def test_settings_are_brought_once_and_again_where_they_are_missing(system, tmp_path):
    folder, _ = keep_settings("cachefs://model", root=tmp_path, state=system.folder)
    before = (folder / "config.json").stat()
    (folder / "sub/tokenizer.json").unlink()
    again = partial(keep_settings, "cachefs://model", root=tmp_path, state=system.folder)
    with ThreadPoolExecutor(4) as pool:
        found = {each.result() for each in [pool.submit(again) for _ in range(4)]}
    assert len(found) == 1
    assert (folder / "config.json").stat().st_ino == before.st_ino
    assert (folder / "sub/tokenizer.json").read_bytes() == b"{}"


def test_settings_are_not_kept_where_others_may_write(system, tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write"):
        keep_settings("cachefs://model", root=tmp_path, state=system.folder)


def test_settings_are_below_the_user_s_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folders.settings_root() == tmp_path / "cachefs/settings"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert folders.settings_root() == Path("~/.cache/cachefs/settings").expanduser()


def test_a_reference_is_pinned_to_the_version_that_it_means_now(system):
    with open_dataset("model", state=system.folder) as dataset:
        version = dataset.version
    assert pin("cachefs://model/sub", state=system.folder) == f"cachefs://model@{version}/sub"
    assert pin(f"cachefs://model@{version}", state="nowhere") == f"cachefs://model@{version}"
