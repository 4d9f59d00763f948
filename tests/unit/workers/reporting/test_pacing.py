"""How soon a worker reports what is new."""

import pytest

from cachefs.workers.renewal import REPORT_SECONDS, report_pause


@pytest.mark.parametrize("answer_seconds", [0.0, 0.01, 0.1])
def test_news_are_reported_within_half_a_second(answer_seconds):
    assert report_pause(answer_seconds) == REPORT_SECONDS == 0.5


def test_a_coordinator_that_takes_long_is_told_less_often():
    assert report_pause(0.5) == 2.0
    assert report_pause(3.0) > report_pause(0.5)
