"""Events of a process that waits in one thread: what descriptors have to say, and signals.

Whoever supervises processes registers each descriptor at a selector with the function to call, and
takes signals between calls, never within one: a signal handler notes the number, and a byte on a
socket wakes the selector.
"""

import selectors
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

_WAKE_BYTES = 64
"""Read at a time; what they say is known from the handler."""


def handle_events(selector: selectors.BaseSelector, timeout_seconds: float | None) -> None:
    """Wait for something to happen, and call what was registered for it."""
    for key, _ in selector.select(timeout_seconds):
        # An earlier event of the same round may have closed this one's descriptor.
        if key.fd in selector.get_map():
            key.data()


@contextmanager
def taking_signals(
    selector: selectors.BaseSelector,
    numbers: Sequence[signal.Signals],
    note: Callable[[int], None],
) -> Iterator[None]:
    """Have signals noted, and the selector woken by them, as long as the context lasts.

    Args:
        selector: Whom to wake; its data are functions, as :func:`handle_events` calls them.
        numbers: Which signals.
        note: Called with the number, at any moment in the main thread: it may only note it.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        note(number)

    waker, woken = socket.socketpair()
    for end in (waker, woken):
        end.setblocking(False)
    selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(_WAKE_BYTES))
    before = [signal.signal(number, handle) for number in numbers]
    wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        selector.unregister(woken)
        waker.close()
        woken.close()
