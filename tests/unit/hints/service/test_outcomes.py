"""What was told to whom, and what is learned of what became of it."""

import pytest

from cachefs.core.hints.answer import Breakdown
from cachefs.core.hints.asking import Gang, WantedGpu
from cachefs.errors import ConfigError, NotKnownError
from cachefs.hints.outcomes import Recalled
from tests.unit.hints.service.known import LLAMA, SIZE, Site


@pytest.fixture
def site():
    site = Site()
    for name in ("n1", "n2"):
        site.known.put(name)
    site.known.hold(LLAMA, SIZE, n2=1.0)
    return site


def measured(site):
    return {name: value for name, _, value in site.service.samples()}


def test_an_outcome_is_compared_with_what_was_said(site):
    hint = site.ask()
    said = hint.nodes[0].ready.p50
    learned = site.service.outcome(hint.id, "n2", 2 * said, {})
    assert learned.estimated_seconds == pytest.approx(said)
    assert learned.bottleneck == "nvme:n2"
    assert learned.error_ratio == pytest.approx(2.0)
    found = measured(site)
    assert found["cachefs_hint_error_ratio"] == pytest.approx(2.0)
    assert found["cachefs_hint_error_median"] == pytest.approx(1.0)
    assert found["cachefs_hint_outcomes_total"] == 1


def test_the_same_outcome_twice_counts_once_and_how_long_it_ran_may_come_later(site):
    hint = site.ask()
    site.service.outcome(hint.id, "n2", 20.0, {})
    site.service.outcome(hint.id, "n2", 20.0, {"run": 120.0})
    assert len(site.lessons.errors) == 1
    assert site.lessons.runs.of("llama") == 120.0


def test_what_a_program_does_at_its_start_is_expected_of_the_next(site):
    hint = site.ask()
    site.service.outcome(hint.id, "n2", 20.0, {"init": 7.0})
    assert site.ask().nodes[0].breakdown.init == 7.0


def test_a_gang_is_compared_with_what_was_said_of_all_its_members(site):
    hint = site.ask(gpu=WantedGpu(count=8), gang=Gang(size=2))
    learned = site.service.outcome(hint.id, hint.gang.assignment[0], 40.0, {})
    assert learned.estimated_seconds == pytest.approx(hint.gang.ready.p50)
    assert learned.bottleneck == hint.gang.bottleneck


def test_what_nobody_said_cannot_be_compared(site):
    hint = site.ask(limit=1)
    with pytest.raises(NotKnownError, match="says nothing of this node"):
        site.service.outcome(hint.id, "n1", 1.0, {})
    with pytest.raises(NotKnownError, match="no such hint"):
        site.service.outcome("h-0", "n2", 1.0, {})
    with pytest.raises(ConfigError, match="no such phase"):
        site.service.outcome(hint.id, "n2", 1.0, {"lode": 1.0})
    assert len(site.lessons.errors) == 0


def test_a_hint_that_is_forgotten_teaches_if_it_is_recalled_and_once(site):
    recalled = Recalled(dataset="llama", breakdown=Breakdown(0.0, 0.0, 10.0, 2.0, 0.0, "nvme:n2"))
    learned = site.service.outcome("h-0", "n2", 24.0, {}, recalled=recalled)
    site.service.outcome("h-0", "n2", 24.0, {"run": 60.0}, recalled=recalled)
    assert (learned.estimated_seconds, learned.error_ratio) == (12.0, pytest.approx(2.0))
    assert len(site.lessons.errors) == 1
    assert site.lessons.efficiencies.of("nvme:n2") < 1.0
    assert site.lessons.runs.of("llama") == 60.0


def test_what_a_hint_is_recalled_to_have_said_does_not_replace_what_it_said(site):
    hint = site.ask()
    wrong = Recalled(dataset="x", breakdown=Breakdown(0.0, 0.0, 9e6, 0.0, 0.0, "nvme:n2"))
    learned = site.service.outcome(hint.id, "n2", 20.0, {}, recalled=wrong)
    assert learned.estimated_seconds == hint.nodes[0].breakdown.ready


def test_a_dry_run_is_not_remembered(site):
    hint = site.ask(dry_run=True)
    with pytest.raises(NotKnownError):
        site.service.outcome(hint.id, "n2", 1.0, {})


def test_the_oldest_hints_are_forgotten_when_there_are_too_many():
    site = Site(remembered_nodes=6)
    for name in ("n1", "n2"):
        site.known.put(name)
    site.known.hold(LLAMA, SIZE)
    hints = [site.ask() for _ in range(3)]
    site.service.outcome(hints[1].id, "n1", 1.0, {})
    site.service.outcome(hints[2].id, "n1", 1.0, {})
    with pytest.raises(NotKnownError):
        site.service.outcome(hints[0].id, "n1", 1.0, {})


def test_answers_are_counted(site):
    site.ask()
    site.ask("unknown")
    Site().ask()
    found = measured(site)
    assert found["cachefs_hint_answers_total"] == 2
    assert found["cachefs_hint_degraded_total"] == 1
    assert found["cachefs_hint_without_opinion_total"] == 0
    assert found["cachefs_hint_reservations"] == 0
