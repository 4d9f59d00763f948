"""The end of a process waits for what others do with files, and not for long."""

from cachefs.sdk.filesystem.files import Calls


class Clock:
    """A runtime on which somebody else's call ends after so many seconds."""

    def __init__(self):
        self.now = 0.0
        self.events = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for at, event in [*self.events]:
            if at <= self.now:
                self.events.remove((at, event))
                event()


def test_a_call_that_begins_as_late_as_this_is_waited_for():
    clock = Clock()
    calls = Calls(clock)
    clock.events = [(0.001, calls.__enter__), (0.3, calls.__exit__)]
    calls.wait()
    assert 0.3 <= clock.now < 0.31


def test_calls_of_several_are_waited_for():
    clock = Clock()
    calls = Calls(clock)
    with calls, calls:
        pass
    calls.wait()
    assert clock.now < 0.01


def test_a_call_that_does_not_end_is_not_waited_for():
    clock = Clock()
    calls = Calls(clock)
    with calls:
        calls.wait()
    assert 1.0 <= clock.now < 1.01


def test_the_child_of_a_fork_waits_for_nobody(monkeypatch):
    clock = Clock()
    calls = Calls(clock)
    with calls:
        monkeypatch.setattr("os.getpid", lambda: -1)
        calls.wait()
    assert clock.now == 0
