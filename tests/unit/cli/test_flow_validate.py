"""``cachefs flow validate``: what a person sees, what a program gets, how it ends."""

import json
import re

import pytest
from typer.testing import CliRunner

from cachefs.cli import main
from tests.unit.dataflow.spec.test_reading import GOOD


@pytest.fixture
def validate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, given=None, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return CliRunner().invoke(main.app, ["flow", "validate", *arguments], input=given)

    return run


def test_a_good_flow_is_told_with_its_name(validate):
    done = validate("good.yaml", good=GOOD)
    assert done.exit_code == 0
    assert done.stdout == "good.yaml: team-a/deploy-llama-v2 is valid: 8 steps, and 2 at last\n"


def test_a_problem_is_shown_with_its_line_and_a_mark_below_the_place(validate):
    done = validate("bad.yaml", bad=GOOD.replace("needs: [out]", "needs: [owt]"))
    assert done.exit_code == 2
    assert done.stdout.splitlines() == [
        "bad.yaml:18:13: unknown step 'owt'",
        "  18 |     needs: [owt]",
        "     |             ^ did you mean out?",
        "     = in spec.steps.copy.needs[0]",
    ]
    assert done.stderr == "1 problem\n"


def test_of_a_long_line_the_part_around_the_problem_is_shown(validate):
    done = validate("bad.yaml", bad=GOOD.replace("surge: 25", "surge: many"))
    _, line, mark, _ = done.stdout.splitlines()
    assert len(line) < 110
    assert line[mark.index("^") :].startswith("many")


def test_each_file_is_checked_whatever_is_wrong_with_the_others(validate):
    done = validate("no.yaml", "bad.yaml", "good.yaml", good=GOOD, bad="a: [")
    assert done.exit_code == 2
    assert "no.yaml:1:1: cannot read the file: no such file or directory" in done.stdout
    assert re.search(r"bad\.yaml:\d+:\d+: not YAML", done.stdout)
    assert "good.yaml: team-a/deploy-llama-v2 is valid" in done.stdout
    assert done.stderr == "2 problems in 2 of 3 files\n"


def test_programs_get_every_problem_as_json(validate):
    done = validate("-", "--json", given=GOOD.replace("needs: [out]", "needs: [owt]"))
    assert done.exit_code == 2
    (file,) = json.loads(done.stdout)
    assert (file["file"], file["valid"]) == ("standard input", False)
    assert file["problems"] == [
        {
            "line": 18,
            "column": 13,
            "path": "spec.steps.copy.needs[0]",
            "message": "unknown step 'owt'",
            "hint": "did you mean out?",
        }
    ]


def test_programs_get_the_name_and_steps_of_a_good_flow(validate):
    (file,) = json.loads(validate("good.yaml", "--json", good=GOOD).stdout)
    assert (file["valid"], file["flow"]) == (True, "team-a/deploy-llama-v2")
    assert file["finally"] == ["in", "tell"]


def test_what_is_no_text_is_no_flow(validate, tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    assert "x.yaml:1:1: not UTF-8 text: byte 3" in validate("x.yaml").stdout


def test_a_name_cannot_forge_a_line(validate):
    done = validate("bad.yaml", bad='"a\\u001b[31m\\nb.yaml:1:1: c": 1\n')
    assert "\x1b" not in done.stdout
    assert "\nb.yaml" not in done.stdout


def test_a_line_that_may_hold_a_secret_is_not_shown(validate):
    env = "command: [x], env: {HF_TOKEN: hf_abc}"
    done = validate("bad.yaml", bad=GOOD.replace("command: [python, smoke.py]", env))
    assert "HF_TOKEN looks like a secret" in done.stdout
    assert "write secrets: {HF_TOKEN: env:HF_TOKEN}" in done.stdout
    assert "hf_abc" not in done.stdout
