"""The boundary of a scheduler's request: what was wrong is in the log, and nowhere else."""

import logging

import pytest

from cachefs.errors import ConfigError, InvariantError
from cachefs.hints.consumers.boundary import harmless


@pytest.mark.parametrize(
    ("error", "level", "trace"),
    [
        (ConfigError("no such pattern"), logging.WARNING, False),
        (KeyError("a bug"), logging.ERROR, True),
        (InvariantError("a bug that we know of"), logging.ERROR, True),
        (RecursionError(), logging.ERROR, True),
    ],
)
def test_a_failure_is_logged_and_what_changes_nothing_is_answered(error, level, trace, caplog):
    def work() -> str:
        raise error

    assert harmless(work, lambda: "no opinion", asker="volcano") == "no opinion"
    (record,) = caplog.records
    assert (record.levelno, bool(record.exc_info)) == (level, trace)
    assert record.asker == "volcano"


def test_what_works_is_answered_and_not_logged(caplog):
    assert harmless(lambda: "n1", lambda: "no opinion", asker="volcano") == "n1"
    assert caplog.records == []
