"""Each scheduler's form, whole, as it goes over the wire.

The golden files are the forms as each scheduler's documentation or source has them. A test that fails
here says that what schedulers are told has changed: on purpose, or not.
"""

import json
from pathlib import Path

import pytest

from cachefs.hints.renderings import RENDERINGS
from tests.unit.hints.making import ALIKE, COMING, GANG, HELD, NOTHING, THREE, question

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "one node is best": (THREE, question("llama")),
    "a dataset is required": (HELD, question(required=("llama",))),
    "data comes": (COMING, question("llama")),
    "a deadline": (THREE, question("llama", deadline_seconds=30.0, candidates=("n3", "n1", "n7"))),
    "a gang": (GANG, question("llama", members=3)),
    "nodes are alike": (ALIKE, question("llama")),
    "no opinion": (NOTHING, question(required=("llama",), candidates=("n1", "n2"))),
}


def golden(name: str):
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", RENDERINGS)
def test_a_rendering_is_exactly_the_form_that_its_scheduler_takes(name, case):
    rendered = RENDERINGS[name](*CASES[case])
    assert json.loads(json.dumps(rendered)) == golden(name)[case]


def test_every_form_and_every_case_has_its_golden_file():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(RENDERINGS)
    for name in RENDERINGS:
        assert set(golden(name)) == set(CASES)
