"""What share of the bytes a cache of some size would have served."""

import pytest

from cachefs.errors import ConfigError
from cachefs.hints.simulating.hits import play_hits
from cachefs.hints.simulating.traces import Request, Trace

GB = 10**9


def play(models, policy="lru", capacity=30 * GB, size=10 * GB):
    trace = Trace("made", tuple(Request(float(at), each, 1.0) for at, each in enumerate(models)))
    sizes = dict.fromkeys(trace.models, float(size))
    return play_hits(trace, sizes, policy, capacity, seed=0, block_size=GB)


@pytest.mark.parametrize("policy", ["lru", "tinylfu", "size"])
def test_a_cache_with_room_for_all_reads_each_model_once(policy):
    hits = play("abcabcaab", policy, capacity=30 * GB)

    assert hits.read_bytes - hits.hit_bytes == hits.distinct_bytes == 30 * GB
    assert hits.ratio == pytest.approx(hits.best_ratio) == pytest.approx(6 / 9)
    assert hits.whole_hits == 6


def test_a_cycle_larger_than_the_cache_never_hits_what_went_longest_unread():
    assert play("abcd" * 5, "lru").ratio == 0
    assert play("abcd" * 5, "lru", capacity=40 * GB).ratio == 16 / 20


def test_what_is_read_often_outlives_a_pass_over_much_with_tinylfu():
    reads = "aaaaaaaa" + "bcdefghi" + "a"

    assert play(reads, "tinylfu").hit_bytes > play(reads, "lru").hit_bytes


def test_a_model_that_never_fits_is_no_hit():
    assert play("aaa", capacity=GB // 2).ratio == 0


def test_a_policy_that_is_not_known_is_named():
    with pytest.raises(ConfigError, match="luck"):
        play("a", "luck")
