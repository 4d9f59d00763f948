"""What only the simulated runtime does: replay, find hangs, and let processes die."""

import pytest

from cachefs.errors import InvariantError
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.testing.simulation.world.scheduling import (
    DeadlockError,
    LeakedTaskError,
    LivelockError,
    TaskFailedError,
)


def interleaving(seed):
    runtime = SimRuntime(seed)
    order = []

    def body():
        condition = runtime.condition()

        def enters(number):
            for _ in range(4):
                with condition:
                    order.append(number)

        tasks = [runtime.start(f"{n}", lambda n=n: enters(n)) for n in range(4)]
        for task in tasks:
            task.join()

    runtime.run(body)
    return order


def test_a_seed_is_one_interleaving_and_seeds_differ():
    assert interleaving(3) == interleaving(3)
    assert len({tuple(interleaving(seed)) for seed in range(20)}) > 15


def test_a_year_takes_no_time():
    runtime = SimRuntime(1)
    runtime.run(lambda: runtime.sleep(365 * 86400), until_seconds=1e9)
    assert runtime.monotonic() == 365 * 86400


def test_a_deadlock_says_who_waits_where():
    runtime = SimRuntime(1)

    def waits_for_ever():
        condition = runtime.condition()
        with condition:
            condition.wait()

    with pytest.raises(DeadlockError, match=r"main/main waits in waits_for_ever \(world/test_"):
        runtime.run(waits_for_ever)


def test_a_run_that_is_too_slow_is_an_error():
    runtime = SimRuntime(1)
    with pytest.raises(DeadlockError, match="not done at 10 s"):
        runtime.run(lambda: runtime.sleep(11), until_seconds=10)


def test_a_busy_loop_is_an_error():
    runtime = SimRuntime(1, preempt_chance=1.0)

    def spins():
        condition = runtime.condition()
        other = runtime.start("other", lambda: spin(condition))
        spin(condition)
        other.join()

    def spin(condition):
        while True:
            with condition:
                pass

    with pytest.raises(LivelockError, match="main/other"):
        runtime.run(spins)


def test_a_task_that_outlives_the_run_is_an_error():
    runtime = SimRuntime(1)
    with pytest.raises(LeakedTaskError, match="main/late"):
        runtime.run(lambda: runtime.start("late", lambda: runtime.sleep(5)) and None)


def test_an_exception_in_a_task_fails_the_run():
    runtime = SimRuntime(1)

    def fails():
        raise ValueError("in a task")

    def body():
        runtime.start("fails", fails)
        runtime.sleep(1)

    with pytest.raises(TaskFailedError, match="main/fails: ValueError"):
        runtime.run(body)


def test_an_exception_in_the_main_task_is_raised_as_it_is():
    runtime = SimRuntime(1)

    def fails():
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        runtime.run(fails)


def test_taking_a_lock_twice_is_an_error():
    runtime = SimRuntime(1)

    def body():
        condition = runtime.condition()
        with condition, condition:
            pass

    with pytest.raises(InvariantError, match="takes a lock twice"):
        runtime.run(body)


def test_notifying_without_the_lock_is_an_error():
    runtime = SimRuntime(1)
    with pytest.raises(InvariantError, match="notify without the lock"):
        runtime.run(lambda: runtime.condition().notify_all())


def test_a_killed_process_does_nothing_any_more():
    runtime = SimRuntime(1)
    seen = []

    def body():
        victim = runtime.process("victim")
        condition = victim.condition()

        def works():
            try:
                victim.sleep(100)
            finally:
                seen.append("finally")
                with condition:
                    seen.append("took a lock after death")

        victim.start("works", works)
        never = victim.start("never", lambda: seen.append("began after death"))
        runtime.sleep(0) if never.ended else None
        victim.start("works-too", works)
        runtime.sleep(1)
        seen.clear()
        victim.kill()
        victim.kill()
        assert victim.tasks() == []
        runtime.sleep(1000)

    runtime.run(body)
    assert seen == ["finally", "finally"]


def test_a_task_that_never_began_never_runs_after_the_kill():
    runtime = SimRuntime(1)
    seen = []

    def body():
        victim = runtime.process("victim")
        victim.start("never", lambda: seen.append(1))
        victim.kill()
        runtime.sleep(10)

    runtime.run(body)
    assert seen == []


def test_a_process_can_end_itself():
    runtime = SimRuntime(1)
    seen = []

    def body():
        victim = runtime.process("victim")

        def exits():
            victim.kill()
            seen.append("went on")

        task = victim.start("exits", exits)
        assert task.join(1)

    runtime.run(body)
    assert seen == []


def test_a_lock_that_a_dead_process_held_elsewhere_is_free_again():
    runtime = SimRuntime(1)

    def body():
        shared = runtime.condition()
        victim = runtime.process("victim")

        def holds():
            with shared:
                victim.sleep(100)

        victim.start("holds", holds)
        runtime.sleep(1)
        victim.kill()
        with shared:
            pass

    runtime.run(body)


def test_a_stopped_process_stands_still_until_it_is_resumed():
    runtime = SimRuntime(1)
    ticks = []

    def body():
        process = runtime.process("ticking")

        def ticking():
            for _ in range(10):
                process.sleep(1)
                ticks.append(runtime.monotonic())

        task = process.start("ticking", ticking)
        runtime.sleep(3.5)
        process.stop()
        assert task.join(20) is False
        assert len(ticks) == 3
        process.resume()
        task.join()

    runtime.run(body)
    assert len(ticks) == 10
    assert ticks[3] == 23.5


def test_a_signal_wakes_everybody_once_and_for_all():
    runtime = SimRuntime(1)
    woken = []

    def body():
        signal = runtime.signal()
        assert signal.wait(1) is False
        tasks = [runtime.start(f"{n}", lambda: woken.append(signal.wait(50))) for n in range(3)]
        runtime.sleep(1)
        signal.set()
        for task in tasks:
            task.join()
        assert signal.wait() is True
        assert runtime.monotonic() < 3

    runtime.run(body)
    assert woken == [True] * 3
