"""Signs of life, and when their absence counts."""

import os

import pytest

from cachefs.fuse.keeping.heartbeat import Heartbeat, Watchdog, make_heartbeat

LOOK = 0.25


@pytest.fixture
def watchdog():
    return Watchdog(1.0, look_seconds=LOOK)


def test_a_beat_is_seen_at_the_other_end():
    descriptor = make_heartbeat()
    ends = [Heartbeat(descriptor) for _ in range(2)]
    os.close(descriptor)
    assert ends[1].last() == 0.0
    ends[0].beat(12.5)
    assert ends[1].last() == 12.5
    for end in ends:
        end.close()


def test_a_heart_that_beats_is_never_frozen(watchdog):
    assert not any(watchdog.look(beat=n, now=n * LOOK) for n in range(100))


def test_a_heart_that_stands_still_is_frozen_after_the_limit_and_not_before(watchdog):
    seen = [watchdog.look(beat=5.0, now=n * LOOK) for n in range(7)]
    assert seen == [False] * 5 + [True] * 2


def test_a_beat_in_between_begins_anew(watchdog):
    assert not any(watchdog.look(beat=n // 4, now=n * LOOK) for n in range(100))


def test_time_in_which_the_watcher_stood_still_itself_does_not_count(watchdog):
    assert not watchdog.look(beat=5.0, now=0.0)
    assert not watchdog.look(beat=5.0, now=3600.0)
    assert not watchdog.look(beat=6.0, now=3600.0 + LOOK)
