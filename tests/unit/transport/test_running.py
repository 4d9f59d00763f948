"""Signals end a process of ours at once, and nothing else does."""

import os
import signal

import pytest

from cachefs.transport.running import STOP_SIGNALS, StopSignals
from cachefs.transport.runtime import ThreadRuntime


@pytest.fixture(autouse=True)
def _handlers_of_the_tests():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    yield
    for number, handler in zip(STOP_SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_the_waiting_at_once(number):
    runtime = ThreadRuntime()
    with StopSignals() as signals:
        os.kill(os.getpid(), number)
        began = runtime.monotonic()
        signals.wait()
        assert runtime.monotonic() - began < 0.4


def test_another_reason_to_end_is_noticed():
    with StopSignals() as signals:
        signals.wait(unless=iter([False, True]).__next__)


def test_more_signals_than_anybody_reads_do_no_harm():
    with StopSignals() as signals:
        for _ in range(70_000):  # a pipe takes 65,536 bytes
            signals._note(signal.SIGTERM, None)
        signals.wait()


def test_a_signal_during_the_end_is_ignored():
    with StopSignals():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
