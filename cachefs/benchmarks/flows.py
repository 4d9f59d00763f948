"""Flows: what the engine itself costs, with steps that find their work done.

A store on the disk of the bench's folder, synced at each commit as a coordinator's is; nothing else.
"""

import time
from pathlib import Path

from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.measuring import Row, limit_row
from cachefs.config.schema import FlowConfig
from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.engine.documents import Documents
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.engine.ticking import Engine
from cachefs.dataflow.ports import Observed, StepContext, StepKind
from cachefs.dataflow.spec.model import Value
from cachefs.errors import DeadlineError
from cachefs.transport.runtime import ThreadRuntime

_CHAIN_STEPS = 200
_CHAIN_LIMIT_MS = 20.0
_LARGE_STEPS = 10_000
_LARGE_LIMIT_SECONDS = 60.0
_FAN = 10
"""Of the large flow: how many steps need one before them."""
_POLL_SECONDS = 0.01
_RUN_SECONDS = 300.0
_HEAD = "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: bench}\nspec:\n  steps:\n"


class _Done(StepKind):
    """Finds everything done."""

    def observe(self, _context: StepContext, _arguments: object) -> Observed:
        return Observed(done=True)

    def apply(self, _context: StepContext, _arguments: object) -> None:
        raise AssertionError("it is done")

    def compensate(self, _context: StepContext, _arguments: object, _how: Value) -> None:
        raise AssertionError("nothing was done")


def flow(bench: Bench) -> list[Row]:
    """Carry out flows whose steps find everything done: 200 one after the other, and 10,000."""
    folder = bench.folder / "flow"
    folder.mkdir(parents=True, exist_ok=True)
    chain = [
        1000 * _seconds(folder, _document(_CHAIN_STEPS, fan=1)) / _CHAIN_STEPS
        for _ in range(bench.runs)
    ]
    rows = [
        limit_row(
            "flow",
            chain,
            "ms a step",
            limit=_CHAIN_LIMIT_MS,
            note=f"{_CHAIN_STEPS} steps one after the other, SQLite synced at each",
        )
    ]
    large = [_seconds(folder, _document(_LARGE_STEPS, fan=_FAN))]
    note = f"{_LARGE_STEPS:,} steps in one flow: read, stored and carried out"
    return [*rows, limit_row("flow", large, "s", limit=_LARGE_LIMIT_SECONDS, note=note)]


def _document(count: int, *, fan: int) -> str:
    lines = [
        f"  - {{id: s{n}, kind: process, with: {{command: [x]}}"
        + (f", needs: [s{(n - fan) // fan}]" if n >= fan else "")
        + "}"
        for n in range(count)
    ]
    return _HEAD + "\n".join(lines) + "\n"


def _seconds(folder: Path, document: str) -> float:
    """Return how long a run takes from its submission to its end."""
    runtime = ThreadRuntime()
    path = folder / "store.db"
    for file in folder.glob("store.db*"):
        file.unlink()
    store = Store(f"sqlite:///{path}")
    config = FlowConfig()
    documents = Documents(runtime)
    kinds = {"process": _Done()}
    engine = Engine(store, runtime, kinds=kinds, documents=documents, config=config)
    service = FlowService(store, runtime, engine, documents=documents, config=config)
    with engine:
        engine.start()
        began = time.perf_counter()
        run = service.submit(document, {}).run.id
        while service.every(active=True, limit=1):
            if time.perf_counter() - began > _RUN_SECONDS:
                raise DeadlineError("the flow did not end", subject=run)
            runtime.sleep(_POLL_SECONDS)
        taken = time.perf_counter() - began
    store.close()
    return taken
