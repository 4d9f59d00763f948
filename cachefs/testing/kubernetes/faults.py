"""Faults to inject: what a loaded, restarting or unreachable API server does to its clients."""

import fnmatch
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from cachefs.testing.kubernetes.failures import Refusal

_REASONS: Final = {
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class DroppedError(Exception):
    """The connection shall be closed without an answer."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """What befalls requests that fit; each of the patterns is one of shells (``*``)."""

    verb: str = "*"
    """``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, ``delete``, …"""
    resource: str = "*"
    """A plural, with its subresource: ``pods``, ``pods/eviction``, ``*/status``."""
    name: str = "*"
    times: int = 1
    """To how many requests it happens; a negative number: to all."""
    code: int = 0
    """What is answered (429, 500, 503, 504, …); 0: what would be anyhow."""
    retry_after_seconds: int = 0
    delay_seconds: float = 0.0
    """How long it takes."""
    drop: bool = False
    """Whether the connection is closed without an answer."""
    after: bool = False
    """Whether the request is carried out first, so that only its answer is lost."""

    def refusal(self) -> Refusal:
        """Return what is answered."""
        return Refusal(
            self.code,
            _REASONS.get(self.code, "InternalError"),
            "a fault was injected",
            retry_after_seconds=self.retry_after_seconds,
        )


@dataclass(slots=True)
class Faults:
    """The faults that are waiting for their requests; safe from any thread."""

    waiting: list[Fault] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def add(self, fault: Fault) -> None:
        """Let a fault happen to the next requests that fit."""
        with self._lock:
            self.waiting.append(fault)

    def clear(self) -> None:
        """Let nothing more happen."""
        with self._lock:
            self.waiting.clear()

    def take(self, verb: str, resource: str, name: str) -> Fault | None:
        """Return what happens to a request."""
        with self._lock:
            for fault in self.waiting:
                asked = ((fault.verb, verb), (fault.resource, resource), (fault.name, name))
                if all(fnmatch.fnmatchcase(text, pattern) for pattern, text in asked):
                    fault.times -= 1
                    if fault.times == 0:
                        self.waiting.remove(fault)
                    return fault
        return None
