"""Lanes: the limit, fairness, failures, interrupts and closing."""

import threading

import pytest

from cachefs.client.lanes import Lanes
from cachefs.errors import DeadlineError, WorkerUnavailableError
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.transport.runtime import ThreadRuntime


@pytest.fixture
def lanes():
    lanes = Lanes(ThreadRuntime(), 3)
    yield lanes
    lanes.close()


def soon() -> float:
    return ThreadRuntime().monotonic() + 5.0


def test_all_fetches_run(lanes):
    done = []
    lanes.run([lambda _, at=at: done.append(at) for at in range(20)], deadline=soon())
    assert sorted(done) == list(range(20))


def test_fetches_run_beside_each_other_up_to_the_limit(lanes):
    barrier = threading.Barrier(3)
    lanes.run([lambda _: barrier.wait(5) for _ in range(3)], deadline=soon())


def test_never_more_than_the_limit_run_at_once():
    world = SimRuntime(3)

    def body():
        lanes = Lanes(world, 3)
        running = 0
        most = 0

        def fetch(_):
            nonlocal running, most
            running += 1
            most = max(most, running)
            world.sleep(1.0)
            running -= 1

        readers = [
            world.start("read", lambda: lanes.run([fetch] * 5, deadline=1000.0)) for _ in range(4)
        ]
        for reader in readers:
            assert reader.join(None)
        assert most == 3
        assert world.monotonic() < 8.0  # 20 fetches of a second in three lanes
        lanes.close()

    world.run(body)


def test_a_failure_cancels_the_others_and_waits_for_them():
    world = SimRuntime(3)

    def body():
        lanes = Lanes(world, 2)
        ended = []

        def fail(_):
            world.sleep(0.5)
            raise WorkerUnavailableError("dead")

        def stubborn(token):
            while not token.cancelled:
                world.sleep(0.1)
            world.sleep(3.0)
            ended.append("stubborn")

        with pytest.raises(WorkerUnavailableError, match="dead"):
            lanes.run([fail, stubborn, lambda _: ended.append("late")], deadline=1000.0)
        assert ended == ["stubborn"]
        lanes.close()

    world.run(body)


def test_an_interrupt_in_the_reading_thread_waits_for_the_writers_too(lanes):
    started = threading.Barrier(2)
    ended = []

    def interrupt(_):
        started.wait(5)
        raise KeyboardInterrupt

    def write(token):
        started.wait(5)
        while not token.cancelled:
            pass
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        lanes.run([interrupt, write], deadline=soon())
    assert ended == [True]


def test_who_gets_no_lane_by_the_deadline_is_told():
    world = SimRuntime(3)

    def body():
        lanes = Lanes(world, 1)
        other = world.start("other", lambda: lanes.run([lambda _: world.sleep(9)], deadline=99.0))
        world.sleep(0.1)
        with pytest.raises(DeadlineError):
            lanes.run([lambda _: None], deadline=world.monotonic() + 1.0)
        assert other.join(None)
        lanes.close()

    world.run(body)


def test_the_background_waits_until_no_read_needs_its_lane():
    world = SimRuntime(3)

    def body():
        lanes = Lanes(world, 2)
        order = []

        def fetch(name):
            def run(_):
                world.sleep(1.0)
                order.append(name)

            return run

        for _ in range(3):
            assert lanes.submit(fetch("ahead"))
        lanes.run([fetch("read")] * 4, deadline=1000.0)
        world.sleep(10.0)
        assert order.count("read") == 4
        assert order.count("ahead") == 3
        assert order[-2:] == ["ahead", "ahead"]
        lanes.close()

    world.run(body)


def test_closing_cancels_reads_that_are_under_way():
    world = SimRuntime(3)

    def body():
        lanes = Lanes(world, 2)
        caught = []

        def read():
            def patient(token):
                while not token.cancelled:
                    world.sleep(0.1)

            try:
                lanes.run([patient] * 5, deadline=1000.0)
            except WorkerUnavailableError as error:
                caught.append(error)

        reading = world.start("read", read)
        world.sleep(1.0)
        lanes.close()
        assert reading.join(5.0)
        assert len(caught) == 1

    world.run(body)
