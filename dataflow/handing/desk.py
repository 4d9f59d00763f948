"""The desk: where executors find what is wanted, and say what they have seen.

Executors are told everything that is not over, each time; what they say is taken in at most once and
never goes back. So they may ask and tell as often as they like, and two of them do what one does. That
some executor lives is seen by a counter in the store, which grows while anybody asks: no two
machines' clocks are compared.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.handing import store as rows
from cachefs.dataflow.handing.store import ProgramRow, ProgramState, Report, TargetRow
from cachefs.errors import CapacityError
from cachefs.ports import Runtime

LOG_BYTES_MAX = 64 * 1024
"""Of what a program wrote, so much is kept, its end."""
OUTPUTS_BYTES_MAX = 64 * 1024
_BEAT_SECONDS = 2.0
"""An executor that asks more often is noted no more often: each note is a write."""


class Handed(NamedTuple):
    """All that is wanted of executors at a moment."""

    programs: tuple[ProgramRow, ...]
    targets: tuple[TargetRow, ...]


class Desk:
    """What executors call. Safe from any thread."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        """Serve what is in a store."""
        self._store = store
        self._runtime = runtime
        self._turn = runtime.condition()
        self._noted_at = float("-inf")

    def wanted(self) -> Handed:
        """Return all that is to be made so, looked after, or ended."""
        now = self._runtime.monotonic()
        with self._turn:
            due = now - self._noted_at >= _BEAT_SECONDS
            if due:
                self._noted_at = now
        if due:
            with self._store.write() as connection:
                rows.beat(connection)
        with self._store.read() as connection:
            shown = rows.shown(rows.active_programs(connection))
            return Handed(tuple(shown), rows.asked_targets(connection))

    def tell_program(self, program: str, state: ProgramState, report: Report) -> ProgramRow:
        """Take in how a program stands; return it as it is known then.

        Who is about to begin one says ``claimed`` first, and begins it only if it is not to end.

        Raises:
            NotKnownError: There is no such program.
            CapacityError: It says too much.
        """
        if len(report.log.encode()) > LOG_BYTES_MAX:
            raise CapacityError(f"a log of more than {LOG_BYTES_MAX} bytes", subject=program)
        if len(report.outputs.encode()) > OUTPUTS_BYTES_MAX:
            raise CapacityError(f"outputs of more than {OUTPUTS_BYTES_MAX} bytes", subject=program)
        with self._store.write() as connection:
            return rows.report_program(connection, program, state, report)

    def tell_target(
        self,
        name: str,
        *,
        asked: int,
        report: Mapping[str, Any],  # Any: JSON
    ) -> TargetRow:
        """Take in how a target stands, as the answer to what was asked up to a number.

        Raises:
            NotKnownError: Nobody has asked about such a target.
        """
        with self._store.write() as connection:
            return rows.report_target(connection, name, asked=asked, report=report)


class Presence:
    """Whether some executor lives, as one coordinator sees it. Safe from any thread."""

    def __init__(self, runtime: Runtime) -> None:
        """Believe that one was seen just now."""
        self._runtime = runtime
        self._turn = runtime.condition()
        self._beats = -1
        self._seen_at = runtime.monotonic()
        self._looked_at = self._seen_at

    def silent_seconds(self, connection: Connection, *, patience: float) -> float:
        """Return for how long no executor has asked.

        Who has not looked for a while knows nothing of it, and counts anew.

        Args:
            connection: To the store.
            patience: Seconds after which a look says nothing about the time before it.
        """
        beats, now = rows.beats(connection), self._runtime.monotonic()
        with self._turn:
            if beats != self._beats or now - self._looked_at > patience:
                self._beats, self._seen_at = beats, now
            self._looked_at = now
            return now - self._seen_at
