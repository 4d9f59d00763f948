"""Each flow in ``docs/DATAFLOW.md`` is valid, and its tables name what there is."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cachefs.cli import main
from cachefs.dataflow.records import STEP_STATES
from cachefs.dataflow.spec import names
from cachefs.dataflow.spec.functions import FUNCTIONS
from cachefs.dataflow.spec.kinds import KINDS
from cachefs.dataflow.spec.reading import read_flow
from cachefs.dataflow.spec.sections import STEP
from cachefs.dataflow.spec.waiting import WAIT_NAMES

TEXT = (Path(__file__).parents[3] / "docs" / "DATAFLOW.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: x}\nspec:\n"


def indented(text):
    return "".join(f"  {line}\n" for line in text.splitlines())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[1])
def test_an_example_is_valid(block):
    if not block.startswith("apiVersion"):
        block = HEAD + "  params: {model: llama}\n" + indented(block)
    assert read_flow(block, name="docs/DATAFLOW.md").steps


def test_there_is_an_example_of_every_kind():
    shown = {kind for block in BLOCKS for kind in re.findall(r"kind: (\w+)", block)}
    assert shown - {"Flow"} == set(KINDS)


@pytest.mark.parametrize(
    "word",
    [
        *STEP.keys,
        *FUNCTIONS,
        *STEP_STATES,
        *WAIT_NAMES,
        *names.PLAN_NAMES,
        *names.RUN_NAMES,
        *names.FLOW_NAMES,
        *names.STATUS_FUNCTIONS,
    ],
)
def test_what_there_is_is_documented(word):
    assert re.search(rf"`[^`]*\b{word}\b[^`]*`", TEXT), word


def test_the_error_that_is_shown_is_the_one_that_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = BLOCKS[0].replace("needs: [out]", "needs: [owt]")
    (tmp_path / "publish.yaml").write_text(whole)
    told = CliRunner().invoke(main.app, ["flow", "validate", "publish.yaml"]).stdout
    assert f"```text\n{told}```" in TEXT
