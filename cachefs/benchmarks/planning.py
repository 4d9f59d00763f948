"""Plans of flows: how long a large one takes, and how true its seconds are.

How true they are is asked on a simulated cluster, whose clock knows nothing of this machine: the same
number comes out everywhere. What is planned there is run there, by the real engine and the real workers.
"""

import time

from cachefs.benchmarks.context import Bench, CannotRunError
from cachefs.benchmarks.measuring import Row, limit_row
from cachefs.config.schema import PlanningConfig
from cachefs.core.names import DatasetName
from cachefs.dataflow.copying.plans import CopySizes
from cachefs.dataflow.planning.planner import CachePlanner
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import NotKnownError, check
from cachefs.testing.memory.cache import MemoryCache

_STEPS = 10_000
_FAN = 100
_FILES = 100
_LIMIT_SECONDS = 30.0
"""To read and plan 10,000 steps: "in seconds", with room for a slow machine."""
_OFF_LIMIT = 0.25
"""By which seconds may differ from the plan, as a part of it."""
_HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: bench}\nspec:\n"
_CASES = {
    "one after another": """
  steps:
  - {id: half, kind: prefetch, with: {dataset: weights, paths: [a]}}
  - {id: rest, kind: prefetch, needs: [half], with: {dataset: weights}}
  - {id: twice, kind: prefetch, needs: [rest], with: {dataset: weights, copies: 2}}
""",
    "at once": """
  steps:
  - {id: a, kind: prefetch, with: {dataset: weights, paths: [a]}}
  - {id: b, kind: prefetch, with: {dataset: weights, paths: [b]}}
  - {id: ready, kind: wait, needs: [a, b], with: {condition: bytes_missing == 0}}
""",
}


def flow_plan(bench: Bench) -> list[Row]:
    """Plan a flow of 10,000 steps; and compare plans with what runs take, on a simulated cluster."""
    large = [_large() for _ in range(bench.runs)]
    note = f"{_STEPS:,} prefetch steps in one flow: read and planned"
    return [
        limit_row("flow-plan", large, "s", limit=_LIMIT_SECONDS, note=note),
        *(_simulated(name, spec) for name, spec in _CASES.items()),
    ]


def _large() -> float:
    """Return how long it takes to read and plan a large flow."""
    cache = MemoryCache({"memory://v1": {f"{number}.bin": 1000 for number in range(_FILES)}})
    cache.publish(DatasetName("default", "llama"), "memory://v1", {}, label="v1")
    cache.add_worker("one")
    lines = [
        f"  - {{id: s{n}, kind: prefetch, with: {{dataset: llama, paths: [{n % _FILES}.bin]}}"
        + (f", needs: [s{n - _FAN}]" if n >= _FAN else "")
        + "}"
        for n in range(_STEPS)
    ]
    text = f"{_HEAD}  steps:\n" + "\n".join(lines) + "\n"
    began = time.perf_counter()
    flow = read_flow(text, name="bench")
    planned = CachePlanner(cache, PlanningConfig(), _no_copies).plan(flow, {})
    taken = time.perf_counter() - began
    check(planned.document["origin_bytes"] == _FILES * 1000, "the plan's bytes are wrong")
    return taken


def _simulated(name: str, spec: str) -> Row:
    try:
        from cachefs.testing.simulation.flows import outcome_of  # noqa: PLC0415 - as said below
    except ImportError as error:  # greenlet is of the development's dependencies
        raise CannotRunError(f"the simulator needs {error.name}") from error
    outcome = outcome_of(spec, files={"a": 200, "b": 200})
    planned = outcome.plan
    check(planned["origin_bytes"] == outcome.origin_bytes, "the plan's bytes are wrong")
    check(planned["peer_bytes"] == outcome.peer_bytes, "the plan's bytes are wrong")
    off = abs(outcome.seconds / planned["seconds"] - 1)
    note = (
        f"steps {name}: {planned['seconds']:.1f} s planned, {outcome.seconds:.1f} s taken, simulated; "
        "bytes are equal"
    )
    return limit_row("flow-plan", [off], "of the plan", limit=_OFF_LIMIT, note=note)


def _no_copies(namespace: str, wanted: object) -> CopySizes:
    del namespace
    raise NotKnownError("nothing is copied here", subject=str(wanted))
