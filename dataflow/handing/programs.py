"""Programs that are handed out: those of steps, where an executor runs them on a cluster.

To begin one is to write a row; to look at it is to read what an executor has reported. That nobody asks
for rows any more is an error after a bound, for a step must not wait for ever; so is nothing else: a
program may wait for a place on the cluster as long as its step may last.
"""

from dataclasses import asdict
from posixpath import isabs, normpath
from typing import Any

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.handing import store as rows
from cachefs.dataflow.handing.desk import Presence
from cachefs.dataflow.handing.store import ProgramRow, program_id
from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.spec.arguments import MountOf
from cachefs.dataflow.spec.references import CLUSTER_SECRET
from cachefs.dataflow.steps.choosing import name_of
from cachefs.dataflow.steps.programs.places import StepLog
from cachefs.dataflow.steps.programs.rooms import Found, Standing
from cachefs.dataflow.steps.programs.running import Programs, Wanted
from cachefs.errors import ConfigError, StepTransientError
from cachefs.ports import Runtime

_STANDING: dict[rows.ProgramState, Standing] = {
    "wanted": "starting",
    "claimed": "starting",
    "starting": "starting",
    "running": "running",
    "ended": "ended",
}
_STOP_SECONDS = 1.5
"""A step has two seconds to end in."""
_LOOK_SECONDS = 0.05


class HandedOutPrograms(Programs):
    """Each program is a row. Safe from any thread."""

    tethered = False

    def __init__(self, store: Store, runtime: Runtime, *, executor_seconds: float) -> None:
        """Use a store.

        Args:
            store: Where rows are.
            runtime: The clock.
            executor_seconds: Programs fail when no executor has asked for so long.
        """
        self._store = store
        self._runtime = runtime
        self._presence = Presence(runtime)
        self._patience = executor_seconds

    def begin(self, context: StepContext, wanted: Wanted, *, part: str = "") -> None:
        """Write the row, unless it is there."""
        row = ProgramRow(
            id=self._id(context, part),
            run=context.run,
            step=context.step,
            attempt=context.attempt,
            part=part,
            namespace=context.namespace,
            wanted=_document(context, wanted),
        )
        with self._store.write() as connection:
            rows.add_program(connection, row)

    def look(self, context: StepContext, *, part: str = "") -> Found:
        """Return what was reported of it last."""
        program = self._id(context, part)
        with self._store.read() as connection:
            row = rows.find_program(connection, program)
            silent = self._presence.silent_seconds(connection, patience=self._patience)
        if row is None:
            return Found(standing="none")
        if row.active and silent > self._patience:
            with self._store.write() as connection:
                rows.stop_program(connection, program)
            raise StepTransientError(
                f"no executor has asked for programs in {self._patience:g} s",
                subject=context.step,
                hint="does the operator run, and does it reach the coordinator?",
            )
        return found_of(row)

    def stop(self, context: StepContext, *, part: str = "") -> None:
        """Have it end, and wait for that a little: an executor needs its time, and tells its end itself."""
        program = self._id(context, part)
        until = self._runtime.monotonic() + _STOP_SECONDS
        with self._store.write() as connection:
            rows.stop_program(connection, program)
        while self._runtime.monotonic() < until:
            with self._store.read() as connection:
                row = rows.find_program(connection, program)
            if row is None or not row.active:
                return
            self._runtime.sleep(_LOOK_SECONDS)

    def tail(self, context: StepContext, size: int, *, part: str = "") -> str:
        """Return the end of the log that was reported."""
        with self._store.read() as connection:
            row = rows.find_program(connection, self._id(context, part))
        return "" if row is None else _end(row.report.log, size)

    def outputs(self, context: StepContext, *, part: str = "") -> bytes:
        """Return the outputs that were reported."""
        with self._store.read() as connection:
            row = rows.find_program(connection, self._id(context, part))
        return b"" if row is None else row.report.outputs.encode()

    def log(self, key: str, attempt: int | None, size: int) -> StepLog | None:
        """Return the end of what a step's program wrote, as far as it was reported."""
        run, _, step = key.partition("/")
        with self._store.read() as connection:
            row = rows.last_program(connection, run, step, attempt)
        return None if row is None else StepLog(row.attempt, _end(row.report.log, size))

    @staticmethod
    def _id(context: StepContext, part: str) -> str:
        return program_id(context.key, context.attempt, part)


def found_of(row: ProgramRow) -> Found:
    """Return how a program stands, of what was reported."""
    report = row.report
    return Found(
        standing="lost" if report.lost and not row.active else _STANDING[row.state],
        code=report.code,
        stopped=report.stopped,
        failure=report.failure,
        seconds=report.seconds,
        started_at=report.started_at,
        note=report.note,
    )


def _document(context: StepContext, wanted: Wanted) -> dict[str, Any]:  # Any: JSON
    """Return what an executor is told of a program.

    Raises:
        ConfigError: It cannot be run elsewhere as it is wanted.
    """
    if not wanted.image:
        raise ConfigError(
            "a program on a cluster needs an image", subject=context.step, hint="write image: NAME"
        )
    for name, reference in wanted.secrets.items():
        if not CLUSTER_SECRET.fullmatch(reference):
            raise ConfigError(
                "a program on a cluster has other secrets",
                subject=f"{context.step}: {name}",
                hint="write secret:NAME/KEY, of a secret in the flow's namespace",
            )
    variables = {
        "CACHEFS_RUN_ID": context.run,
        "CACHEFS_STEP": context.step,
        "CACHEFS_ATTEMPT": str(context.attempt),
        "CACHEFS_NAMESPACE": context.namespace,
        **wanted.variables,
    }
    return {
        "command": list(wanted.command),
        "image": wanted.image,
        "variables": variables,
        "secrets": dict(wanted.secrets),
        "workdir": wanted.workdir,
        "mounts": [_mount(context, wanted, one) for one in wanted.mounts],
        "resources": asdict(wanted.resources),
        "queue": wanted.queue,
        "seconds": max(1.0, context.deadline - context.runtime.monotonic()),
    }


def _mount(context: StepContext, wanted: Wanted, mount: MountOf) -> dict[str, str]:
    path = mount.path if isabs(mount.path) else f"{wanted.workdir}/{mount.path}"
    if not isabs(path) or not (isabs(mount.path) or wanted.workdir):
        raise ConfigError(
            "a mount on a cluster needs a path that begins with /",
            subject=f"{context.step}: {mount.path}",
            hint="or write workdir",
        )
    dataset = name_of(context, mount.dataset)
    return {
        "dataset": f"{dataset.namespace}/{dataset.name}",
        "version": mount.dataset.version or "",
        "path": normpath(path),
    }


def _end(text: str, size: int) -> str:
    """Return the end of a text, from a line's beginning if it is cut."""
    encoded = text.encode()
    if len(encoded) <= size:
        return text
    _, newline, rest = encoded[-size:].partition(b"\n")
    return (rest if newline else encoded[-size:]).decode(errors="replace")
