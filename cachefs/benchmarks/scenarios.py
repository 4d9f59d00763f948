"""The scenarios by name, and how a list of them is run."""

import traceback
from collections.abc import Iterator, Sequence

from cachefs.benchmarks.context import Bench, CannotRunError, Scenario
from cachefs.benchmarks.crowds import crowd
from cachefs.benchmarks.endpoints import endpoint
from cachefs.benchmarks.filling import cold, cold_eight, cold_link
from cachefs.benchmarks.flows import flow
from cachefs.benchmarks.footprint import imports, memory
from cachefs.benchmarks.freshness import hint_freshness
from cachefs.benchmarks.hints import hints
from cachefs.benchmarks.links import netns
from cachefs.benchmarks.loaders.apart import load_second
from cachefs.benchmarks.loaders.cold import load_cold
from cachefs.benchmarks.loaders.costs import load_costs
from cachefs.benchmarks.loaders.distant import load_remote
from cachefs.benchmarks.loaders.node import load
from cachefs.benchmarks.manyfiles import files
from cachefs.benchmarks.measuring import Row, failed_row, skipped_row
from cachefs.benchmarks.mounts.cloud import mount_cloud
from cachefs.benchmarks.mounts.distant import mount_mmap, mount_remote
from cachefs.benchmarks.mounts.names import mount_names
from cachefs.benchmarks.mounts.whole import mount
from cachefs.benchmarks.moving import drain, join
from cachefs.benchmarks.outcomes import hint_outcomes
from cachefs.benchmarks.planning import flow_plan
from cachefs.benchmarks.reading import local, remote
from cachefs.benchmarks.scheduling import hint_extender
from cachefs.errors import CacheFSError, NotKnownError

SCENARIOS: dict[str, Scenario] = {
    "local": local,
    "remote": remote,
    "cold": cold,
    "coldlink": cold_link,
    "cold8": cold_eight,
    "netns": netns,
    "crowd": crowd,
    "endpoint": endpoint,
    "memory": memory,
    "import": imports,
    "files": files,
    "join": join,
    "drain": drain,
    "flow": flow,
    "hints": hints,
    "flow-plan": flow_plan,
    "hint-extender": hint_extender,
    "hint-outcomes": hint_outcomes,
    "hint-freshness": hint_freshness,
    "load": load,
    "load-remote": load_remote,
    "load-cold": load_cold,
    "load-second": load_second,
    "load-costs": load_costs,
    "mount": mount,
    "mount-remote": mount_remote,
    "mount-mmap": mount_mmap,
    "mount-names": mount_names,
    "mount-cloud": mount_cloud,
}


def describe() -> list[tuple[str, str]]:
    """Return each scenario's name and what it does, in a sentence."""
    return [(name, (run.__doc__ or "").split("\n")[0]) for name, run in SCENARIOS.items()]


def run_scenarios(bench: Bench, names: Sequence[str]) -> Iterator[list[Row]]:
    """Run scenarios one after the other, all of them for no names; yield the rows of each.

    One that cannot run here, or fails, has a row that says so, and the others go on.

    Raises:
        NotKnownError: There is no scenario of a name.
    """
    for name in names:
        if name not in SCENARIOS:
            raise NotKnownError(
                "no such scenario", subject=name, hint=f"one of {', '.join(SCENARIOS)}"
            )
    for name in names or SCENARIOS:
        bench.say(f"{name}: {(SCENARIOS[name].__doc__ or '').split(chr(10))[0]}")
        yield _run(bench, name)


def _run(bench: Bench, name: str) -> list[Row]:
    try:
        return SCENARIOS[name](bench)
    except CannotRunError as reason:
        return [skipped_row(name, str(reason))]
    except CacheFSError as error:
        return [failed_row(name, str(error))]
    except Exception as error:  # noqa: BLE001 - a bug in one scenario must not lose the others
        bench.say(traceback.format_exc())
        return [failed_row(name, f"{type(error).__name__}: {error}")]
