"""How commands and programs find the running system."""

import json
from pathlib import Path

import pytest

from cachefs.config.discovery import discover, run_folder, state_folder
from cachefs.config.files import to_document
from cachefs.config.schema import ClusterConfig
from cachefs.config.secrets import make_token
from cachefs.errors import ConfigError, CoordinatorUnavailableError

DOCUMENT = {
    "coordinator": {"http": "127.0.0.1:5000", "control": "127.0.0.1:5001"},
    "cluster": to_document(ClusterConfig(block_size=1024)),
    "workers": {"worker-1": {"data": "127.0.0.1:4000"}},
}


def made(folder: Path, document=DOCUMENT) -> Path:
    folder.mkdir(parents=True)
    (folder / "cluster.json").write_text(json.dumps(document))
    make_token(folder / "token")
    return folder


def test_a_state_folder_leads_to_the_system(tmp_path):
    endpoint = discover({}, state=made(tmp_path / "state"))
    assert endpoint.coordinator == "127.0.0.1:5000"
    assert endpoint.workers == ("127.0.0.1:4000",)
    assert endpoint.cluster == ClusterConfig(block_size=1024)
    assert endpoint.token.reveal() == (tmp_path / "state" / "token").read_text().strip()


def test_what_is_named_wins_over_the_environment_and_that_over_the_default(tmp_path):
    environment = {"CACHEFS_STATE": str(tmp_path / "b"), "XDG_STATE_HOME": str(tmp_path / "c")}
    assert state_folder(environment, tmp_path / "a") == tmp_path / "a"
    assert state_folder(environment) == tmp_path / "b"
    del environment["CACHEFS_STATE"]
    assert state_folder(environment) == tmp_path / "c" / "cachefs"
    assert state_folder({}) == Path("~/.local/state/cachefs").expanduser()


def test_an_address_needs_only_a_token_file(tmp_path):
    make_token(tmp_path / "secret")
    environment = {
        "CACHEFS_COORDINATOR": "http://cache.example:5000/",
        "CACHEFS_TOKEN_FILE": str(tmp_path / "secret"),
    }
    endpoint = discover(environment)
    assert endpoint.coordinator == "cache.example:5000"
    assert endpoint.state is None
    assert endpoint.token.reveal() == (tmp_path / "secret").read_text().strip()


def test_a_named_folder_wins_over_an_address(tmp_path):
    endpoint = discover({"CACHEFS_COORDINATOR": "other:1"}, state=made(tmp_path / "state"))
    assert endpoint.coordinator == "127.0.0.1:5000"


def test_where_nothing_runs_the_error_says_how_to_start(tmp_path):
    with pytest.raises(CoordinatorUnavailableError) as caught:
        discover({}, state=tmp_path)
    assert "cachefs up" in caught.value.hint


@pytest.mark.parametrize("document", [[], {}, {"coordinator": 1}, {**DOCUMENT, "workers": None}])
def test_a_file_of_another_shape_is_an_error_that_names_it(tmp_path, document):
    folder = made(tmp_path / "state", document)
    with pytest.raises(ConfigError) as caught:
        discover({}, state=folder)
    assert caught.value.subject.endswith("cluster.json")


def test_a_token_that_others_may_read_is_refused(tmp_path):
    folder = made(tmp_path / "state")
    (folder / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        discover({}, state=folder)


def test_the_endpoints_of_a_gateway_are_found_if_there_is_one(tmp_path):
    assert discover({}, state=made(tmp_path / "without")).gateway == {}
    document = {**DOCUMENT, "gateway": {"s3": "127.0.0.1:6000", "hub": "127.0.0.1:6001"}}
    assert discover({}, state=made(tmp_path / "with", document)).gateway == document["gateway"]


def test_the_run_folder_is_the_named_one_or_the_systems_or_the_users():
    assert run_folder({"CACHEFS_RUN": "/r", "XDG_RUNTIME_DIR": "/x"}, 0) == Path("/r")
    assert run_folder({"XDG_RUNTIME_DIR": "/x"}, 0) == Path("/run/cachefs")
    assert run_folder({"XDG_RUNTIME_DIR": "/x"}, 1000) == Path("/x/cachefs")
    assert run_folder({}, 1000) == Path("~/.cache/cachefs/run").expanduser()
