"""Exit codes: what a script can learn without reading a message."""

from cachefs import errors
from cachefs.errors import CacheFSError

OK = 0
FAILURE = 1
USAGE = 2
NOT_RUNNING = 3
NOT_KNOWN = 4
RUN_FAILED = 11
RUN_CANCELLED = 12
BUG = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

_CODES: dict[type[CacheFSError], int] = {
    errors.ConfigError: USAGE,
    errors.CoordinatorUnavailableError: NOT_RUNNING,
    errors.NotKnownError: NOT_KNOWN,
    errors.OriginError: 5,
    errors.IntegrityError: 6,
    errors.DeadlineError: 7,
    errors.CapacityError: 8,
    errors.DeniedError: 9,
    errors.NotAllowedError: 9,
    errors.ConflictError: 10,
    errors.StepCancelledError: RUN_CANCELLED,
    errors.FlowError: RUN_FAILED,
    errors.CacheFSError: FAILURE,
}


def exit_code(error: CacheFSError) -> int:
    """Return the exit code that goes with an error."""
    return next(_CODES[cls] for cls in type(error).__mro__ if cls in _CODES)


MEANINGS = {
    OK: "done",
    FAILURE: "failed in a way that has no code of its own, or `doctor` found a problem",
    USAGE: "the command, a flag, a name or a configuration file is wrong",
    NOT_RUNNING: "cachefs is not running there, or its coordinator does not answer",
    NOT_KNOWN: "no such dataset, version, file, worker, job or run",
    5: "the origin did not give what was asked",
    6: "bytes do not match their digest",
    7: "a deadline passed",
    8: "a limit was reached: a tier, a disk, a queue, the budget of a flow",
    9: "the token is missing or wrong",
    10: "it exists already, is in use, or is running already",
    RUN_FAILED: "the run of a flow has failed, or was rolled back",
    RUN_CANCELLED: "the run of a flow was cancelled",
    BUG: "a bug in cachefs",
    INTERRUPTED: "interrupted by Ctrl-C",
    BROKEN_PIPE: "the reader of the output went away",
}
"""Every exit code, for ``cachefs --help`` and for the documents."""


def epilog() -> str:
    """Return the meanings as one paragraph, for ``cachefs --help``."""
    return "Exit codes: " + "; ".join(f"{code} {text}" for code, text in MEANINGS.items()) + "."
