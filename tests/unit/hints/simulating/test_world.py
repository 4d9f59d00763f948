"""What must hold in the simulated world, whatever a policy decides."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from cachefs.errors import ConfigError, InvariantError
from cachefs.hints.simulating.caches import Tier
from cachefs.hints.simulating.counting import compare, count, percentile
from cachefs.hints.simulating.links import Links
from cachefs.hints.simulating.replay import POLICIES, replay
from cachefs.hints.simulating.traces import Request, Trace, sizes
from cachefs.hints.simulating.world import Job, Site, World

SMALL = Site(gpus=(2, 2, 2), memory_bytes=40e9, disk_bytes=120e9, peers=True)


def trace(requests=120, models=9, seed=3, every=4.0):
    drawn = np.random.default_rng(seed)
    at = np.cumsum(drawn.exponential(every, requests)).tolist()
    chosen = np.minimum(drawn.zipf(1.6, requests), models).tolist()
    runs = drawn.lognormal(2.5, 0.7, requests).tolist()
    return Trace(
        "made", tuple(Request(*each) for each in zip(at, map(str, chosen), runs, strict=True))
    )


def play(policy, site=SMALL, of=None, seed=1):
    of = of or trace()
    return replay(of, sizes(of.models, seed=seed), site, policy, seed=seed)


@pytest.mark.parametrize("peers", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_job_is_served_and_its_bytes_come_from_somewhere(policy, peers):
    site = Site(gpus=SMALL.gpus, memory_bytes=40e9, disk_bytes=120e9, peers=peers)
    played = play(policy, site)

    for job in played.jobs:
        assert job.request.at <= job.placed_at <= job.loaded_at <= job.ready_at < job.ended_at
        assert job.split.total == pytest.approx(job.size, abs=1)
        assert job.ended_at == pytest.approx(job.ready_at + job.request.runs_seconds)
    assert played.origin_bytes == pytest.approx(sum(job.split.origin for job in played.jobs))
    assert peers or not any(job.split.peer_remote for job in played.jobs)


@pytest.mark.parametrize("policy", POLICIES)
def test_no_accelerator_runs_two_jobs_at_once(policy):
    used = {}
    for job in play(policy).jobs:
        for gpu in job.gpus:
            used.setdefault(gpu, []).append((job.placed_at, job.ended_at))
    for times in used.values():
        times.sort()
        assert all(end <= begin for (_, end), (begin, _) in pairwise(times))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_figures(policy):
    first, again = (count(policy, 1, play(policy)) for _ in range(2))

    assert first == again


def test_another_seed_draws_other_sizes():
    assert sizes(["a", "b"], seed=1) == sizes(["b", "a"], seed=1)
    assert sizes(["a", "b"], seed=1) != sizes(["a", "b"], seed=2)
    drawn = sizes(map(str, range(1000)), seed=1).values()
    assert 4e9 <= min(drawn) < 4.1e9
    assert 62e9 < max(drawn) <= 64e9
    assert 15e9 < float(np.median(list(drawn))) < 17e9


def test_jobs_that_want_several_accelerators_get_them_on_one_node():
    requests = [Request(float(at), str(at % 3), 20.0, 1 + at % 2) for at in range(30)]
    for policy in POLICIES:
        played = play(policy, of=Trace("wide", tuple(requests)))
        assert all(len(set(job.gpus)) == job.request.gpus for job in played.jobs)
        assert all(len({gpu.node for gpu in job.gpus}) == 1 for job in played.jobs)


def test_what_fits_on_no_node_is_said_at_once():
    with pytest.raises(ConfigError, match="3 accelerators"):
        play("spread", of=Trace("wide", (Request(0.0, "a", 1.0, 3),)))


def test_a_policy_that_is_not_known_is_named():
    with pytest.raises(ConfigError, match="luck"):
        play("luck")


def job(number=0, model="a", runs=10.0):
    return Job(number, Request(0.0, model, runs), 10e9)


def test_a_cold_start_takes_the_origins_time_and_a_warm_one_none():
    world = World(SMALL)
    cold, warm = job(), job(1)
    world.place(cold, world.machines[0].gpus[:1])
    world.advance(100.0)
    world.place(warm, world.machines[0].gpus[:1])

    assert cold.ready_at == pytest.approx(10e9 / 2.5e9 + 10e9 / 20e9 + 4)
    assert warm.ready_at == 100.0
    assert warm.split.gpu == warm.size


def test_two_jobs_on_a_node_share_one_fill():
    world = World(SMALL)
    first, second = job(), job(1)
    world.place(first, world.machines[0].gpus[:1])
    world.advance(2.0)
    world.place(second, world.machines[0].gpus[1:])
    world.advance(100.0)

    assert world.origin_bytes == 10e9
    assert second.split.arriving == pytest.approx(5e9)
    assert first.loaded_at == second.loaded_at == pytest.approx(4.0)


def test_a_peer_sends_no_byte_before_it_has_it():
    world = World(SMALL)
    first, second = job(), job(1)
    world.place(first, world.machines[0].gpus[:1])
    world.place(second, world.machines[1].gpus[:1])
    world.advance(100.0)

    assert world.origin_bytes == 10e9
    assert second.split.peer_remote == 10e9
    assert second.loaded_at >= first.loaded_at


def test_a_taken_accelerator_is_not_given_out_again():
    world = World(SMALL)
    world.place(job(), world.machines[0].gpus[:1])

    with pytest.raises(InvariantError):
        world.place(job(1), world.machines[0].gpus[:1])


def test_links_are_shared_fairly_and_what_one_cannot_use_others_get():
    links, ended = Links([10.0, 2.0]), {}
    links.start((0, 1), 20.0, 0.0, lambda: ended.update(slow=True))
    wide = links.start((0,), 40.0, 0.0, lambda: ended.update(wide=True))

    assert wide.rate == 8.0
    assert links.next() == 5.0
    links.finish(5.0)
    assert ended == {"wide": True}
    assert links.next() == 10.0


def test_links_never_carry_more_than_they_can():
    drawn = np.random.default_rng(7)
    links = Links([3.0, 5.0, 7.0, 2.0])
    going = []
    for number in range(40):
        way = tuple(sorted(set(drawn.integers(0, 4, 2).tolist())))
        now = number * 0.1
        links.finish(now)
        going.append(links.start(way, float(drawn.integers(1, 9)), now, lambda: None))
        for link, rate in enumerate(links.rates):
            users = [each for each in going if each.stamp >= 0 and link in each.links]
            assert sum(each.rate for each in users) <= rate + 1e-9
            assert len(users) == links.users(link)
    while links.next() < float("inf"):
        links.finish(links.next())
    assert all(each.stamp < 0 for each in going)


def test_a_tier_drops_the_oldest_and_only_as_much_as_it_must():
    tier = Tier(100)
    for model, size in (("a", 60), ("b", 30)):
        tier.land(model, tier.promise(size))
    tier.touch("a")
    tier.land("c", tier.promise(20))

    assert tier.models() == {"b": 20, "a": 60, "c": 20}


def test_a_tier_keeps_what_is_read_and_takes_what_it_has_room_for():
    tier = Tier(100)
    tier.land("a", tier.promise(60))
    tier.pin("a")

    assert tier.promise(80) == 40
    tier.unpin("a")
    assert tier.held("a") == 60


def test_percentiles_are_of_what_was_seen():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
    assert percentile([float(each) for each in range(1, 101)], 99) == 99.0
    assert percentile([], 50) == 0.0


def test_policies_are_compared_seed_by_seed():
    rows = [
        count(name, seed, play(name, seed=seed)) for name in ("label", "hint") for seed in (1, 2)
    ]
    label, hint = compare(rows, "label")

    assert label.times_better == label.times_better_worst == 1.0
    ratios = [rows[at].mean_seconds / rows[at + 2].mean_seconds for at in (0, 1)]
    assert hint.times_better_worst == min(ratios)
    assert min(ratios) <= hint.times_better <= max(ratios)
    assert Counter(row.policy for row in rows) == {"label": 2, "hint": 2}
