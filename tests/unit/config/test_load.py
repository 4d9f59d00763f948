"""Configuration: precedence, units, and errors that say where."""

import dataclasses
from importlib import resources
from pathlib import Path

import pytest

from cachefs.config import load
from cachefs.config.files import (
    from_document,
    read_process_config,
    to_document,
    write_process_config,
)
from cachefs.config.schema import (
    ClusterConfig,
    FillConfig,
    ReaderConfig,
    TierConfig,
    WorkerConfig,
)
from cachefs.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "cachefs.yaml"
    file.write_text(text)
    return file


def values(settings: load.Settings) -> dict[str, object]:
    return {setting.key: setting.value for setting in settings}


def test_the_published_defaults_are_the_dataclasses_defaults():
    published = resources.files("cachefs.config") / "defaults.yaml"
    with resources.as_file(published) as file:
        loaded = load.load(file=file, environment={})
    assert values(loaded) == values(load.defaults())
    missing = [setting.key for setting in loaded if setting.source == "default"]
    assert missing == [], "keys without a line in defaults.yaml"


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path):
    file = write(
        tmp_path, "reader:\n  deadline_seconds: 1m\n  connections_limit: 2\n  hedge_quantile: 0.5\n"
    )
    environment = {
        "CACHEFS_READER__DEADLINE_SECONDS": "2m",
        "CACHEFS_READER__CONNECTIONS_LIMIT": "3",
    }
    settings = load.load(file=file, environment=environment).with_flags(
        {"reader.deadline_seconds": "3m", "reader.connections_limit": None}
    )
    reader = settings.build("reader", ReaderConfig)
    assert reader.deadline_seconds == 180
    assert reader.connections_limit == 3
    assert reader.hedge_quantile == 0.5
    assert reader.stall_seconds == ReaderConfig().stall_seconds
    sources = {setting.key: setting.source for setting in settings}
    assert sources["reader.deadline_seconds"] == "flag"
    assert sources["reader.connections_limit"] == "$CACHEFS_READER__CONNECTIONS_LIMIT"
    assert sources["reader.hedge_quantile"] == f"{file}:4"
    assert sources["reader.stall_seconds"] == "default"


def test_a_nested_key_can_be_set_from_the_environment():
    settings = load.load(file=None, environment={"CACHEFS_WORKER__FILL__ATTEMPTS_LIMIT": "7"})
    worker = settings.build(
        "worker", WorkerConfig, name="w0", state_folder=Path("/w"), tiers=(), coordinator="c:1"
    )
    assert worker.fill.attempts_limit == 7


def test_other_variables_of_ours_are_not_settings():
    environment = {"CACHEFS_STATE": "/somewhere", "CACHEFS_COORDINATOR": "c:1"}
    assert values(load.load(file=None, environment=environment)) == values(load.defaults())


def test_an_unknown_key_names_its_line_and_the_nearest_key(tmp_path):
    file = write(tmp_path, "reader:\n  deadline_second: 1m\n")
    with pytest.raises(ConfigError) as caught:
        load.load(file=file, environment={})
    assert caught.value.subject == f"{file}:2"
    assert "reader.deadline_seconds" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("reader: [1]\n", "must be a mapping"),
        ("reader:\n  deadline_seconds: soon\n", "not a duration"),
        ("cluster:\n  block_size: 1 parsec\n", "not a size"),
        ("reader:\n  local: perhaps\n", "must be true or false"),
        ("reader:\n  connections_limit: 1.5\n", "whole number"),
        ("reader: &a {}\nworker: *a\n", "aliases"),
        ("reader: {\n", "not YAML"),
        ("reader:\n  deadline_seconds: !!python/object/apply:os.getcwd []\n", "not YAML"),
        ("reader:\n  deadline_seconds: [1]\n", "deadline_seconds"),
        ("worker:\n  zone: [1]\n", "zone"),
    ],
)
def test_a_bad_file_is_refused_with_a_reason(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        load.load(file=write(tmp_path, text), environment={})


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(ConfigError, match="too large"):
        load.load(file=write(tmp_path, "#" * (1024 * 1024 + 1)), environment={})


def test_a_process_configuration_survives_its_file(tmp_path):
    worker = WorkerConfig(
        name="w0",
        state_folder=tmp_path,
        tiers=(TierConfig(folder=tmp_path / "disk", medium="disk", capacity_bytes=1 << 30),),
        coordinator="127.0.0.1:1",
        fill=FillConfig(attempts_limit=2),
    )
    cluster = ClusterConfig(block_size=1 << 20)
    file = tmp_path / "worker.json"
    write_process_config(file, "worker", cluster, worker)
    assert read_process_config(file, "worker", WorkerConfig) == (cluster, worker)


def test_a_wrong_type_names_the_key():
    document = to_document(ReaderConfig()) | {"connections_limit": "four"}
    with pytest.raises(ConfigError, match=r"reader\.connections_limit"):
        from_document(ReaderConfig, document, where="reader.")


def test_the_fingerprint_changes_with_every_field():
    plain = ClusterConfig()
    other = {"block_size": 1, "digest": "blake3", "lease_seconds": 1.0, "wire_version": 2}
    assert set(other) == {field.name for field in dataclasses.fields(ClusterConfig)}
    prints = {
        dataclasses.replace(plain, **{name: value}).fingerprint() for name, value in other.items()
    }
    assert len(prints | {plain.fingerprint()}) == len(other) + 1


def test_what_is_not_yaml_is_an_error_that_names_the_line(tmp_path):
    file = write(tmp_path, "reader:\n  local: [true\n")
    with pytest.raises(ConfigError, match="not YAML") as caught:
        load.load(file=file, environment={})
    assert caught.value.subject == f"{file}:3"


def test_a_file_that_is_not_there_is_an_error_that_says_why(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the file: no such file"):
        load.load(file=tmp_path / "absent.yaml", environment={})
