"""Tending: what belongs to the installation, and to no object of ours: certificates, and the token of Prometheus.

It has no objects that could be watched, so it is one name that is looked at again every minute, like any other: by
one thread, by the leader alone, and after pauses that grow when it fails.
"""

from collections.abc import Sequence
from typing import Protocol

from cachefs.errors import CacheFSError
from cachefs.k8s.names import Kind

_EVERY_SECONDS = 60.0


class Tended(Protocol):
    """Something that is brought in order by one pass, and stays so if nobody changes it."""

    def work(self) -> None:
        """Look, and do what is missing.

        Raises:
            CacheFSError: It could not be done; the next pass tries again.
        """
        ...


class TendingKeeper:
    """Has the installation's own secrets looked at."""

    name = "installation"
    watched: tuple[Kind, ...] = ()

    def __init__(self, namespace: str, tended: Sequence[Tended]) -> None:
        """Look at these, in this order."""
        self._namespace = namespace
        self._tended = tuple(tended)

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at everything, whatever becomes of the one before; return when to look again."""
        del namespace, name
        failures = []
        for each in self._tended:
            try:
                each.work()
            except CacheFSError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return _EVERY_SECONDS

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Return the one name that there is."""
        return ((self._namespace, self.name),)
