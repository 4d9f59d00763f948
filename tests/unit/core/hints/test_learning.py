"""What outcomes teach."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.hints.answer import Breakdown
from cachefs.core.hints.estimate import Link, Links
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.learning import Efficiencies, Errors, Lessons, Times, taught
from cachefs.core.hints.nodes import Node


def _waiting_for(bottleneck: str, data: float = 10.0) -> Breakdown:
    return Breakdown(slot=0, image=0, data=data, load=1, init=2, bottleneck=bottleneck)


@given(st.floats(0.1, 1.4))
def test_an_efficiency_comes_near_to_the_truth_within_twenty_outcomes(truth: float) -> None:
    learned = Efficiencies()
    for _ in range(20):
        learned.learn("nvme:n1", estimated=10 / learned.of("nvme:n1"), actual=10 / truth)
    assert learned.of("nvme:n1") == pytest.approx(truth, rel=0.02)
    assert learned.of("nvme:n2") == 1.0


@given(st.floats() | st.just(0.0) | st.just(-1.0), st.floats())
def test_nonsense_teaches_nothing_that_breaks(estimated: float, actual: float) -> None:
    learned, errors, times = Efficiencies(), Errors(), Times(1.0)
    learned.learn("origin:s3", estimated=estimated, actual=actual)
    errors.learn(estimated=estimated, actual=actual)
    times.learn("job", actual)
    assert 0.05 <= learned.of("origin:s3") <= 1.5
    assert errors.widened(10.0).p90 >= 10.0
    assert times.of("job") >= 0


def test_times_are_medians_by_key_and_of_all_for_a_key_that_is_new() -> None:
    times = Times(600.0)
    assert times.of("llama") == 600.0
    for seconds in (10.0, 1000.0, 20.0):
        times.learn("llama", seconds)
    times.learn("bert", 1.0)
    assert times.of("llama") == 20.0
    assert times.of("bert") == 1.0
    assert times.of("unheard") == 15.0


def test_old_times_are_forgotten() -> None:
    times = Times(0.0)
    for seconds in (5.0,) * 64 + (9.0,) * 33:
        times.learn("llama", seconds)
    assert times.of("llama") == 9.0


def test_an_outcome_is_put_down_to_what_was_waited_for() -> None:
    lessons = Lessons()
    lessons.outcome("llama", _waiting_for("nic:n1"), 23.0)  # estimated 13: data took 20, not 10
    assert lessons.efficiencies.of("nic:n1") == pytest.approx(0.5**0.3)
    lessons.outcome("llama", _waiting_for("nic:n2"), 99.0, {"data": 10.0, "init": 7.0})
    assert lessons.efficiencies.of("nic:n2") == 1.0
    assert lessons.starts.of("llama") == 7.0
    assert lessons.efficiencies.of("slot:n1") == 1.0


def test_a_program_that_starts_slowly_teaches_its_start_and_no_part() -> None:
    lessons = Lessons()
    lessons.outcome("llama", Breakdown(0, 0, 1, 1, 5, "init"), 12.0)
    assert lessons.starts.of("llama") == 10.0
    assert not lessons.efficiencies.known()


def test_errors_widen_the_ninetieth_percentile_and_lower_the_confidence() -> None:
    errors = Errors()
    assert errors.widened(10.0) == (10.0, 13.0)
    fresh = errors.confidence(age_seconds=0.5, fresh_seconds=2.0)
    for number in range(20):
        errors.learn(estimated=10.0, actual=10.0 if number < 15 else 30.0)
    assert errors.widened(10.0).p90 == pytest.approx(30.0)
    assert errors.median_ratio == pytest.approx(1.0)
    assert errors.confidence(age_seconds=0.5, fresh_seconds=2.0) > fresh
    stale = errors.confidence(age_seconds=6.0, fresh_seconds=2.0)
    assert stale == pytest.approx(errors.confidence(age_seconds=0.0, fresh_seconds=2.0) / 4)


def test_lessons_survive_as_json() -> None:
    lessons, again = Lessons(), Lessons()
    lessons.outcome("llama", _waiting_for("origin:s3"), 30.0, {"init": 3.0})
    lessons.runs.learn("llama", 40.0)
    again.restore(json.loads(json.dumps(lessons.document())))
    assert again.document() == lessons.document()
    again.restore({})
    assert again.runs.of("llama") == 40.0


def test_what_was_learned_is_in_the_next_estimates_rates() -> None:
    fleet, learned = Fleet(), Efficiencies()
    fleet.put(Node(name="n1"), now=0.0)
    learned.learn("nvme:n1", estimated=10.0, actual=20.0)
    learned.learn("origin:s3", estimated=10.0, actual=20.0)
    learned.learn("rack:a/r1", estimated=10.0, actual=20.0)
    learned.learn("nic:gone", estimated=10.0, actual=20.0)
    links = Links(
        racks={("a", "r1"): Link(rate=1e9)}, origins={"s3": Link(rate=1e9), "gs": Link(rate=1e9)}
    )
    slower = taught(learned, fleet, links)
    half = 0.5**0.3
    assert fleet.column("efficiency_disk")[0] == pytest.approx(half)
    assert fleet.column("efficiency_nic")[0] == 1.0
    assert slower.origins["s3"].rate == pytest.approx(half * 1e9)
    assert slower.origins["gs"].rate == 1e9
    assert slower.racks["a", "r1"].rate == pytest.approx(half * 1e9)
