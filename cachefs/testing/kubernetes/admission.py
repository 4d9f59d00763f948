"""Webhooks: what is asked before an object is stored."""

from dataclasses import dataclass

from cachefs.ports import Runtime
from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.kinds import Kinds
from cachefs.testing.kubernetes.requests import Request
from cachefs.testing.kubernetes.store import Store


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Calls the webhooks that are configured."""

    store: Store
    kinds: Kinds
    runtime: Runtime

    def mutate(self, request: Request, old: Document | None, new: Document) -> Document:
        """Return the object as the webhooks want it."""
        del request, old
        return new

    def validate(self, request: Request, old: Document | None, new: Document | None) -> None:
        """Refuse, or say nothing."""
