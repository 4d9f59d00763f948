"""Rounds: they go on whatever a look meets, and end when they are told to."""

import logging

from cachefs.errors import CoordinatorUnavailableError
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.transport.rounds import Rounds


def test_a_look_that_fails_or_meets_a_bug_is_logged_and_the_next_one_comes(caplog):
    world = SimRuntime(1)
    looks = []

    def look():
        looks.append(world.monotonic())
        if len(looks) == 1:
            raise CoordinatorUnavailableError("the store does not answer")
        if len(looks) == 2:
            raise KeyError("a bug")

    rounds = Rounds(world, "things", look, every_seconds=2.0)

    def story():
        rounds.start()
        world.sleep(7.0)
        rounds.close(wait_seconds=1.0)
        world.sleep(7.0)

    with caplog.at_level(logging.WARNING):
        world.run(story)
    assert looks == [2.0, 4.0, 6.0]
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert "KeyError" in caplog.text
