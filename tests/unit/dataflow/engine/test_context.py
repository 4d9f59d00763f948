"""What a step has while it is carried out, and how its attempt ends."""

import threading

import pytest

from cachefs.dataflow.engine.context import AttemptContext, StepIdentity
from cachefs.dataflow.engine.running import Attempt
from cachefs.dataflow.ports import Observed
from cachefs.errors import (
    CapacityError,
    DeadlineError,
    FlowError,
    LeaseExpiredError,
    OriginUnavailableError,
    StepCancelledError,
)
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()


def context(*, seconds=5.0, undo=False, notes=None, checkpoint=None):
    identity = StepIdentity(run="r", step="a[1]", attempt=2, namespace="team", undo=undo)
    return AttemptContext(
        identity,
        RUNTIME,
        deadline=RUNTIME.monotonic() + seconds,
        checkpoint=checkpoint or {},
        write_note=lambda which, text: (notes if notes is not None else []).append((which, text)),
    )


def test_a_key_is_the_same_for_each_attempt_and_another_for_undoing():
    assert context().key == "r/a[1]"
    assert context(undo=True).key == "r/a[1]/undo"


def test_a_note_is_stored_before_it_is_there():
    notes = []
    made = context(notes=notes, checkpoint={"at": 1})
    assert made.checkpoint() == {"at": 1}
    made.note({"at": 2})
    assert made.checkpoint() == {"at": 2}
    assert notes == [(made.identity, '{"at":2}')]
    with pytest.raises(CapacityError):
        made.note({"at": "x" * 2_000_000})
    made.revoke()
    with pytest.raises(LeaseExpiredError):
        made.note({"at": 3})
    assert len(notes) == 1


def test_who_sleeps_is_woken_by_a_stop():
    made = context()
    threading.Timer(0.05, made.stop).start()
    began = RUNTIME.monotonic()
    with pytest.raises(StepCancelledError):
        made.sleep(5.0)
    assert RUNTIME.monotonic() - began < 2.0


def test_who_sleeps_is_woken_when_its_time_is_over():
    with pytest.raises(DeadlineError):
        context(seconds=0.02).sleep(5.0)


def test_a_step_that_tells_without_end_is_not_heard_without_end():
    made = context()
    for number in range(2000):
        made.tell(str(number))
    told = made.take_told()
    assert len(told) == 1000
    assert "left out" in told[-1][1]
    assert made.take_told() == []


class Kind:
    """Is done after so many applications; or fails."""

    def __init__(self, applications=0, error=None):
        self.left = applications
        self.error = error

    def observe(self, _context, _arguments):
        return Observed(self.left <= 0, outputs={"left": self.left})

    def apply(self, step, _arguments):
        if self.error is not None:
            raise self.error
        self.left -= 1
        step.sleep(0.0)

    def compensate(self, _context, _arguments, how):
        self.left = how["left"]


def outcome_of(kind, made=None, *, how=None, stop=None):
    ended = []
    attempt = Attempt(
        made or context(), kind, {}, how=how, on_end=lambda _, how_: ended.append(how_)
    )
    if stop:
        attempt.stop(stop)
    attempt.start()
    assert attempt.join(5.0)
    return ended[0]


def test_a_step_is_applied_until_it_is_observed():
    kind = Kind(3)
    outcome = outcome_of(kind)
    assert (outcome.state, outcome.outputs) == ("done", {"left": 0})


def test_undoing_hears_how():
    kind = Kind()
    assert outcome_of(kind, how={"left": 9}).state == "done"
    assert kind.left == 9


@pytest.mark.parametrize(
    ("error", "state", "retryable"),
    [
        (FlowError("no"), "failed", False),
        (OriginUnavailableError("later"), "failed", True),
        (DeadlineError("a read took too long"), "failed", False),
        (ValueError("x"), "failed", False),
    ],
)
def test_an_error_says_whether_another_try_may_help(error, state, retryable):
    outcome = outcome_of(Kind(1, error))
    assert (outcome.state, outcome.retryable) == (state, retryable)


def test_what_the_other_side_asked_for_is_passed_on():
    error = OriginUnavailableError("later", retry_after_seconds=7.0)
    assert outcome_of(Kind(1, error)).retry_after_seconds == 7.0


def test_a_step_that_is_out_of_time_says_so():
    assert outcome_of(Kind(1000), context(seconds=0.3)).state == "timeout"


@pytest.mark.parametrize(
    ("why", "state"), [("cancel", "cancelled"), ("budget", "cancelled"), ("timeout", "timeout")]
)
def test_a_stop_is_told_as_what_it_was_for(why, state):
    kind = Kind(1)
    assert outcome_of(kind, stop=why).state == state
    assert kind.left == 1, "it was applied although it was stopped before"


def test_an_attempt_that_is_forgotten_says_nothing():
    ended = []
    attempt = Attempt(context(), Kind(), {}, how=None, on_end=lambda *_: ended.append(1))
    attempt.forget()
    attempt.start()
    assert attempt.join(5.0)
    assert ended == []
    assert not attempt.leave()
