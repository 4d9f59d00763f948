"""Crowds: many readers want one file at once, from workers each behind a link of its own.

Two clusters stand on the same machines and take turns: one refers a crowd to replicas, in the other the
owner of a block serves everybody. Each turn begins with one copy of everything, so what is measured has
the making of the replicas in it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench, CannotRunError
from cachefs.benchmarks.floors import in_threads, prepared
from cachefs.benchmarks.measuring import Comparison, Contestant, Row
from cachefs.benchmarks.namespaces import Network, why_not
from cachefs.benchmarks.shards import make_shards
from cachefs.client.reader import Reader
from cachefs.config.schema import GIB, MIB, HeatConfig, ReaderConfig
from cachefs.errors import CacheFSError

_BLOCK = 8 * MIB
_DEADLINE_SECONDS = 120.0
"""Of a read: links are slow here."""
_SPREAD = "referred to replicas"
_ALONE = "the owner alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crowd:
    """What is read by everybody at once, from where."""

    readers: int
    workers: int
    node_bits: int
    """All links together are no effort for one core, so that links are what counts."""
    blocks: int
    connections: int
    """Of each reader."""
    rounds: int


_ONE_BLOCK = _Crowd(readers=12, workers=3, node_bits=200_000_000, blocks=1, connections=1, rounds=8)
_ONE_PASS = _Crowd(readers=12, workers=6, node_bits=100_000_000, blocks=12, connections=4, rounds=1)


def crowd(bench: Bench) -> list[Row]:
    """Read one file with many readers at once: one block again and again, then several blocks once."""
    reason = why_not()
    if reason:
        raise CannotRunError(reason)
    again = replace(_ONE_BLOCK, rounds=1) if bench.quick else _ONE_BLOCK
    once = replace(_ONE_PASS, readers=8, blocks=2) if bench.quick else _ONE_PASS
    return [
        _compare(bench, again).row("crowd, one block", _SPREAD, _ALONE, at_least=2.0),
        _compare(bench, once).row("crowd, one pass", _SPREAD, _ALONE, at_least=0.9),
    ]


@contextmanager
def _clusters(bench: Bench, of: _Crowd) -> Iterator[dict[str, Cluster]]:
    """Start both clusters on the same machines."""
    size = of.blocks * _BLOCK
    folder = bench.folder / f"crowd-{size}-{bench.seed}"
    make_shards(folder, size=size, seed=bench.seed, shard_bytes=size)
    heats = {_SPREAD: HeatConfig(), _ALONE: HeatConfig(askers_limit=0)}
    with Network() as network, ExitStack() as stack:
        machines = [network.add(f"w{at}", bits_rate=of.node_bits) for at in range(of.workers)]
        clusters: dict[str, Cluster] = {}
        for number, (name, heat) in enumerate(heats.items()):
            place = bench.folder / f"crowd-{number}"
            cluster = stack.enter_context(Cluster(place, host=network.address))
            for at, machine in enumerate(machines):
                plan = WorkerPlan(
                    name=f"worker-{at}",
                    capacity_bytes=2 * size + GIB,
                    host=machine.address,
                    command_prefix=machine.command_prefix,
                    heat=heat,
                )
                cluster.start_worker(plan)
            origin = {"url": f"file://{folder}"}
            cluster.api.post("/v1/datasets", {"name": DATASET, "origin": origin})
            clusters[name] = cluster
        yield clusters


def _compare(bench: Bench, of: _Crowd) -> Comparison:
    config = ReaderConfig(
        local=False, connections_limit=of.connections, deadline_seconds=_DEADLINE_SECONDS
    )

    def contestant(cluster: Cluster) -> Contestant:
        def make_one_copy() -> None:
            cluster.evict()
            cluster.warm()

        return Contestant(lambda: _read_at_once(cluster, config, of), make_one_copy)

    with _clusters(bench, of) as clusters:
        others = [process.pid for cluster in clusters.values() for process in cluster.processes()]
        contestants = {name: contestant(cluster) for name, cluster in clusters.items()}
        return bench.compare(contestants, cluster=None, others=others)


def _read_at_once(cluster: Cluster, config: ReaderConfig, of: _Crowd) -> int:
    """Have all readers read the file at once; return the bytes of all of them."""
    with ExitStack() as stack:
        readers = [stack.enter_context(cluster.reader(config)) for _ in range(of.readers)]
        sizes = [0] * of.readers

        def read(at: int) -> None:
            sizes[at] = _read(readers[at], of.rounds)

        in_threads(of.readers, read)
        from_origin = sum(each.statistics().bytes_by_source["origin"] for each in readers)
    if from_origin:
        raise CacheFSError("the crowd cost the origin something", hint=f"{from_origin} bytes")
    return sum(sizes)


def _read(reader: Reader, rounds: int) -> int:
    dataset = reader.open(DATASET)
    [entry] = [each for each in dataset.files if each.size >= _BLOCK]
    buffer = prepared(entry.size)
    with dataset.file(entry.path) as file:
        return sum(file.read_into(0, buffer) for _ in range(rounds))
