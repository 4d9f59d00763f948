"""Secrets do not leak by formatting, logging or serialising, and their file is guarded."""

import copy
import json
import pickle  # noqa: TID251 - to show that it is refused

import pytest

from cachefs.config.secrets import Secret, make_token, read_token
from cachefs.errors import ConfigError

CANARY = "canary-dummy-value"


def test_no_formatting_shows_the_value():
    secret = Secret(CANARY)
    for shown in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>40}",
        repr([secret]),
    ):
        assert CANARY not in shown


@pytest.mark.parametrize("serialise", [json.dumps, pickle.dumps, copy.deepcopy])
def test_it_cannot_be_serialised(serialise):
    with pytest.raises(TypeError):
        serialise(Secret(CANARY))


def test_it_matches_itself_only():
    secret = Secret(CANARY)
    assert secret.matches(CANARY)
    assert not secret.matches(CANARY + "x")
    assert not secret.matches("")
    assert not secret.matches("\udc80")


def test_a_made_token_is_read_back_and_closed_to_others(tmp_path):
    path = tmp_path / "token"
    made = make_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_token(path).reveal() == made.reveal()
    with pytest.raises(FileExistsError):
        make_token(path)


def test_a_token_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "token"
    make_token(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read"):
        read_token(path)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff"])
def test_a_token_file_without_a_token_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        read_token(path)
