"""The benchmarks work, and write what they promise. Nothing here looks at how fast anything is."""

import json
import os
import subprocess
import sys

import pytest

from cachefs.benchmarks.context import Bench, own
from cachefs.benchmarks.measuring import Contestant, Meter, Row, Sample, take_turns
from cachefs.benchmarks.nginx import find_nginx
from cachefs.benchmarks.reports import compare, read_rows, write_rows
from cachefs.benchmarks.scenarios import SCENARIOS, run_scenarios
from cachefs.benchmarks.shards import make_shards
from cachefs.errors import ConflictError, NotKnownError

_KEYS = {"scenario", "value", "unit", "against", "ratio", "at_least", "runs", "spread"}

needs_nginx = pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")


def _row(scenario: str, ratio: float | None, *, value: float = 1.0, spread: float = 0.1) -> Row:
    return Row(
        scenario=scenario,
        value=value,
        unit="GB/s",
        against="the floor",
        ratio=ratio,
        at_least=0.8,
        runs=5,
        spread=spread,
    )


def _rows(bench: Bench, *scenarios: str) -> list[Row]:
    return [row for rows in run_scenarios(bench, scenarios) for row in rows]


@pytest.mark.slow
@needs_nginx
@pytest.mark.parametrize("scenario", ["local", "remote", "cold", "cold8", "join", "drain"])
def test_a_quick_run_of_a_scenario_has_rows_of_the_promised_form(scenario, tmp_path):
    bench = Bench(folder=tmp_path, quick=True, say=lambda _: None)
    rows = _rows(bench, scenario)
    assert rows
    for row in rows:
        assert set(row.document()) == _KEYS
        assert row.runs == 1, row.note
        assert row.value > 0
        assert row.ratio is not None
        assert row.at_least is not None


@pytest.mark.slow
def test_the_command_prints_where_it_ran_and_writes_the_rows(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cachefs.cli", "bench", "import", "--quick"),
            *("--json", str(tmp_path / "results.json"), "--folder", str(tmp_path / "data")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for word in ("machine", "commit", "config", "seed", "import cachefs.sdk"):
        assert word in done.stdout
    documents = json.loads((tmp_path / "results.json").read_text())
    assert [set(document) for document in documents] == [_KEYS, _KEYS]


def test_a_scenario_that_cannot_run_here_has_a_row_that_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (row,) = _rows(Bench(folder=tmp_path, quick=True, say=lambda _: None), "netns")
    assert row.runs == 0
    assert "root" in row.note
    assert not row.has_failed


def test_a_bug_in_a_scenario_does_not_lose_the_others(tmp_path, monkeypatch):
    def broken(_: Bench) -> list[Row]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(SCENARIOS, "broken", broken)
    monkeypatch.setitem(SCENARIOS, "works", lambda _: [_row("works", 1.0)])
    bench = Bench(folder=tmp_path, quick=True, say=lambda _: None)
    failed, worked = _rows(bench, "broken", "works")
    assert failed.has_failed
    assert "a bug" in failed.note
    assert worked.is_good


def test_two_benchmarks_do_not_share_a_folder(tmp_path):
    with own(tmp_path), pytest.raises(ConflictError, match="another benchmark"), own(tmp_path):
        pytest.fail("both had it")
    with own(tmp_path):
        pass


def test_an_unknown_scenario_is_refused_with_the_known_names(tmp_path):
    with pytest.raises(NotKnownError, match="cold8"):
        _rows(Bench(folder=tmp_path, quick=True, say=lambda _: None), "no-such")


def test_the_shards_follow_from_the_seed_and_have_valid_headers(tmp_path):
    size = 4 * 1024 * 1024
    first = make_shards(tmp_path / "a", size=size, seed=1, shard_bytes=size // 2)
    again = make_shards(tmp_path / "b", size=size, seed=1, shard_bytes=size // 2)
    other = make_shards(tmp_path / "c", size=size, seed=2, shard_bytes=size // 2)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert first[0].read_bytes() != other[0].read_bytes()
    assert first[0].read_bytes() != first[1].read_bytes()
    for path in first:
        content = path.read_bytes()
        assert len(content) == size // 2
        length = int.from_bytes(content[:8], "little")
        tensors = json.loads(content[8 : 8 + length])
        ends = [each["data_offsets"][1] for name, each in tensors.items() if name[0] != "_"]
        assert 8 + length + max(ends) == len(content)


def test_disturbed_turns_are_repeated_and_counted():
    shares = iter([0.5, 0.0, 0.0, 0.9, 0.0])

    class Busy(Meter):
        def take(self, body):
            return Sample(body(), 1.0, 1.0, next(shares))

    comparison = take_turns({"ours": Contestant(lambda: 10)}, runs=3, meter=Busy(), warm_up=False)
    assert len(comparison.samples["ours"]) == 3
    assert comparison.disturbed == 2
    assert not comparison.noisy


def test_when_every_turn_is_disturbed_the_row_says_so():
    class Busy(Meter):
        def take(self, body):
            return Sample(body(), 1.0, 1.0, 0.9)

    turns = {"ours": Contestant(lambda: 20), "floor": Contestant(lambda: 10)}
    comparison = take_turns(turns, runs=2, meter=Busy(), warm_up=False)
    row = comparison.row("path", "ours", "floor", at_least=0.8)
    assert row.ratio == pytest.approx(2.0)
    assert row.runs == 2
    assert "all turns disturbed" in row.note


def test_comparing_two_files_tells_a_change_from_noise(tmp_path):
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    write_rows(before, [_row("steady", 0.80), _row("better", 0.40), _row("gone", 1.0)])
    write_rows(after, [_row("steady", 0.84), _row("better", 0.80), _row("new", 1.0)])
    changes = {each.scenario: each for each in compare(read_rows(before), read_rows(after))}
    assert set(changes) == {"steady", "better"}
    assert not changes["steady"].is_clear
    assert changes["better"].is_clear
    assert changes["better"].factor == pytest.approx(2.0)


def test_a_missing_nginx_is_a_reason_and_not_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("cachefs.benchmarks.context.find_nginx", lambda: None)
    (row,) = _rows(Bench(folder=tmp_path, quick=True, say=lambda _: None), "cold8")
    assert "nginx" in row.note
    assert not row.has_failed
