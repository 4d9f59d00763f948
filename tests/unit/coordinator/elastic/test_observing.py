"""What is seen of a pool in what its workers say."""

import json

from cachefs.coordinator.elastic.observing import Observer, read_report
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName, WorkerId


def member(name, incarnation="1"):
    return Member(
        worker=WorkerId(name),
        incarnation=incarnation,
        node="",
        zone="",
        pool="default",
        weight=1.0,
        data_address="",
        control_address="",
        socket_path="",
    )


def said(**statistics):
    return read_report(json.dumps(statistics))


def look(observer, members, at, **reports):
    named = {WorkerId(name): report for name, report in reports.items()}
    return observer.look(members, named, workers=len(members), idle_seconds=0.0, at=at)


def test_what_a_pool_s_workers_have_is_added_up():
    tiers = [{"used_bytes": 30, "capacity_bytes": 50}, {"used_bytes": 10, "capacity_bytes": 150}]
    one, two = said(tiers=tiers, queued_fills=3), said(tiers=tiers[:1], queued_fills=4)
    seen = look(Observer(), [member("a"), member("b")], 1.0, a=one, b=two, stranger=one)
    assert (seen.queued_fills, seen.capacity_used) == (7.0, 70 / 250)


def test_hits_are_counted_from_the_first_look_on_and_a_restarted_worker_anew():
    observer, members = Observer(), [member("a")]
    seen = look(observer, members, 1.0, a=said(hits=1000, misses=0))
    assert seen.hit_ratio is None, "nothing was asked for since"
    seen = look(observer, members, 2.0, a=said(hits=1003, misses=1))
    assert seen.hit_ratio == 0.75
    seen = look(observer, [member("a", "2")], 3.0, a=said(hits=0, misses=9))
    assert seen.hit_ratio == 0.75, "what it did before that look is not known"
    seen = look(observer, [member("a", "2")], 4.0, a=said(hits=0, misses=13))
    assert seen.hit_ratio == 3 / 8
    seen = look(observer, [member("a", "2")], 100.0, a=said(hits=0, misses=13))
    assert seen.hit_ratio is None


def test_a_report_of_another_version_counts_for_what_is_understood_of_it():
    report = read_report(
        json.dumps(
            {
                "tiers": "none",
                "queued_fills": "many",
                "hits": -1,
                "used_seconds_ago": {"a": 3, "b/c": "x", "not a name": 1, "team/d": 0.5},
            }
        )
    )
    assert (report.capacity_bytes, report.queued_fills, report.hits) == (0, 0, 0)
    assert report.uses == {DatasetName.parse("a"): 3.0, DatasetName.parse("team/d"): 0.5}
    assert read_report("") == read_report("{}")
