"""What `cachefs simulate` prints."""

import json
import sys

import pytest
from typer.testing import CliRunner

from cachefs.cli.main import app
from cachefs.errors import ConfigError

HEAD = "gmt_create,exec_time_seconds,checkpoint_model_version_id"


@pytest.fixture
def path(tmp_path):
    rows = [
        f"2024-11-15 16:{at // 60:02}:{at % 60:02},20.0,M{at % 7:04}" for at in range(0, 900, 9)
    ]
    file = tmp_path / "trace.csv"
    file.write_text("\n".join([HEAD, *rows]) + "\n")
    return str(file)


def run(*arguments):
    result = CliRunner().invoke(app, ["simulate", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_a_table_says_what_is_not_in_the_trace_and_compares_the_policies(path):
    shown = run(path, "--seeds", "2", "--nodes", "3", "--policy", "label,hint+reserve")

    assert "7 models of 4 to 64 GB, log-uniform by seed; seeds 0 to 1" in shown
    assert "3 nodes, 12 accelerators, peers on" in shown
    assert shown.count("hint+reserve") == 3
    assert "TIMES BETTER THAN LABEL" in shown


def test_the_same_command_gives_the_same_document(path):
    arguments = (path, "--json", "--seeds", "2", "--nodes", "2", "--policy", "spread,hint")
    document = json.loads(run(*arguments))

    assert run(*arguments) == run(*arguments)
    assert document["requests"] == 100
    assert [(row["seed"], row["policy"]) for row in document["runs"]] == [
        (0, "spread"),
        (0, "hint"),
        (1, "spread"),
        (1, "hint"),
    ]
    for row in document["runs"]:
        assert sum(row["bytes_by_source"].values()) == pytest.approx(row["wanted_bytes"])
    assert document["policies"][0]["times_better"] == 1  # with itself: `label` was not played


def test_what_a_larger_cache_would_buy_is_shown(path):
    shown = run(path, "--what", "eviction", "--capacity", "50GB,1TB", "--seeds", "1")
    shares = {
        tuple(line.split()[1:4]): float(line.split()[4].rstrip("%"))
        for line in shown.split("ALL SEEDS")[0].splitlines()[4:]
        if line
    }

    assert len(shares) == 6
    assert shown.count("93.0%") > 6  # the same again, as the mean of one seed
    assert shares["1000", "GB", "lru"] == shares["1000", "GB", "size"] == 93.0
    assert shares["50", "GB", "lru"] < 93.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--policy", "luck"), "no policy 'luck'"),
        (("--policy", ","), "nothing is named"),
        (("--model-sizes", "4GB"), "no bounds"),
        (("--what", "eviction", "--eviction", "luck"), "luck"),
    ],
)
def test_a_word_that_is_not_known_is_refused(path, arguments, said):
    with pytest.raises(ConfigError, match=said):
        run(path, *arguments)


def test_without_the_library_a_plot_is_refused_before_anything_is_played(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ConfigError, match="needs matplotlib") as refused:
        run(path, "--plot", "chart.png")
    assert "cachefs-ai[charts]" in refused.value.hint
