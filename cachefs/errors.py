"""Every error that cachefs raises on purpose, cut by what the caller can do about it.

::

    CacheFSError
    ├── ConfigError                   ValueError         fix a file, a flag or a name
    ├── NotKnownError                 LookupError        no such dataset, version, file, worker or job
    ├── ConflictError                                    it exists already, or is in use
    ├── DeniedError                   PermissionError    the token is missing or wrong
    ├── OriginError
    │   ├── OriginNotFoundError       FileNotFoundError  the name is wrong
    │   ├── OriginDeniedError         PermissionError    the credentials are wrong
    │   ├── OriginChangedError                           reopen: the version has moved
    │   ├── OriginProtocolError                          the origin does not speak as it must
    │   ├── OriginUnavailableError    ·retryable·        wait
    │   └── OriginContentError        IntegrityError     its bytes are not those known: mend it
    ├── IntegrityError                ·retryable·        these bytes are wrong; ask elsewhere
    ├── DeadlineError                 TimeoutError       nobody answered in time; says whom we asked
    ├── ClusterError
    │   ├── CoordinatorUnavailableError ·retryable·      wait, or start it
    │   ├── WorkerUnavailableError    ·retryable·        ask the next in placement
    │   ├── ApiServerUnavailableError ·retryable·        wait: Kubernetes does not answer
    │   └── LeaseExpiredError                            stop serving, register anew
    ├── CapacityError                                    a limit was reached
    └── FlowError                                        a step failed; names flow, step, line
        ├── StepCancelledError                           somebody cancelled the step, or its run
        └── StepTransientError        ·retryable·        it may succeed when it is tried again
    InvariantError                                       a bug in cachefs; report it

An error carries its message (a lower-case phrase), the ``subject`` it is about, and a ``hint`` that
says what to do. ``retryable`` says whether the same call may succeed later or elsewhere; retry
decorators read that and nothing else. Third-party exceptions end at the adapter that met them.
``InvariantError`` is outside the tree on purpose: no ``except CacheFSError`` can hide a bug.
"""

from typing import ClassVar


class CacheFSError(Exception):
    """The root of every expected failure."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        """Keep the parts, so that each interface can lay them out in its own way."""
        super().__init__(message)
        self.message = message
        self.subject = subject
        """What the failure is about: a path, a URL, a worker. May be empty."""
        self.hint = hint
        """What an operator can do about it. May be empty."""

    def __str__(self) -> str:
        """Return the message with subject and hint, on one line."""
        text = f"{self.subject}: {self.message}" if self.subject else self.message
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(CacheFSError, ValueError):
    """Something a person wrote is not acceptable: a flag, a file, a name."""


class NotKnownError(CacheFSError, LookupError):
    """There is no dataset, version, file, worker or job of that name."""


class ConflictError(CacheFSError):
    """The thing exists already, or is in use, or has changed since it was read."""


class DeniedError(CacheFSError, PermissionError):
    """The caller's token is missing or wrong."""


class NotAllowedError(CacheFSError, PermissionError):
    """What was asked is not for the namespace in whose name it was asked."""


class OriginError(CacheFSError):
    """The store of record did not give what was asked."""


class OriginNotFoundError(OriginError, FileNotFoundError):
    """The origin holds nothing under that name."""


class OriginDeniedError(OriginError, PermissionError):
    """The origin refused the credentials."""


class OriginChangedError(OriginError):
    """The object is no longer the one that the manifest names."""


class OriginProtocolError(OriginError):
    """The origin answered in a way no correct server does: a wrong range, HTML, a redirect loop."""


class OriginUnavailableError(OriginError):
    """The origin did not answer, or asked us to come back later."""

    retryable: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        hint: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        """Keep the origin's own ``Retry-After``, if it sent one."""
        super().__init__(message, subject=subject, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class IntegrityError(CacheFSError):
    """Bytes do not match their digest."""

    retryable: ClassVar[bool] = True


class OriginContentError(IntegrityError, OriginError):
    """The origin gives bytes that do not match a digest known beforehand.

    It is final as every ``OriginError`` is: whoever is asked would have to ask the same origin.
    """

    retryable: ClassVar[bool] = False


class DeadlineError(CacheFSError, TimeoutError):
    """A read reached its deadline; the message names whom it asked."""


class ClusterError(CacheFSError):
    """A process of ours could not be reached, or disagreed."""


class CoordinatorUnavailableError(ClusterError):
    """No coordinator answered; reads and fills go on, changes wait."""

    retryable: ClassVar[bool] = True


class WorkerUnavailableError(ClusterError):
    """A worker did not answer; another may."""

    retryable: ClassVar[bool] = True


class ApiServerUnavailableError(ClusterError):
    """Kubernetes' API server did not answer, or is too busy to."""

    retryable: ClassVar[bool] = True


class LeaseExpiredError(ClusterError):
    """The worker is no longer a member; it must register anew."""


class CapacityError(CacheFSError):
    """A configured limit was reached."""


class FlowError(CacheFSError):
    """A step of a flow failed."""


class StepCancelledError(FlowError):
    """A step ended because somebody cancelled it, or its run."""


class StepTransientError(FlowError):
    """A step failed in a way that it says may pass, or was interrupted from outside."""

    retryable: ClassVar[bool] = True


class InvariantError(Exception):
    """Something that cannot be has happened: a bug in cachefs."""


def check(condition: object, message: str) -> None:
    """Raise ``InvariantError`` unless the condition holds; in production too."""
    if not condition:
        raise InvariantError(message)
