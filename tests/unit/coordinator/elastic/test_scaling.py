"""What is kept of a pool's past, and what becomes of a decision."""

from cachefs.coordinator.elastic.scaling import History, fitted, judge
from cachefs.core.autoscaling import Observation, Policy, Target, recommend
from cachefs.core.pools import Pool

POLICY = Policy(rules=(Target("queued_fills", 4.0),), most=10, calm_seconds=400.0)


def seen(at, *, workers=4, queued=0.0):
    return Observation(at=at, workers=workers, queued_fills=queued)


def test_a_history_is_bounded_and_keeps_the_peaks_of_the_calm_time():
    history = History()
    for second in range(5000):
        history.add(seen(float(second), queued=64.0 if second == 4777 else 0.0), POLICY)
    assert len(history.kept) < 300
    assert history.kept[-1].at == 4999.0
    assert history.kept[0].at <= 4999.0 - 400.0 <= history.kept[1].at
    assert max(recommend(POLICY, one).workers for one in history.kept) == 10


def test_a_clock_that_is_set_back_begins_the_history_anew():
    history = History()
    for second in (1000.0, 1001.0, 500.0):
        history.add(seen(second), POLICY)
    assert [one.at for one in history.kept] == [500.0]


def test_a_change_that_is_still_to_come_by_the_calendar_does_not_block():
    history = History()
    history.add(seen(1000.0, queued=64.0), POLICY)
    pool = Pool(name="default", wanted=4, changed_at=99999.0)
    verdict = judge(POLICY, pool, history)
    assert verdict.change is not None
    assert verdict.change.wanted == 10


def test_zones_get_no_more_than_there_will_be():
    assert fitted({"a": 3, "b": 2}, 6) == {"a": 3, "b": 2}
    assert fitted({"a": 3, "b": 2}, 3) == {"a": 1, "b": 2}
    assert fitted({"a": 3, "b": 2}, 0) == {}
