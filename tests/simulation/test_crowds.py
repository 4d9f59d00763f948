"""Crowds: what many ask for at once comes from several workers, costs the origin once, and goes again."""

from random import Random

import pytest

from cachefs.config.schema import HeatConfig
from cachefs.core.blocks import BlockId
from cachefs.testing.simulation.cluster import Parts, SimCluster
from cachefs.testing.simulation.topology import BLOCK_BYTES, ClusterPlan
from cachefs.testing.simulation.world.control import DATASET

HOT = Random(5).randbytes(BLOCK_BYTES)
IDLE_SECONDS = 2.0


def cluster_of(seed, *, limit=2, workers=3, readers=9, replicas=1, **heat):
    plan = ClusterPlan(
        workers=workers,
        readers=readers,
        replicas=replicas,
        zones=workers,
        nodes=workers,
        capacity_blocks=20,
        eviction="lru",
        files={"hot": HOT},
        heat=HeatConfig(askers_limit=limit, capacity_share=0.5, idle_seconds=IDLE_SECONDS, **heat),
    )
    return SimCluster(seed, plan, Parts())


def holders(cluster):
    [name] = cluster.truth
    return [
        worker.name
        for worker in cluster.workers.values()
        if worker.store is not None and worker.store.holds(name, 0)
    ]


def guests(cluster):
    return sum(len(worker.store.guests) for worker in cluster.workers.values() if worker.store)


def owner(cluster):
    [name] = cluster.truth
    version = cluster.coordinator.known_version(None)
    return cluster.owners(version, BlockId(name, 0))[0]


def start_crowd(cluster, wrong, *, rounds=30):
    """Have every reader read the hot file again and again."""

    def body(one):
        with one.reader.open(DATASET).file("hot") as file:
            for _ in range(rounds):
                if file.read(0, len(HOT)) != HOT:
                    wrong.append(one)

    return [one.process.start("read", lambda one=one: body(one)) for one in cluster.readers]


def played(cluster, story=lambda _: None, *, rounds=30):
    """Let a crowd read, play a story meanwhile, and let the crowd go."""
    seen = {}

    def main():
        cluster.start()
        cluster.world.sleep(3.0)
        wrong = []
        crowd = start_crowd(cluster, wrong, rounds=rounds)
        story(cluster)
        for task in crowd:
            task.join()
        assert wrong == []
        seen["guests"], seen["holders"] = guests(cluster), holders(cluster)
        seen["owner"] = owner(cluster)
        seen["paid"] = cluster.origin.memory.bytes_read
        cluster.world.sleep(IDLE_SECONDS + 2 * cluster.plan.cluster.lease_seconds)
        seen["guests after"], seen["holders after"] = guests(cluster), holders(cluster)
        cluster.close()

    cluster.world.run(main)
    return seen


def by_zone(cluster):
    """Return what each reader got from which zone; every worker has a zone of its own."""
    return [one.reader.statistics().bytes_by_zone for one in cluster.readers]


@pytest.mark.parametrize("seed", range(8))
def test_a_crowd_is_served_by_several_workers_and_the_origin_pays_once(seed):
    cluster = cluster_of(seed)
    seen = played(cluster)
    assert seen["paid"] == len(HOT)
    assert len(seen["holders"]) == 3
    shares = [sum(each.get(f"zone-{at}", 0) for each in by_zone(cluster)) for at in range(3)]
    assert sum(shares) == 30 * 9 * len(HOT)
    assert min(shares) > 0.15 * sum(shares)


@pytest.mark.parametrize("seed", range(4))
def test_when_the_crowd_has_gone_the_copies_go(seed):
    seen = played(cluster_of(seed))
    assert seen["guests"] == 2
    assert seen["guests after"] == 0
    assert seen["holders after"] == [seen["owner"]]


def test_what_few_ask_for_gets_no_copy():
    cluster = cluster_of(1, readers=2)
    seen = played(cluster)
    assert seen["holders"] == [seen["owner"]]
    assert cluster.network.referrals == 0


def test_no_crowd_is_spread_where_that_is_switched_off():
    cluster = cluster_of(1, limit=0)
    assert len(played(cluster)["holders"]) == 1


def test_there_are_no_more_replicas_than_may_be():
    seen = played(cluster_of(1, workers=5, readers=15, replicas_max=2))
    assert len(seen["holders"]) == 2


@pytest.mark.parametrize("seed", range(4))
def test_who_is_referred_gets_the_bytes_within_its_zone(seed):
    cluster = cluster_of(seed, limit=6)
    seen = played(cluster)
    owners = cluster.workers[seen["owner"]].place.zone
    for one, zones in zip(cluster.readers, by_zone(cluster), strict=True):
        own = next(w.place.zone for w in cluster.workers.values() if w.place.node == one.node)
        assert own == owners or set(zones) == {own, owners}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("who", ["owner", "replica"])
def test_a_crowd_outlives_the_death_of_whoever_serves_it(seed, who):
    cluster = cluster_of(seed)

    def kill(cluster):
        cluster.world.sleep(0.1)
        name = owner(cluster)
        others = [each for each in holders(cluster) if each != name]
        cluster.workers[name if who == "owner" else others[0]].kill()

    seen = played(cluster, kill, rounds=60)
    # With the owner, the only block that is no copy dies; but the copies need no origin either.
    assert seen["paid"] == len(HOT)


def test_a_replica_that_owns_the_block_in_the_end_keeps_it():
    cluster = cluster_of(2)
    gone = []

    def drain(cluster):
        cluster.world.sleep(0.1)
        gone.append(owner(cluster))
        cluster.drain(gone[0]).join()

    seen = played(cluster, drain, rounds=60)
    assert seen["paid"] == len(HOT)
    assert seen["owner"] != gone[0]
    assert seen["owner"] in seen["holders after"]
