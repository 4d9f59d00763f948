"""How long requests have been under way, as a keeper is told."""

import threading

from cachefs.fuse.engines.underway import Underway
from tests.unit.fuse.worlds import Clock


def test_the_oldest_request_counts_whichever_thread_serves_it():
    clock = Clock()
    underway = Underway(clock)
    assert underway.longest_seconds() == 0
    begun, end = threading.Event(), threading.Event()

    def serve():
        with underway.serving():
            begun.set()
            end.wait(5)

    thread = threading.Thread(target=serve)
    thread.start()
    assert begun.wait(5)
    clock.ahead += 100
    with underway.serving():
        assert 100 <= underway.longest_seconds() < 150
    end.set()
    thread.join(5)
    assert underway.longest_seconds() == 0


def test_a_request_within_a_request_begins_anew():
    clock = Clock()
    underway = Underway(clock)
    with underway.serving():
        clock.ahead += 100
        with underway.serving():
            assert underway.longest_seconds() < 50
        assert underway.longest_seconds() == 0
