"""Signals end a process of ours at once, and nothing else does."""

import os
import signal

import pytest

from cachefs.transport.running import STOP_SIGNALS, StopSignals
from cachefs.transport.runtime import ThreadRuntime


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


def test_a_signal_that_came_before_is_not_forgotten():
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        signals.wait()
        signals.wait()


def test_the_signals_are_given_back():
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
