"""Which state of a step may follow which."""

from collections.abc import Mapping

from cachefs.dataflow.records import StepRecord, StepState
from cachefs.errors import check

NOT_UNDONE = "could not be undone: "
"""How the failure of a step begins whose compensation failed: it is not tried again."""

FOLLOWING: Mapping[StepState, frozenset[StepState]] = {
    "Pending": frozenset(
        ("Blocked", "Running", "Failed", "Skipped", "UpstreamFailed", "Cancelled")
    ),
    "Blocked": frozenset(("Running", "Succeeded", "Failed", "TimedOut", "Cancelled")),
    "Running": frozenset(("Running", "Succeeded", "Retrying", "Failed", "TimedOut", "Cancelled")),
    "Retrying": frozenset(("Running", "Cancelled")),
    # What has begun may be undone; a step with instances is undone when they are.
    "Succeeded": frozenset(("Compensating", "Compensated", "Failed")),
    "Failed": frozenset(("Compensating", "Compensated", "Failed")),
    "TimedOut": frozenset(("Compensating", "Compensated", "Failed")),
    "Cancelled": frozenset(("Compensating", "Compensated", "Failed")),
    "Compensating": frozenset(("Compensating", "Compensated", "Failed")),
    "Compensated": frozenset(),
    "Skipped": frozenset(),
    "UpstreamFailed": frozenset(),
}
"""From the left to the right. A retry by a person sets steps back to ``Pending``; no machine does that."""

FAILED: frozenset[StepState] = frozenset(("Failed", "TimedOut"))
"""The step itself went wrong."""
BAD: frozenset[StepState] = FAILED | {"UpstreamFailed", "Cancelled", "Compensated"}
"""What does not satisfy those that need the step."""


def check_follows(before: StepRecord, after: StepRecord) -> None:
    """Raise ``InvariantError`` if a state follows that cannot."""
    check(
        after.state in FOLLOWING[before.state],
        f"{before.id}: {after.state} does not follow {before.state}",
    )


def undoable(record: StepRecord) -> bool:
    """Say whether a record is of something that has begun, has ended, and has not been undone."""
    ended = record.state in ("Succeeded", "Failed", "TimedOut", "Cancelled")
    return ended and record.attempt > 0 and not record.failure.startswith(NOT_UNDONE)
