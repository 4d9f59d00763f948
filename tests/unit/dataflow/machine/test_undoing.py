"""Going back: rollbacks, cancelled runs, and compensations that fail themselves."""

import pytest

from cachefs.dataflow.machine.decisions import Undo
from cachefs.dataflow.records import Run
from tests.unit.dataflow.machine.engines import (
    BUSY,
    DONE,
    FAILED,
    STOPPED,
    UNDO,
    PaperEngine,
    fails,
    step,
)
from tests.unit.dataflow.machine.engines import (
    flow_of_steps as flow,
)


def test_a_rollback_undoes_what_has_begun_the_newest_first_one_at_a_time():
    engine = PaperEngine(
        flow(
            step("a", "", UNDO),
            step("b", "a"),
            step("c", "b", UNDO),
            step("d", "c", UNDO + ", on_failure: rollback"),
            step("e", "d", UNDO),
            finally_="[" + step("z") + "]",
        )
    )
    assert engine.play(fails("d")) == "RolledBack"
    began = engine.log.index("run Running RolledBack")
    assert engine.log[began:] == [
        "run Running RolledBack",
        "undo d",
        "undo c",
        "undo a",
        "begin z",
        "run RolledBack RolledBack",
    ]
    assert engine.states() == {
        "a": "Compensated",
        "b": "Succeeded",
        "c": "Compensated",
        "d": "Compensated",
        "e": "Cancelled",
        "z": "Succeeded",
    }


def test_a_rollback_stops_what_runs_and_begins_nothing():
    engine = PaperEngine(
        flow(step("a", "", ", on_failure: rollback"), step("b", "", UNDO), step("c", "b"))
    )
    engine.tick()
    engine.end("a", FAILED)
    engine.tick()
    assert engine.log[-2:] == ["Cancelled c", "stop b rollback"]
    engine.end("b", STOPPED)
    assert engine.play() == "RolledBack"
    assert engine.states()["b"] == "Compensated"


def test_a_compensation_that_fails_fails_the_run_and_the_others_are_still_undone():
    engine = PaperEngine(
        flow(step("a", "", UNDO), step("b", "a", UNDO), step("c", "b", ", on_failure: rollback"))
    )

    def outcome(one):
        undone_b = isinstance(one, Undo) and one.record.id == "b"
        return FAILED if undone_b or one.record.id == "c" else DONE

    assert engine.play(outcome) == "Failed"
    assert engine.machine.run.failure == "b: could not be undone: boom"
    assert engine.states()["a"] == "Compensated"


def test_a_compensation_is_tried_again_like_a_step():
    retry = ", retry: {max: 1, backoff: {base: 5s}}"
    engine = PaperEngine(
        flow(step("a", "", UNDO + retry), step("b", "a", ", on_failure: rollback"))
    )
    engine.tick()
    engine.end("a")
    engine.tick()
    engine.end("b", FAILED)
    engine.tick()
    assert engine.end("a", BUSY).state == "Compensating"
    engine.crash()
    assert engine.tick() == ()
    assert engine.play() == "RolledBack"
    assert engine.log.count("undo a") == 2


def test_instances_are_undone_and_then_their_step_is():
    engine = PaperEngine(
        flow(
            "{id: a, kind: process, foreach: {i: [1, 2]}, with: {command: [x]},"
            " compensate: {command: ['${each.i}']}}",
            step("b", "a", ", on_failure: rollback"),
        )
    )
    assert engine.play(fails("b")) == "RolledBack"
    assert engine.states()["a"] == "Compensated"
    undone = {one.record.id: one.how for one in engine.told if isinstance(one, Undo)}
    assert undone == {"a[0]": {"command": [1]}, "a[1]": {"command": [2]}}


@pytest.mark.parametrize(("keep", "a"), [(False, "Compensated"), (True, "Succeeded")])
def test_a_cancelled_run_stops_begins_nothing_and_undoes_unless_it_keeps(keep, a):
    engine = PaperEngine(
        flow(step("a", "", UNDO), step("b", "a"), step("c", "b"), finally_="[" + step("z") + "]")
    )
    engine.tick()
    engine.end("a")
    engine.tick()
    engine.want("cancel", keep_cache=keep)
    engine.tick()
    assert engine.log[-1] == "stop b cancel"
    engine.end("b", STOPPED)
    assert engine.play() == "Cancelled"
    assert engine.states() == {"a": a, "b": "Cancelled", "c": "Cancelled", "z": "Succeeded"}


def test_a_run_that_waits_its_turn_is_cancelled_without_anything():
    made = flow(step("a"), finally_="[" + step("z") + "]")
    engine = PaperEngine(made)
    engine.machine.note_run(Run(id="run", flow="default/test", state="Queued", wants="cancel"))
    engine.tick()
    assert engine.machine.run.state == "Cancelled"
    assert set(engine.states().values()) == {"Cancelled"}


def test_what_fails_while_the_run_is_cancelled_is_not_tried_again():
    engine = PaperEngine(flow(step("a", "", ", retry: {max: 3}")))
    engine.tick()
    engine.want("cancel")
    engine.tick()
    assert engine.end("a", BUSY).state == "Failed"
    assert engine.play() == "Cancelled"


def test_the_newest_is_what_ended_last_not_what_stands_last():
    engine = PaperEngine(
        flow(step("a", "", UNDO), step("b", "", UNDO), step("c", "a, b", ", on_failure: rollback"))
    )
    engine.tick()
    engine.now = 1
    engine.end("b")
    engine.now = 2
    engine.end("a")
    assert engine.play(fails("c")) == "RolledBack"
    assert [line for line in engine.log if line.startswith("undo")] == ["undo a", "undo b"]
