"""Schedules: against a plain search of every minute, and what people get wrong."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core import cron
from cachefs.errors import ConfigError

MINUTE = 60


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 3 * * *", "2026-11-20T02:59:59", "2026-11-20T03:00"),
        ("0 3 * * *", "2026-11-20T03:00:00", "2026-11-21T03:00"),
        ("*/15 8-18/5 * * mon-fri", "2026-11-20T18:45:00", "2026-11-23T08:00"),
        ("30 12 1 jan *", "2026-01-01T12:30:00", "2027-01-01T12:30"),
        ("0 0 29 2 *", "2026-11-20T00:00:00", "2028-02-29T00:00"),
        ("0 0 * * 7", "2026-11-20T00:00:00", "2026-11-22T00:00"),
        ("0 0 13 * 5", "2026-11-20T00:01:00", "2026-11-27T00:00"),  # a Friday, not the 13th
        ("5/20 * * * *", "2026-11-20T00:26:00", "2026-11-20T00:45"),
        ("@hourly", "2026-11-20T23:00:30", "2026-11-21T00:00"),
    ],
)
def test_the_next_minute_is_found(text, after, expected):
    found = cron.parse(text).next_after(at(after))
    assert datetime.fromtimestamp(found, UTC).isoformat() == f"{expected}:00+00:00"


FIELD = st.sampled_from
SCHEDULES = st.tuples(
    FIELD(["*", "0", "*/7", "10-20", "59"]),
    FIELD(["*", "0", "*/5", "22,3"]),
    FIELD(["*", "1", "15-17", "*/9"]),
    FIELD(["*", "2", "jun-aug", "12"]),
    FIELD(["*", "0", "tue,sat", "6-7"]),
).map(" ".join)


@given(SCHEDULES, st.integers(at("2026-01-01T00:00"), at("2030-01-01T00:00")))
def test_nothing_before_the_next_minute_matches(text, start):
    schedule = cron.parse(text)
    found = schedule.next_after(start)
    assert found > start
    assert found % MINUTE == 0
    assert schedule.matches(found)
    before = range(
        int(found) - MINUTE, max(int(start) // MINUTE * MINUTE, int(found) - 86_400), -MINUTE
    )
    assert not any(schedule.matches(minute) for minute in before)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "five fields"),
        ("* * * *", "five fields, not 4"),
        ("@dayly", "did you mean @daily"),
        ("60 * * * *", "no minute"),
        ("* 24 * * *", "from 0 to 23"),
        ("* * 0 * *", "no day of the month"),
        ("* * * jum *", "did you mean jun"),
        ("*/0 * * * *", "no minute"),
        ("9-3 * * * *", "no range"),
        ("1,,2 * * * *", "nothing"),
        ("0 0 30 2 *", "never happens"),
        ("٣ * * * *", "no minute"),
        ("* " * 200, "five fields"),
    ],
)
def test_what_is_no_schedule_is_refused_with_a_reason(text, said):
    with pytest.raises(ConfigError) as caught:
        cron.parse(text)
    assert said in str(caught.value)
