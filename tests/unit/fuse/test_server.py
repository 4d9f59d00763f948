"""What the process that serves a mount shows its keeper."""

import os
import threading

import pytest

from cachefs.fuse.engines.underway import Underway
from cachefs.fuse.keeping.heartbeat import Heartbeat, make_heartbeat
from cachefs.fuse.server import BEAT_SECONDS, Pulse
from tests.unit.fuse.worlds import Clock


@pytest.fixture
def heartbeat():
    descriptor = make_heartbeat()
    made = Heartbeat(descriptor)
    os.close(descriptor)
    yield made
    made.close()


def beats(heartbeat, event):
    """Say whether there is a sign of life within more than a beat."""
    before = heartbeat.last()
    event.wait(1.4 * BEAT_SECONDS)
    return heartbeat.last() > before


def test_a_process_with_a_request_that_is_stuck_shows_no_sign_of_life(heartbeat):
    clock = Clock()
    underway = Underway(clock)
    pulse = Pulse(clock, heartbeat, stuck_seconds=60.0)
    pulse.watch(underway)
    begun, end = threading.Event(), threading.Event()

    def serve():
        with underway.serving():
            begun.set()
            end.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert begun.wait(5)
        assert beats(heartbeat, end)
        clock.ahead += 61
        end.wait(0.05)  # for a beat that was just about to come
        assert not beats(heartbeat, end)
        end.set()
        thread.join(5)
        assert beats(heartbeat, threading.Event())
    finally:
        end.set()
        pulse.close()
