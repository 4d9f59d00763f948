"""Places that are kept with an answer: for whom, how long, and when to wait for a better one."""

import pytest

from cachefs.core.hints.asking import Gang, WantedGpu
from cachefs.core.hints.reserving import GRACE_SECONDS
from cachefs.errors import NotKnownError
from tests.unit.hints.service.known import LLAMA, SIZE, Site, names

WHOLE = WantedGpu(count=8)


@pytest.fixture
def site():
    site = Site()
    for name in ("n1", "n2"):
        site.known.put(name)
    site.known.hold(LLAMA, SIZE, n2=1.0)
    return site


def test_the_best_place_is_kept_and_nobody_else_is_sent_there(site):
    first = site.ask(gpu=WHOLE, job="one", reserve_seconds=30)
    (kept,) = site.service.reservations()
    assert first.reservation == kept.token
    assert (kept.job, kept.nodes) == ("one", ("n2",))
    second = site.ask(gpu=WHOLE, job="two")
    assert names(second)[0] == "n1"
    again = site.ask(gpu=WHOLE, job="one")
    assert names(again)[0] == "n2"


def test_without_being_asked_nothing_is_kept_and_nobody_is_told_to_wait(site):
    site.known.put("n2", busy=8, free_in=1.0)
    hint = site.ask(gpu=WHOLE)
    assert (hint.wait, hint.reservation) == (None, "")
    dry = site.ask(gpu=WHOLE, reserve_seconds=30, dry_run=True)
    assert (dry.wait, dry.reservation) == (None, "")
    assert site.service.reservations() == ()


def test_who_is_told_to_wait_has_the_place_and_the_data_is_brought_there(site):
    site.known.hold(LLAMA, SIZE, n2=0.9)
    site.known.put("n2", busy=8, free_in=2.0)
    hint = site.ask(gpu=WHOLE, job="one", reserve_seconds=5)
    assert hint.wait.node == "n2"
    assert hint.wait.free_seconds == pytest.approx(2.0)
    assert (
        hint.wait.ready_seconds < 0.8 * site.ask(gpu=WHOLE, candidates=("n1",)).nodes[0].ready.p50
    )
    assert hint.wait.expires_seconds == pytest.approx(2.0 + GRACE_SECONDS)
    (kept,) = site.service.reservations()
    assert (kept.token, kept.nodes) == (hint.wait.reservation, ("n2",))
    assert [wanted.node for _, wanted in site.warmed] == ["n2"]
    assert hint.actions[0].job == "w1"


def test_a_place_to_wait_for_that_is_taken_is_not_offered_to_the_next(site):
    site.known.put("n2", busy=8, free_in=2.0)
    site.ask(gpu=WHOLE, job="one", reserve_seconds=5, expected_seconds=3600)
    second = site.ask(gpu=WHOLE, job="two", reserve_seconds=5)
    assert second.wait is None
    assert second.reservation
    assert site.service.kept(second).nodes == ("n1",)


def test_who_waits_for_a_release_that_slips_keeps_the_place(site):
    site.known.put("n2", busy=8, free_in=2.0)
    first = site.ask(gpu=WHOLE, job="one", reserve_seconds=5)
    site.known.put("n2", busy=8, free_in=60.0)
    site.ask(gpu=WHOLE, job="two", reserve_seconds=5)
    site.clock.now += 2.0 + GRACE_SECONDS
    assert site.service.kept(first).nodes == ("n2",)


def test_with_nothing_free_and_no_end_in_sight_no_place_is_kept(site):
    for name in ("n1", "n2"):
        site.known.put(name, busy=8)
    hint = site.ask(gpu=WHOLE, job="one", reserve_seconds=5)
    assert not hint.has_opinion
    assert "no place is kept" in hint.degraded
    assert "8 H100" not in hint.refused["n1"]
    assert "0 of 8" in hint.refused["n1"]


def test_a_gang_keeps_all_its_places_or_none(site):
    gang = {"gpu": WHOLE, "gang": Gang(size=2), "reserve_seconds": 30, "expected_seconds": 7200}
    hint = site.ask(job="g", **gang)
    assert site.service.kept(hint).nodes == hint.gang.assignment
    other = site.ask(job="h", **gang)
    assert (other.reservation, other.wait) == ("", None)
    assert "its place is free in 7200 s, 3600 s are the most" in other.degraded
    assert len(site.service.reservations()) == 1


def test_a_gang_that_has_to_wait_is_told_for_how_long_and_its_data_is_brought(site):
    site.known.hold(LLAMA, SIZE, n2=0.9)
    site.known.put("n2", busy=8, free_in=20.0)
    hint = site.ask(gpu=WHOLE, gang=Gang(size=2), job="g", reserve_seconds=5)
    assert hint.wait.free_seconds == pytest.approx(20.0)
    assert hint.wait.ready_seconds == hint.gang.ready.p50
    assert site.service.kept(hint).token == hint.wait.reservation
    assert {wanted.node for _, wanted in site.warmed} == {"n1", "n2"}


def test_what_is_cancelled_or_expired_is_free_again(site):
    first = site.ask(gpu=WHOLE, job="one", reserve_seconds=30)
    site.service.cancel(first.reservation)
    assert names(site.ask(gpu=WHOLE, job="two"))[0] == "n2"
    with pytest.raises(NotKnownError):
        site.service.cancel(first.reservation)
    site.ask(gpu=WHOLE, job="one", reserve_seconds=30)
    site.clock.now += 31
    assert names(site.ask(gpu=WHOLE, job="two"))[0] == "n2"


def test_a_claimed_place_is_free_once_the_inventory_shows_the_job(site):
    first = site.ask(gpu=WHOLE, job="one", reserve_seconds=3600)
    site.service.claim(first.reservation)
    assert len(site.service.reservations()) == 1
    site.clock.now += 4
    assert site.service.reservations() == ()
    with pytest.raises(NotKnownError):
        site.service.claim(first.reservation)


def test_an_outcome_ends_the_keeping_and_tells_when_the_place_is_free(site):
    hint = site.ask(gpu=WantedGpu(count=2), job="one", reserve_seconds=3600, expected_seconds=600)
    site.known.put("n2", busy=2)
    site.service.outcome(hint.id, "n2", 12.0, {})
    site.clock.now += 4
    assert site.service.reservations() == ()
    at = site.clock.now - 4 + 600
    assert site.known.expected == [("n2", 0, at), ("n2", 1, at)]


def test_when_nothing_can_be_stored_the_answer_says_so_and_is_given(site):
    site.memory.is_down = True
    hint = site.ask(gpu=WHOLE, reserve_seconds=30)
    assert names(hint)[0] == "n2"
    assert hint.reservation == ""
    assert hint.degraded.startswith("no place is kept: the coordinator's store does not answer")


def test_jobs_without_a_name_are_not_taken_for_one(site):
    site.ask(gpu=WHOLE, reserve_seconds=30)
    site.ask(gpu=WHOLE, reserve_seconds=30)
    assert sorted(kept.nodes[0] for kept in site.service.reservations()) == ["n1", "n2"]
    assert site.memory.state._line == {}


def test_who_names_every_node_there_is_stands_in_line_for_all(site):
    site.ask(gpu=WHOLE, job="one", reserve_seconds=30, candidates=("n1", "n2"))
    site.ask(gpu=WHOLE, job="two", reserve_seconds=30, candidates=("n1",))
    line = site.memory.state._line
    assert line["one"].asker.candidates == frozenset()
    assert line["two"].asker.candidates == {"n1"}


def test_who_waits_and_asks_again_keeps_its_place_and_has_waited_once(site):
    site.known.put("n2", busy=8, free_in=30.0)
    site.known.put("n1", busy=8, free_in=300.0)
    asked = [
        site.ask(gpu=WHOLE, job="one", reserve_seconds=5, expected_seconds=3600) for _ in range(9)
    ]

    assert {hint.wait.reservation for hint in asked} == {asked[0].wait.reservation}
    assert site.memory.state.waits("one") == 1


def test_who_waits_and_asks_again_is_moved_to_what_has_become_clearly_better(site):
    site.known.put("n2", busy=8, free_in=60.0)
    site.known.put("n1", busy=8, free_in=300.0)
    first = site.ask(gpu=WHOLE, job="one", reserve_seconds=5, expected_seconds=3600)
    site.known.put("n1", gpus=8)
    second = site.ask(gpu=WHOLE, job="one", reserve_seconds=5, expected_seconds=3600)

    assert (first.wait.node, second.wait) == ("n2", None)
    assert [each.nodes for each in site.service.reservations()] == [("n1",)]
