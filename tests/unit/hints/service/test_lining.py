"""A whole queue is asked about: places go to the jobs that they are best for, and are kept for them."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.core.hints.asking import Gang, Line, OwnPlace, Question, Reading, WantedGpu
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError
from tests.unit.hints.service.known import LLAMA, SIZE, Site

TOKENS = DatasetName.parse("tokens")
ONE = WantedGpu()


def job(name, dataset=LLAMA, *, keep=None, gpu=ONE, **facts):
    return Question(
        job=name,
        readings=(Reading(dataset=dataset),),
        gpu=gpu,
        reserve_seconds=keep,
        limit=4,
        **facts,
    )


def ask(site, *jobs, places=(), waiting=0):
    return site.service.answer_line(Line(questions=jobs, places=places, waiting=waiting))


def starts(hints):
    return [None if each.start is None else each.start.place or each.start.node for each in hints]


def own(name, holds=None, **facts):
    return OwnPlace(name=name, node="n1", dataset=holds, **facts)


@pytest.fixture
def site():
    site = Site()
    site.known.put("n1", gpus=1)
    site.known.hold(LLAMA, SIZE, n1=0.0)
    site.known.hold(TOKENS, SIZE, n1=1.0)
    return site


def test_a_place_goes_to_the_job_that_it_is_best_for_not_to_the_first(site):
    hints = ask(site, job("first"), job("second", TOKENS))

    assert starts(hints) == [None, "n1"]
    assert hints[1].start.is_now
    assert [node.node for node in hints[0].nodes] == ["n1"]


def test_a_node_has_as_many_places_as_members_fit(site):
    site.known.put("n1", gpus=2)

    assert starts(ask(site, *(job(name) for name in "abc"))) == ["n1", "n1", None]


def test_what_a_program_has_in_its_accelerator_is_not_loaded_again(site):
    site.lessons.starts.learn("llama", 4.0)
    hints = ask(site, job("a"), places=[own("cold"), own("warm", LLAMA)])

    assert starts(hints) == ["warm"]
    assert hints[0].start.breakdown.ready == 0.0


def test_a_program_that_others_will_want_is_not_displaced(site):
    """Of two places as good for the job the one goes whose program nobody asks for."""
    for number in range(30):
        ask(site, job(f"t{number}", TOKENS), places=[])
    places = [own("wanted", TOKENS), own("empty")]

    assert starts(ask(site, job("a"), places=places)) == ["empty"]
    assert starts(ask(site, job("t", TOKENS), places=places)) == ["wanted"]


def test_who_asks_for_a_place_to_be_kept_may_wait_for_a_better_one(site):
    site.lessons.runs.learn("llama", 60.0)
    site.lessons.starts.learn("llama", 10.0)
    places = [own("busy", LLAMA, busy_seconds=58.0), own("cold")]

    told = ask(site, job("a", keep=30.0), places=places)
    free = ask(site, job("b"), places=places)

    assert (starts(told), told[0].start.is_now) == (["busy"], False)
    assert told[0].wait.free_seconds == pytest.approx(2.0)
    assert [each.nodes for each in site.service.reservations()] == [("n1/busy",)]
    assert starts(free) == ["cold"]


def test_a_queue_that_is_asked_about_again_keeps_its_places(site):
    site.lessons.runs.learn("llama", 60.0)
    site.lessons.starts.learn("llama", 10.0)

    def again(busy):
        places = [own("busy", LLAMA, busy_seconds=busy), own("cold")]
        return ask(site, job("a", keep=30.0), places=places)[0]

    first = again(55.0)
    site.clock.now += 2.0
    second = again(57.0)

    assert second.token == first.token != ""
    assert second.wait.free_seconds == pytest.approx(3.0)


def test_a_job_gives_up_what_it_waits_for_as_soon_as_it_can_start(site):
    site.lessons.runs.learn("llama", 60.0)
    site.lessons.starts.learn("llama", 10.0)
    busy = own("busy", LLAMA, busy_seconds=50.0)
    ask(site, job("a", keep=30.0), places=[busy, own("cold")])

    told = ask(site, job("a", keep=30.0), places=[busy, own("cold"), own("warm", LLAMA)])

    assert (starts(told), told[0].start.is_now) == (["warm"], True)
    assert [each.nodes for each in site.service.reservations()] == [("n1/warm",)]


def test_what_is_kept_for_others_is_not_given_away(site):
    first = site.ask("llama", job="else", gpu=ONE, reserve_seconds=60.0, expected_seconds=7200.0)
    assert site.service.kept(first).nodes == ("n1",)

    assert starts(ask(site, job("a"), job("b", TOKENS, keep=30.0))) == [None, None]


def test_an_own_place_that_is_kept_for_others_is_not_given_away(site):
    one = ask(site, job("a", keep=60.0, expected_seconds=7200.0), places=[own("only")])
    other = ask(site, job("b", keep=60.0), places=[own("only")])

    assert (starts(one), starts(other)) == (["only"], [None])


def test_nobody_is_told_to_wait_who_does_not_ask_for_a_place_to_be_kept(site):
    site.lessons.runs.learn("llama", 60.0)
    told = ask(site, job("a"), places=[own("busy", LLAMA, busy_seconds=59.0)])

    assert starts(told) == [None]
    assert site.service.reservations() == ()


def test_nothing_is_kept_for_who_only_wants_to_know(site):
    site.known.put("n1", gpus=3)
    gang = Gang(size=2)
    ask(
        site,
        job("a", keep=30.0, dry_run=True),
        job("g", keep=30.0, gang=gang, dry_run=True),
        job("b", keep=30.0),
    )

    assert [each.job for each in site.service.reservations()] == ["b"]


def test_those_who_want_several_accelerators_do_not_get_what_others_got(site):
    site.known.put("n1", gpus=8)
    for keep in (None, 60.0):
        hints = ask(
            site,
            job("one", keep=keep, expected_seconds=7200.0),
            job("all", keep=keep, gpu=WantedGpu(count=8)),
        )
        assert starts(hints) == ["n1", None]


def test_a_gang_in_a_queue_is_placed_as_a_gang(site):
    site.known.put("n2", gpus=2)
    hints = ask(
        site,
        job("gang", keep=60.0, gang=Gang(size=2), expected_seconds=7200.0),
        job("a", keep=60.0),
    )

    assert hints[0].gang.assignment == ("n2", "n2")
    assert starts(hints) == [None, "n1"]


def test_a_store_that_does_not_answer_keeps_nothing_and_everybody_is_told_where_to_start(site):
    site.memory.is_down = True
    hints = ask(site, job("a", keep=30.0))

    assert starts(hints) == ["n1"]
    assert "no place is kept" in hints[0].degraded
    assert hints[0].token == ""


def test_a_place_on_a_node_that_nobody_knows_is_nobodys(site):
    place = OwnPlace(name="far", node="n9", dataset=LLAMA)
    hints = ask(site, job("a"), places=[place])

    assert starts(hints) == [None]
    assert "n9" in hints[0].degraded


def test_an_outcome_of_a_place_in_line_is_compared_with_what_was_said_of_that_place(site):
    (hint,) = ask(site, job("a", keep=30.0), places=[own("warm", LLAMA)])
    learned = site.service.outcome(hint.id, "n1", 0.5, {"run": 20.0})

    assert learned.estimated_seconds == 0.0
    assert site.lessons.document()["efficiencies"] == {}
    assert site.lessons.runs.of("llama") == 20.0
    left = [each.expires_at - site.clock.now for each in site.service.reservations()]
    assert all(seconds <= 3.0 for seconds in left)


def test_more_jobs_than_are_matched_at_a_time_all_get_what_is_free(site):
    site.known.put("n1", gpus=8)
    for number in range(2, 20):
        site.known.put(f"n{number}", gpus=8)
    hints = ask(site, *(job(f"j{number}") for number in range(150)))

    assert sum(place is not None for place in starts(hints)) == 150
    assert max(Counter(starts(hints)).values()) <= 8


def test_jobs_without_ids_or_with_the_same_are_no_line():
    with pytest.raises(ConfigError):
        Line(questions=(job("a"), job("a")))
    with pytest.raises(ConfigError):
        Line(questions=(job(""),))
    with pytest.raises(ConfigError):
        Line(questions=(job("a"),), places=(own("p"), own("p")))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([1, 1, 2])), max_size=9),
    st.lists(st.sampled_from([0.0, 1.0, 40.0]), min_size=1, max_size=4),
)
def test_no_accelerator_is_promised_twice_however_often_a_queue_is_asked_about(jobs, waits):
    site = Site()
    for name, busy in (("n1", 0), ("n2", 1), ("n3", 2)):
        site.known.put(name, gpus=3, busy=busy, free_in=20.0)
    site.known.hold(LLAMA, SIZE, n1=1.0)
    site.known.hold(TOKENS, SIZE, n2=1.0)
    questions = [
        job(
            f"j{number}",
            LLAMA if is_llama else TOKENS,
            keep=30.0 if keeps else None,
            gpu=WantedGpu(count=count),
            expected_seconds=7200.0,
        )
        for number, (is_llama, keeps, count) in enumerate(jobs)
    ]
    for wait in waits if questions else ():
        hints = ask(site, *questions)
        used = Counter()
        for hint, question in zip(hints, questions, strict=True):
            if hint.start is not None:
                used[hint.start.node] += question.gpu.count
        assert all(count <= 3 for count in used.values()), used
        kept = {each.token for each in site.service.reservations()}
        assert {hint.token for hint in hints if hint.token} <= kept
        assert len({each.job for each in site.service.reservations()}) == len(kept)
        site.clock.now += wait
