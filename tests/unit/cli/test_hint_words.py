"""``cachefs hint``: from what is typed to a question, and from an answer to lines for people."""

import pytest
from typer.testing import CliRunner

from cachefs.cli.exits import exit_code
from cachefs.cli.hinting import questions
from cachefs.cli.hinting.commands import app
from cachefs.cli.hinting.showing import _prefetches, cached, print_answer, why
from cachefs.cli.hinting.telling import _nodes
from cachefs.config.secrets import make_token
from cachefs.errors import ClusterError, ConfigError, DeniedError, NotKnownError
from cachefs.hints.questions import QuestionBody


def node(name="n1", **facts):
    sizes = dict.fromkeys(
        ("gpu", "dram", "dram_far", "nvme", "inflight", "peer_rack", "peer_zone", "peer_remote"), 0
    )
    sizes |= {"origin": 0, "total": 0, **facts.pop("bytes", {})}
    parts = {"slot_s": 0.0, "image_s": 0.0, "data_s": 0.0, "load_s": 0.0, "init_s": 0.0}
    return {
        "node": name,
        "rank": 1,
        "ready_s": {"p50": 9.1, "p90": 12.0},
        "breakdown": {**parts, "bottleneck": "nvme:n1", **facts.pop("breakdown", {})},
        "bytes": sizes,
        "fits": {"ok": True, "reason": None},
        "confidence": 0.9,
        **facts,
    }


def answer(*nodes, **facts):
    return {
        "hint_id": "h-1",
        "nodes": list(nodes),
        "gang": None,
        "wait": {"worth_waiting": False},
        "reservation": None,
        "actions": [],
        "refused": {},
        "degraded": "",
        **facts,
    }


@pytest.mark.parametrize(
    ("typed", "count", "fraction", "model"),
    [
        ("8", 8, None, None),
        ("H100", 1, None, "H100"),
        ("H100:8", 8, None, "H100"),
        ("A100:0.5", 1, 0.5, "A100"),
        ("0.25", 1, 0.25, None),
        ("0", 0, None, None),
        ("NVIDIA H100 80GB HBM3:2", 2, None, "NVIDIA H100 80GB HBM3"),
    ],
)
def test_accelerators_are_written_in_short(typed, count, fraction, model):
    found = questions.gpu_of(typed, 80.0, None)
    assert (found["count"], found["fraction"], found["model"]) == (count, fraction, model)
    assert QuestionBody.model_validate({"gpu": found}).value().gpu.memory_gib == 80.0


def test_without_a_word_of_accelerators_none_is_wanted():
    assert questions.gpu_of(None, None, None) is None
    assert questions.gpu_of(None, None, "1g.10gb")["mig_profile"] == "1g.10gb"


@pytest.mark.parametrize(
    "make",
    [
        lambda: questions.gpu_of("H100:x", None, None),
        lambda: questions.gpu_of("1.5", None, None),
        lambda: questions.gpu_of("-1", None, None),
        lambda: questions.topology_of("planet"),
        lambda: questions.topology_of("must:rack"),
        lambda: questions.loader_of("fast"),
        lambda: questions.loader_of("lazy:much"),
        lambda: questions.labels_of(["pool"]),
        lambda: questions.readings_of(["Bad Name"], [], by_rank=False, required=False),
        lambda: questions.readings_of(["llama@abcd/file.bin"], [], by_rank=False, required=False),
    ],
)
def test_what_is_not_written_so_is_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_the_rest_of_a_question_is_understood():
    assert questions.topology_of("rack") == {"preferred": "rack"}
    assert questions.topology_of("required:zone") == {"required": "zone"}
    assert questions.gang_of(8, None, "rack")["topology"] == {"preferred": "rack"}
    assert questions.gang_of(None, None, None) is None
    for least, topology in ((3, None), (None, "rack")):
        with pytest.raises(ConfigError, match="of a gang"):
            questions.gang_of(None, least, topology)
    assert questions.loader_of("lazy:0.2") == {"mode": "lazy", "required_fraction": 0.2}
    assert questions.labels_of(["a=b", "c="]) == {"a": "b", "c": ""}
    (reading,) = questions.readings_of(["team/a@v2"], ["*.bin"], by_rank=True, required=True)
    assert reading == {
        "name": "team/a",
        "revision": "v2",
        "paths": ["*.bin"],
        "shard": "rank",
        "affinity": "required",
    }


def test_why_is_said_in_a_line():
    shown = node(
        bytes={"nvme": 3 << 30, "origin": 1 << 30, "total": 4 << 30},
        breakdown={"slot_s": 4.0, "init_s": 2.5},
        fits={"ok": False, "reason": "0 of 8 H100 are free, 1 wanted"},
    )
    assert why(shown, 5.0) == (
        "too late for 5.0 s; 0 of 8 H100 are free, 1 wanted; 3.00 GiB on disk; "
        "1.00 GiB from the origin; 2.5 s to start"
    )
    assert why(node(), None) == "nothing is to be read"
    assert cached(shown["bytes"]) == 0.75
    assert cached(node()["bytes"]) == 1.0


def test_an_answer_is_a_table_with_what_else_there_is_to_say(capsys):
    found = answer(
        node(bytes={"nvme": 1 << 30, "total": 1 << 30}),
        degraded="inventory 31 s old",
        gang={
            "assignment": {"0": "n1", "1": "n1", "2": "n2", "3": "n1"},
            "domain": "rack=a/r1",
            "ready_s": {"p50": 12.0, "p90": 15.0},
            "bottleneck": "origin:s3",
        },
        wait={
            "worth_waiting": True,
            "node": "n3",
            "free_in_s": 2.0,
            "ready_s": 2.2,
            "reservation_token": "r-1",
            "expires_at": "2026-11-20T22:00:00.000Z",
        },
        actions=[
            {
                "dataset": "llama@c4b8e890e11a56dd33941faa",
                "node": "n1",
                "bytes": 1 << 30,
                "seconds": 31.0,
                "job": "",
            }
        ],
        refused={"n9": "the node is not known"},
    )
    print_answer(found, {"deadline_s": None}, explain=True)
    shown = capsys.readouterr()
    assert shown.err == "note: inventory 31 s old\n"
    for part in (
        "RANK  NODE  READY IN    90 %  CACHED  SLOT  IMAGE  DATA  LOAD  START  SURE  BOTTLENECK  WHY",
        "rack=a/r1, ready in 12.0 s, waits for origin:s3",
        "n1: 0-1, 3; n2: 2",
        "n3 is free in 2.0 s and ready in 2.2 s, sooner than any free node; kept as r-1 until",
        "1.00 GiB of llama@c4b8e890e11a to n1, 31.0 s; --prefetch begins it",
        "h-1",
        "n9       the node is not known",
    ):
        assert part in shown.out


def test_many_prefetches_are_one_line():
    actions = [
        {"dataset": "d@1", "node": f"n{at}", "bytes": 1 << 30, "seconds": 1.0, "job": "j"[:begun]}
        for at, begun in enumerate((1, 1, 0, 0, 0))
    ]
    assert _prefetches(actions) == ["5.00 GiB to 5 nodes; 2 of 5 have begun"]
    idle = [{**action, "job": ""} for action in actions]
    assert _prefetches(idle) == ["5.00 GiB to 5 nodes; --prefetch begins it"]
    assert len(_prefetches(actions[:4])) == 4


def test_no_opinion_is_said_with_its_reason(capsys):
    refused = {"n1": "2 of 8 H100 are free, 8 wanted"}
    print_answer(answer(refused=refused), {"deadline_s": None}, explain=False)
    shown = capsys.readouterr()
    assert shown.err == "no opinion: no node can take the job\n"
    assert "2 of 8 H100 are free" in shown.out


def test_without_a_coordinator_every_form_is_the_one_that_changes_nothing(tmp_path):
    def run(*words):
        return CliRunner().invoke(app, [*words, "--state", str(tmp_path)], catch_exceptions=False)

    table = run("llama")
    assert (table.exit_code, table.stdout) == (0, "")
    assert "no opinion" in table.stderr
    assert "not running" in table.stderr
    assert run("llama", "--format", "slurm").stdout.strip() == ""
    assert run("llama", "--format", "ray").stdout.strip() == "{}"
    assert run("llama", "--format", "extender").stdout.strip() == "[]"
    assert '"degraded"' in run("llama", "--json").stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotKnownError("not found"), 0),  # an older coordinator
        (ClusterError("the coordinator met a bug"), 0),
        (DeniedError("the token is missing or wrong"), 9),
        (ConfigError("that makes no sense"), 2),
    ],
)
def test_only_what_the_asker_can_mend_is_a_failure(tmp_path, monkeypatch, error, code):
    def fail(*_, **__):
        raise error

    make_token(tmp_path / "token")
    monkeypatch.setenv("CACHEFS_COORDINATOR", "127.0.0.1:1")
    monkeypatch.setenv("CACHEFS_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setattr("cachefs.transport.api.Api.fetch", fail)
    found = CliRunner().invoke(app, ["llama"])
    if code:
        assert exit_code(found.exception) == code
    else:
        assert (found.exit_code, found.stdout) == (0, "")
        assert f"no opinion: {error}" in found.stderr


def test_the_nodes_of_a_gang_are_counted():
    assert _nodes(["n1", "n2", "n1"]) == "n1 (2), n2"
