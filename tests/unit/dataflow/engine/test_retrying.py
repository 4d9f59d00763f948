"""Retrying: which steps are set back, and what they keep."""

import pytest

from cachefs.dataflow.engine.retrying import set_back
from cachefs.dataflow.records import StepRecord
from cachefs.dataflow.spec.model import Flow, Foreach, Step

FLOW = Flow(
    namespace="team",
    name="test",
    steps=(
        Step(id="a", kind="process"),
        Step(id="b", kind="process", needs=("a",)),
        Step(id="c", kind="process", needs=("b",)),
        Step(id="d", kind="process", needs=("a",)),
    ),
    finally_=(Step(id="z", kind="process"),),
)
SUCCEEDED = ("a", "d", "z")


def record(step, state, **fields):
    return StepRecord(
        id=step, state=state, attempt=1, tries=1, checkpoint={"at": 7}, ended_at=5.0, **fields
    )


def ended(**states):
    """Return records of a run in which ``b`` failed, but for what is said."""
    usual = {
        "a": "Succeeded",
        "b": "Failed",
        "c": "UpstreamFailed",
        "d": "Succeeded",
        "z": "Succeeded",
    }
    return [record(step, state) for step, state in {**usual, **states}.items()]


def again(records, **options):
    kept, steps = set_back(FLOW, records, **{"start": "", "only_failed": False, **options})
    pending = {one.id for one in kept if one.state == "Pending"}
    assert pending == set(steps) or any("[" in one.id for one in kept)
    return pending


def test_what_failed_and_what_depends_on_it_is_done_again_and_finally_too():
    assert again(ended()) == {"b", "c", "z"}
    assert again(ended(c="Succeeded")) == {"b", "c", "z"}


def test_only_what_did_not_succeed_is_done_again_if_that_is_asked():
    assert again(ended(c="Succeeded"), only_failed=True) == {"b"}
    assert again(ended(z="Failed"), only_failed=True) == {"b", "c", "z"}


def test_a_step_and_what_depends_on_it_is_done_again_however_it_ended():
    everything = ended(b="Succeeded", c="Succeeded")
    assert again(everything, start="b") == {"b", "c", "z"}
    assert again(everything, start="d") == {"d", "z"}


@pytest.mark.parametrize("only_failed", [True, False])
def test_where_all_succeeded_there_is_nothing_to_do_again(only_failed):
    assert again(ended(b="Skipped", c="Succeeded"), only_failed=only_failed) == set()


def test_who_failed_goes_on_from_its_checkpoint_and_who_succeeded_begins_anew():
    kept, _ = set_back(FLOW, ended(c="Succeeded"), start="", only_failed=False)
    by_id = {one.id: one for one in kept}
    assert by_id["b"].checkpoint == {"at": 7}
    assert by_id["c"].checkpoint == {}
    assert (by_id["b"].attempt, by_id["b"].tries, by_id["b"].ended_at) == (1, 0, 0.0)
    assert by_id["a"] == ended()[0]


def test_of_an_expanded_step_only_the_instances_that_failed_are_done_again():
    foreach = Foreach(name="n", values=[1, 2])
    flow = Flow(namespace="t", name="t", steps=(Step(id="a", kind="process", foreach=foreach),))
    records = [record("a", "Failed"), record("a[0]", "Succeeded"), record("a[1]", "Failed")]
    kept, _ = set_back(flow, records, start="", only_failed=False)
    assert [(one.id, one.state) for one in kept] == [
        ("a", "Running"),
        ("a[0]", "Succeeded"),
        ("a[1]", "Pending"),
    ]
    kept, _ = set_back(flow, records, start="a", only_failed=False)
    assert [(one.id, one.state) for one in kept] == [("a", "Pending")]
