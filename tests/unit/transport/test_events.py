"""What one thread waits for: descriptors, and signals between them."""

import os
import selectors
import signal

from cachefs.transport.events import handle_events, taking_signals


def test_a_signal_wakes_the_selector_and_is_noted():
    noted = []
    selector = selectors.DefaultSelector()
    before = signal.getsignal(signal.SIGUSR1)
    with taking_signals(selector, (signal.SIGUSR1,), noted.append):
        os.kill(os.getpid(), signal.SIGUSR1)
        handle_events(selector, 1.0)
        assert noted == [signal.SIGUSR1]
        assert len(selector.get_map()) == 1
    assert signal.getsignal(signal.SIGUSR1) is before
    assert not selector.get_map()
    selector.close()


def test_what_an_event_unregisters_is_not_called_in_the_same_round():
    called = []
    selector = selectors.DefaultSelector()
    ends = [os.pipe(), os.pipe()]
    for reading, writing in ends:
        os.write(writing, b"x")

        def forget_both(mine=reading):
            called.append(mine)
            for each, _ in ends:
                selector.unregister(each)

        selector.register(reading, selectors.EVENT_READ, forget_both)
    handle_events(selector, 1.0)
    assert len(called) == 1
    for descriptor in (each for pair in ends for each in pair):
        os.close(descriptor)
    selector.close()
