"""The table of faults names tests: each of them is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAMED = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", (TESTS / "fault" / "README.md").read_text())


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda each: each)
def test_what_the_table_of_faults_names_is_there(file, test):
    text = (TESTS / file).read_text()
    assert f"def {test}(" in text or not test


def test_every_file_of_fault_tests_is_in_the_table():
    files = {f"fault/{path.name}" for path in (TESTS / "fault").glob("test_*.py")}
    assert files <= {file for file, _ in NAMED}
