"""What the port ``Runtime`` promises, of threads and of the simulation alike."""

import pytest

from cachefs.ports import Runtime
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.transport.runtime import ThreadRuntime

SHORT_SECONDS = 0.02


@pytest.fixture(params=["threads", "simulation"])
def kind(request):
    return request.param


@pytest.fixture
def runtime(kind) -> Runtime:
    return ThreadRuntime() if kind == "threads" else SimRuntime(7, preempt_chance=0.9)


@pytest.fixture
def run(kind, runtime):
    """Run a test's body where it may wait."""
    if kind == "threads":
        return lambda body: body()
    return lambda body: runtime.run(body, until_seconds=60)


def test_the_clock_moves_by_what_was_slept(runtime, run):
    def body():
        before, wall = runtime.monotonic(), runtime.wall()
        runtime.sleep(SHORT_SECONDS)
        assert runtime.monotonic() - before >= SHORT_SECONDS
        assert runtime.wall() - wall >= SHORT_SECONDS * 0.9

    run(body)


def test_sleeping_for_nothing_or_less_returns(runtime, run):
    def body():
        runtime.sleep(0)
        runtime.sleep(-1)

    run(body)


def test_a_started_task_runs_and_can_be_joined(runtime, run):
    def body():
        done = []
        task = runtime.start("worker", lambda: done.append(1))
        assert task.join() is True
        assert done == [1]
        assert task.join(0) is True

    run(body)


def test_joining_a_task_that_goes_on_times_out(runtime, run):
    def body():
        condition = runtime.condition()
        released = []

        def waits():
            with condition:
                while not released:
                    condition.wait()

        task = runtime.start("waits", waits)
        before = runtime.monotonic()
        assert task.join(SHORT_SECONDS) is False
        assert runtime.monotonic() - before >= SHORT_SECONDS
        with condition:
            released.append(1)
            condition.notify_all()
        assert task.join(5) is True

    run(body)


def test_a_wait_without_a_notification_times_out(runtime, run):
    def body():
        condition = runtime.condition()
        before = runtime.monotonic()
        with condition:
            assert condition.wait(SHORT_SECONDS) is False
        assert runtime.monotonic() - before >= SHORT_SECONDS

    run(body)


def test_a_notification_wakes_every_waiter(runtime, run):
    def body():
        condition = runtime.condition()
        waiting, woken = [], []

        def waits():
            with condition:
                waiting.append(1)
                woken.append(condition.wait(10))

        tasks = [runtime.start(f"waits-{number}", waits) for number in range(5)]
        ready = False
        while not ready:
            with condition:
                ready = len(waiting) == len(tasks)
                if ready:
                    condition.notify_all()
            runtime.sleep(0.001)
        assert all(task.join(5) for task in tasks)
        assert woken == [True] * 5

    run(body)


def test_a_condition_is_a_lock(runtime, run):
    def body():
        condition = runtime.condition()
        counts = {"inside": 0, "most": 0, "total": 0}

        def enters():
            for _ in range(20):
                with condition:
                    counts["inside"] += 1
                    counts["most"] = max(counts["most"], counts["inside"])
                    if counts["total"] % 5 == 0:
                        runtime.sleep(0.0001)
                    counts["total"] += 1
                    counts["inside"] -= 1

        tasks = [runtime.start(f"enters-{number}", enters) for number in range(4)]
        assert all(task.join(20) for task in tasks)
        assert counts == {"inside": 0, "most": 1, "total": 80}

    run(body)


def test_a_waiter_holds_the_lock_again_when_wait_returns(runtime, run):
    def body():
        condition = runtime.condition()
        inside = []

        def waits():
            with condition:
                condition.wait(SHORT_SECONDS)
                inside.append(1)
                assert len(inside) == 1
                runtime.sleep(0.001)
                inside.pop()

        tasks = [runtime.start(f"waits-{number}", waits) for number in range(4)]
        assert all(task.join(5) for task in tasks)

    run(body)


def test_the_lock_is_free_after_an_exception(runtime, run):
    def body():
        condition = runtime.condition()
        with pytest.raises(ValueError, match="inside"), condition:
            raise ValueError("inside")
        with condition:
            pass

    run(body)


def test_random_gives_numbers_between_zero_and_one(runtime):
    numbers = [runtime.random.random() for _ in range(100)]
    assert len(set(numbers)) > 90
    assert all(0 <= number < 1 for number in numbers)
