"""The flows that people copy are valid, say how they are submitted, and are whole: every kind is shown."""

from pathlib import Path

import pytest

from cachefs.dataflow.spec.kinds import KINDS
from cachefs.dataflow.spec.reading import read_flow

FOLDER = Path(__file__).parents[3] / "dataflow" / "examples"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_valid_and_says_how_it_is_submitted(file):
    flow = read_flow(file.read_text(), name=file.name)
    assert flow.name == file.stem
    assert f"cachefs flow submit {file.name}" in file.read_text().partition("apiVersion")[0]


def test_there_are_examples_of_nearly_all_that_there_is():
    flows = [read_flow(file.read_text(), name=file.name) for file in FILES]
    assert len(flows) >= 8
    steps = [step for flow in flows for step in (*flow.steps, *flow.finally_)]
    assert {step.kind for step in steps} == set(KINDS) - {"backup", "flow"}
    assert any(step.compensate for step in steps)
    assert any(step.foreach for step in steps)
    triggers = [trigger for flow in flows for trigger in flow.triggers]
    assert any(trigger.cron for trigger in triggers)
    assert any(trigger.event for trigger in triggers)
