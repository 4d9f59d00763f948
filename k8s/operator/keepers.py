"""Keepers: whoever makes the objects of one kind so as they say."""

from typing import Protocol

from cachefs.k8s.names import Kind


class Keeper(Protocol):
    """Makes the objects of one kind so as they say. Safe from any thread; one object at a time."""

    @property
    def name(self) -> str:
        """What it is called in logs and metrics: ``datasets``."""
        ...

    @property
    def watched(self) -> tuple[Kind, ...]:
        """Whose changes it wants to see: kinds that can be watched in all namespaces."""
        ...

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at one object, and do what is missing.

        Returns:
            After how many seconds to look again, if nothing happens before; ``None`` if there is no such
            object, and nothing left of it.

        Raises:
            CacheFSError: It could not be looked at; it is looked at again, after ever longer pauses.
        """
        ...

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Return the namespace and name of every object that is there, or of which something is left.

        It is called from time to time, and when the operator begins.

        Raises:
            CacheFSError: That cannot be seen now.
        """
        ...
