"""The threads that carry out fills: no more than allowed, none left lying, none left over."""

import threading

import pytest

from cachefs.transport.runtime import ThreadRuntime
from cachefs.workers.filling import threads as module
from cachefs.workers.filling.threads import FillThreads

RUNTIME = ThreadRuntime()


class Work:
    """Pieces of work that wait until they are let go; notes who did them."""

    def __init__(self, limit, runtime=RUNTIME):
        self._lock = threading.Lock()
        self.waiting = 0
        self.done = 0
        self.at_once = self.most_at_once = 0
        self.names = set()
        self.gate = threading.Event()
        self.gate.set()
        self.threads = FillThreads(runtime, limit, self._one)

    def put(self, count=1):
        for _ in range(count):
            with self._lock:
                self.waiting += 1
            self.threads.call()

    def _one(self):
        with self._lock:
            if not self.waiting:
                return False
            self.waiting -= 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.names.add(threading.get_ident())
        self.gate.wait(10)
        with self._lock:
            self.at_once -= 1
            self.done += 1
        return True

    def wait_until(self, condition):
        deadline = RUNTIME.monotonic() + 5.0
        while not condition():
            assert RUNTIME.monotonic() < deadline, "it did not happen"
            RUNTIME.sleep(0.001)


@pytest.fixture
def make():
    made = []

    def build(limit, **options):
        made.append(Work(limit, **options))
        return made[-1]

    yield build
    for work in made:
        work.gate.set()
        work.threads.close(5.0)
        assert work.threads._alive == 0


def test_no_more_work_at_once_than_the_limit(make):
    work = make(3)
    work.gate.clear()
    work.put(10)
    work.wait_until(lambda: work.at_once == 3)
    assert work.threads.busy == 3
    work.gate.set()
    work.wait_until(lambda: work.done == 10)
    assert work.most_at_once == 3


def test_one_piece_after_the_other_takes_one_thread(make):
    work = make(8)
    for count in range(1, 21):
        work.put()
        work.wait_until(lambda count=count: work.done == count and work.threads.busy == 0)
    assert len(work.names) == 1


def test_no_work_is_left_lying_however_it_comes_in(make):
    work = make(2)
    callers = [threading.Thread(target=work.put, args=(500,)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    work.wait_until(lambda: work.done == 2000)
    work.wait_until(lambda: work.threads.busy == 0)


def test_a_thread_without_work_ends_after_a_while(make, monkeypatch):
    monkeypatch.setattr(module, "REST_SECONDS", 0.02)
    work = make(4)
    work.put(4)
    work.wait_until(lambda: work.done == 4 and work.threads._alive == 0)
    work.put()
    work.wait_until(lambda: work.done == 5)


def test_a_system_without_threads_stops_nothing_for_ever(make):
    class Exhausted(ThreadRuntime):
        exhausted = True

        def start(self, name, body):
            if self.exhausted:
                raise RuntimeError("can't start new thread")
            return super().start(name, body)

    runtime = Exhausted()
    work = make(2, runtime=runtime)
    work.put()
    assert (work.done, work.threads.busy) == (0, 0)
    runtime.exhausted = False
    work.put()
    work.wait_until(lambda: work.done == 2)
