"""``cachefs simulate``: what a trace would have cost under each policy, and what a larger cache would buy."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_facts, print_json, print_table, say
from cachefs.errors import ConfigError

if TYPE_CHECKING:
    from cachefs.hints.simulating.counting import Comparison, Figures
    from cachefs.hints.simulating.hits import Hits
    from cachefs.hints.simulating.traces import Trace
    from cachefs.hints.simulating.world import Site

_POLICIES = "spread,label,label+warm,serverlessllm,hint,hint+reserve"
_AGAINST = "label"
_Value = TypeVar("_Value")


class What(StrEnum):
    """What is to be found out."""

    PLACEMENT = "placement"
    EVICTION = "eviction"


_TracePath = Annotated[
    Path,
    typer.Argument(
        metavar="TRACE",
        help="GenTD26's lora_request_trace.csv or openb's openb_pod_list_default.csv.",
    ),
]
_Asked = Annotated[
    What, typer.Option("--what", help="Where jobs start, or what a cache would have hit.")
]
_Names = Annotated[
    str, typer.Option("--policy", metavar="NAME,…", help="Who decides where jobs start.")
]
_Nodes = Annotated[int, typer.Option("--nodes", min=1, help="How many nodes.")]
_Gpus = Annotated[int, typer.Option("--gpus", min=1, help="Accelerators of each node.")]
_NodeList = Annotated[
    Path | None, typer.Option("--node-list", metavar="FILE", help="openb's list of nodes, instead.")
]
_Speedup = Annotated[
    float, typer.Option("--speedup", min=0.001, help="Arrivals come closer by this factor.")
]
_Requests = Annotated[
    int | None, typer.Option("--requests", min=1, help="At most so many of the trace.")
]
_Skip = Annotated[int, typer.Option("--skip", min=0, help="Leave out so many at the beginning.")]
_Seeds = Annotated[int, typer.Option("--seeds", min=1, help="How often models get other sizes.")]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="The first seed.")]
_Sizes = Annotated[
    str, typer.Option("--model-sizes", metavar="FROM-TO", help="Sizes are drawn between these.")
]
_Origin = Annotated[str, typer.Option("--origin", metavar="RATE", help="The origin's link.")]
_Nic = Annotated[str, typer.Option("--nic", metavar="RATE", help="Each node's network card.")]
_Disk = Annotated[str, typer.Option("--disk", metavar="RATE", help="Each node's disk.")]
_Load = Annotated[str, typer.Option("--load", metavar="RATE", help="Into a node's accelerators.")]
_Init = Annotated[str, typer.Option("--init", metavar="TIME", help="For a program to start.")]
_Memory = Annotated[str, typer.Option("--memory", metavar="SIZE", help="Each memory tier.")]
_DiskTier = Annotated[str, typer.Option("--disk-tier", metavar="SIZE", help="Each disk tier.")]
_Peers = Annotated[bool, typer.Option("--peers/--no-peers", help="Nodes read from one another.")]
_Against = Annotated[str, typer.Option("--against", metavar="POLICY", help="What to compare with.")]
_Capacities = Annotated[
    str, typer.Option("--capacity", metavar="SIZE,…", help="With --what eviction.")
]
_Evictions = Annotated[
    str, typer.Option("--eviction", metavar="NAME,…", help="With --what eviction.")
]
_Block = Annotated[str, typer.Option("--block", metavar="SIZE", help="With --what eviction.")]
_Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw a picture: waits.png.")
]


def simulate(
    trace: _TracePath,
    *,
    what: _Asked = What.PLACEMENT,
    policies: _Names = _POLICIES,
    nodes: _Nodes = 16,
    gpus: _Gpus = 4,
    node_list: _NodeList = None,
    speedup: _Speedup = 15.0,
    requests: _Requests = None,
    skip: _Skip = 0,
    seeds: _Seeds = 5,
    seed: _Seed = 0,
    model_sizes: _Sizes = "4GB-64GB",
    origin: _Origin = "20Gbit",
    nic: _Nic = "25Gbit",
    disk: _Disk = "3GB/s",
    load: _Load = "20GB/s",
    init: _Init = "4s",
    memory: _Memory = "96GB",
    disk_tier: _DiskTier = "400GB",
    peers: _Peers = True,
    against: _Against = _AGAINST,
    capacity: _Capacities = "500GB,1TB,2TB",
    eviction: _Evictions = "lru,tinylfu,size",
    block: _Block = "1GiB",
    plot: _Plot = None,
    as_json: options.Json = False,
) -> None:
    """Replay a trace of requests against policies, or against caches.

    Models get sizes by seed, log-uniform: no public trace has them. The same command gives the same
    figures. `docs/SIMULATION.md` says what the simulated world is like.
    """
    from cachefs.config.units import parse_duration, parse_rate, parse_size
    from cachefs.hints.simulating.traces import read_nodes, read_trace
    from cachefs.hints.simulating.world import Site

    known = read_trace(trace, speedup=speedup, first=skip, limit=requests, seed=seed)
    smallest, largest = _bounds(model_sizes, parse_size)
    run = _Run(known, list(range(seed, seed + seeds)), smallest, largest, speedup)
    if what is What.EVICTION:
        capacities = [parse_size(each) for each in _words(capacity)]
        _show_hits(run, run.hits(_words(eviction), capacities, parse_size(block)), as_json=as_json)
        return
    site = Site(
        gpus=read_nodes(node_list) if node_list is not None else (gpus,) * nodes,
        origin=parse_rate(origin),
        nic=parse_rate(nic),
        disk=parse_rate(disk),
        load=parse_rate(load),
        init_seconds=parse_duration(init),
        memory_bytes=parse_size(memory),
        disk_bytes=parse_size(disk_tier),
        peers=peers,
    )
    rows = run.placements(_words(policies), site, plot)
    _show_figures(run, site, rows, against=against, as_json=as_json)


class _Run:
    """What all replays of one command have in common."""

    def __init__(
        self, trace: "Trace", seeds: Sequence[int], smallest: int, largest: int, speedup: float
    ) -> None:
        self.trace = trace
        self.seeds = seeds
        self.smallest = smallest
        self.largest = largest
        self.speedup = speedup

    def placements(
        self, policies: Sequence[str], site: "Site", plot: Path | None
    ) -> "list[Figures]":
        from cachefs.hints.simulating.counting import count
        from cachefs.hints.simulating.plotting import plot_waits, require_charts
        from cachefs.hints.simulating.replay import check_policy, replay

        for policy in policies:
            check_policy(policy)
        if plot is not None:
            require_charts()
        rows = []
        waits: dict[str, list[float]] = {policy: [] for policy in policies}
        for seed in self.seeds:
            for policy in policies:
                say(f"seed {seed}: {policy} …")
                played = replay(self.trace, self.sizes(seed), site, policy, seed=seed)
                rows.append(count(policy, seed, played))
                waits[policy] += [job.wait_seconds for job in played.jobs]
        if plot is not None:
            title = f"{self.trace.name}, {self.speedup:g} times as fast, on {len(site.gpus)} nodes\n{self.facts}"
            plot_waits(plot, title, waits)
        return rows

    def hits(self, policies: Sequence[str], capacities: Sequence[int], block: int) -> "list[Hits]":
        from cachefs.hints.simulating.hits import play_hits

        return [
            play_hits(self.trace, self.sizes(seed), policy, capacity, seed=seed, block_size=block)
            for seed in self.seeds
            for capacity in capacities
            for policy in policies
        ]

    def sizes(self, seed: int) -> Any:  # Any: sizes by model
        from cachefs.hints.simulating.traces import sizes

        return sizes(
            self.trace.models, seed=seed, smallest=float(self.smallest), largest=float(self.largest)
        )

    @property
    def facts(self) -> str:
        """Say what is not in the trace."""
        drawn = ", models drawn too" if self.trace.models_are_drawn else ""
        return (
            f"{len(self.trace.models)} models of {self.smallest / 1e9:g} to {self.largest / 1e9:g} GB,"
            f" log-uniform by seed{drawn}; seeds {self.seeds[0]} to {self.seeds[-1]}"
        )


def _show_figures(
    run: _Run, site: "Site", rows: "Sequence[Figures]", *, against: str, as_json: bool
) -> None:
    from cachefs.hints.simulating.counting import compare

    compared = compare(rows, against)
    if as_json:
        document = {
            "trace": run.trace.name,
            "requests": len(run.trace.requests),
            "speedup": run.speedup,
            "sizes": run.facts,
            "site": asdict(site),
            "against": against,
            "runs": [asdict(row) for row in rows],
            "policies": [asdict(each) for each in compared],
        }
        print_json(document)
        return
    nodes, gpus = len(site.gpus), sum(site.gpus)
    print_facts(
        [
            (
                "trace",
                f"{run.trace.name}, {len(run.trace.requests)} requests, {run.speedup:g} times as fast",
            ),
            ("models", run.facts),
            ("site", f"{nodes} nodes, {gpus} accelerators, peers {'on' if site.peers else 'off'}"),
        ]
    )
    print()
    _show_runs(rows)
    print()
    _show_compared(compared, against if against in {row.policy for row in rows} else "itself")


def _show_runs(rows: "Sequence[Figures]") -> None:
    headings = ("MEAN S>", "P50>", "P90>", "P99>", "WARM>", "ORIGIN TB>", "IDLE S>", "LOAD P50>")
    print_table(
        ("SEED>", "POLICY", *headings, "P95>", "P99>"),
        (
            (
                row.seed,
                row.policy,
                f"{row.mean_seconds:.2f}",
                f"{row.p50_seconds:.1f}",
                f"{row.p90_seconds:.1f}",
                f"{row.p99_seconds:.1f}",
                f"{row.warm:.0%}",
                f"{row.origin_bytes / 1e12:.2f}",
                f"{row.idle_seconds:.0f}",
                *(f"{each:.1f}" for each in row.loads),
            )
            for row in rows
        ),
    )


def _show_compared(compared: "Sequence[Comparison]", against: str) -> None:
    print_table(
        (
            "ALL SEEDS",
            "MEAN S>",
            "P50>",
            "P99>",
            "ORIGIN TB>",
            "IDLE S>",
            f"TIMES BETTER THAN {against.upper()}>",
            "WORST SEED>",
            "P99 RATIO>",
            "WORST SEED>",
        ),
        (
            (
                each.policy,
                f"{each.mean_seconds:.2f}",
                f"{each.p50_seconds:.1f}",
                f"{each.p99_seconds:.1f}",
                f"{each.origin_bytes / 1e12:.2f}",
                f"{each.idle_seconds:.0f}",
                f"{each.times_better:.2f}",
                f"{each.times_better_worst:.2f}",
                f"{each.p99_ratio:.2f}",
                f"{each.p99_ratio_worst:.2f}",
            )
            for each in compared
        ),
    )


def _show_hits(run: _Run, rows: "Sequence[Hits]", *, as_json: bool) -> None:
    if as_json:
        runs = [{**asdict(row), "ratio": row.ratio, "best_ratio": row.best_ratio} for row in rows]
        print_json({"trace": run.trace.name, "sizes": run.facts, "runs": runs})
        return
    requests = f"{run.trace.name}, {len(run.trace.requests)} requests"
    print_facts([("trace", requests), ("models", run.facts)])
    print()
    print_table(
        ("SEED>", "CAPACITY>", "EVICTION", "HITS>", "WHOLE>", "ORIGIN TB>", "BEST POSSIBLE>"),
        (
            (
                row.seed,
                f"{row.capacity_bytes / 1e9:g} GB",
                row.policy,
                f"{row.ratio:.1%}",
                f"{row.whole_hits / row.requests:.1%}",
                f"{(row.read_bytes - row.hit_bytes) / 1e12:.2f}",
                f"{row.best_ratio:.1%}",
            )
            for row in rows
        ),
    )
    print()
    _show_mean_hits(rows)


def _show_mean_hits(rows: "Sequence[Hits]") -> None:
    kinds = dict.fromkeys((row.capacity_bytes, row.policy) for row in rows)
    found = {
        kind: [row for row in rows if (row.capacity_bytes, row.policy) == kind] for kind in kinds
    }
    print_table(
        ("ALL SEEDS", "CAPACITY>", "HITS>", "LEAST>", "MOST>", "ORIGIN TB>"),
        (
            (
                policy,
                f"{capacity / 1e9:g} GB",
                f"{sum(row.ratio for row in same) / len(same):.1%}",
                f"{min(row.ratio for row in same):.1%}",
                f"{max(row.ratio for row in same):.1%}",
                f"{sum(row.read_bytes - row.hit_bytes for row in same) / len(same) / 1e12:.2f}",
            )
            for (capacity, policy), same in found.items()
        ),
    )


def _words(text: str) -> list[str]:
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise ConfigError("nothing is named", hint="names, with commas between them")
    return list(dict.fromkeys(found))


def _bounds(text: str, parse: Callable[[str], _Value]) -> tuple[_Value, _Value]:
    smallest, dash, largest = text.partition("-")
    if not dash:
        raise ConfigError(f"no bounds: {text!r}", hint="write them like 4GB-64GB")
    return parse(smallest), parse(largest)
