"""One table from error class to the number that a program gets to see.

A program behind a mount cannot read our message: it has the number alone, and so the numbers are
those that programs already act upon. ``ESTALE`` is what NFS answers for a file that was replaced
under its readers: open it again. ``EIO`` is for what another try may mend; a time-out is ``EIO`` as
well, because programs know what to do with it and hardly any expects ``ETIMEDOUT`` from a file.
Whatever is our failure is logged here, once, with the whole message.
"""

import errno
import logging

from cachefs import errors
from cachefs.errors import CacheFSError, InvariantError

ERRNO: dict[type[CacheFSError], int] = {
    errors.ConfigError: errno.EINVAL,
    errors.NotKnownError: errno.ENOENT,
    errors.ConflictError: errno.EIO,
    errors.DeniedError: errno.EACCES,
    errors.NotAllowedError: errno.EACCES,
    errors.OriginError: errno.EIO,
    errors.OriginNotFoundError: errno.ESTALE,
    errors.OriginDeniedError: errno.EACCES,
    errors.OriginChangedError: errno.ESTALE,
    errors.OriginProtocolError: errno.EIO,
    errors.OriginUnavailableError: errno.EIO,
    errors.OriginContentError: errno.EIO,
    errors.IntegrityError: errno.EIO,
    errors.DeadlineError: errno.EIO,
    errors.ClusterError: errno.EIO,
    errors.CoordinatorUnavailableError: errno.EIO,
    errors.WorkerUnavailableError: errno.EIO,
    errors.ApiServerUnavailableError: errno.EIO,
    errors.LeaseExpiredError: errno.EIO,
    errors.CapacityError: errno.EIO,
    errors.FlowError: errno.EIO,
    errors.StepTransientError: errno.EIO,
    errors.StepCancelledError: errno.EIO,
}
"""A test asserts that no class is missing. A manifest names files that were at the origin, so one
that is not there any more is a changed origin."""

FAILURES = (CacheFSError, InvariantError)
"""What is translated; anything else is an ``OSError`` already, or a bug that has no number."""

_log = logging.getLogger("cachefs.fuse")


def number_of(error: CacheFSError) -> int:
    """Return the number that goes with an error."""
    return next(ERRNO[cls] for cls in type(error).__mro__ if cls in ERRNO)


def failure(operation: str, error: CacheFSError | InvariantError, *, subject: str = "") -> OSError:
    """Return what to raise for an error, having logged it if it is our failure.

    Args:
        operation: What the program asked for.
        error: What came of it.
        subject: Of which file.
    """
    if isinstance(error, InvariantError):
        _log.error("an operation met a bug", exc_info=error, extra={"operation": operation})
        return OSError(errno.EIO, str(error))
    number = number_of(error)
    if number == errno.ENOENT:
        return OSError(number, str(error))
    fields = {"operation": operation, "path": subject, "failure": str(error)}
    _log.warning("an operation failed", extra=fields)
    return OSError(number, str(error))
