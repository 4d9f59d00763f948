"""What is remembered of attempts at a proof that failed."""

import pytest

from cachefs.core.blocks import FileVersionId
from cachefs.errors import IntegrityError
from cachefs.workers.proving.verdicts import REFUTED_SECONDS_MAX, VERDICTS_LIMIT, Verdicts

NAME = FileVersionId("a" * 40)
ERROR = IntegrityError("wrong bytes", subject="a")


def is_remembered(verdicts, now, name=NAME):
    try:
        verdicts.check(name, now)
    except IntegrityError:
        return True
    return False


@pytest.fixture
def verdicts():
    return Verdicts(memory_seconds=5.0)


def test_a_failure_is_answered_from_memory_for_a_while(verdicts):
    verdicts.note(NAME, ERROR, now=100.0)
    assert is_remembered(verdicts, 104.9)
    assert not is_remembered(verdicts, 105.0)
    assert not verdicts.is_refuted(NAME)


def test_a_refuted_file_is_tried_again_ever_more_rarely_but_always(verdicts):
    now, waits = 0.0, []
    for _ in range(40):
        verdicts.refute(NAME)
        verdicts.note(NAME, ERROR, now)
        wait = 0.0
        while is_remembered(verdicts, now + wait):
            wait += 1.0
        waits.append(wait)
        now += wait
    assert waits[:4] == [5.0, 10.0, 20.0, 40.0]
    assert set(waits[4:]) == {REFUTED_SECONDS_MAX}


def test_a_file_that_was_proven_is_forgiven(verdicts):
    for _ in range(3):
        verdicts.refute(NAME)
    verdicts.note(NAME, ERROR, now=0.0)
    verdicts.forgive(NAME)
    assert not is_remembered(verdicts, 0.0)
    assert not verdicts.is_refuted(NAME)
    verdicts.note(NAME, ERROR, now=0.0)
    assert not is_remembered(verdicts, 5.0), "the first failure again"


def test_only_so_many_are_remembered(verdicts):
    names = [FileVersionId(f"{number:040x}") for number in range(VERDICTS_LIMIT + 1)]
    for name in names:
        verdicts.refute(name)
        verdicts.note(name, ERROR, now=0.0)
    assert not is_remembered(verdicts, 0.0, names[0])
    assert not verdicts.is_refuted(names[0])
    assert is_remembered(verdicts, 0.0, names[-1])
    assert verdicts.is_refuted(names[1])
