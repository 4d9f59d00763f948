"""Duties: what a coordinator's process does besides coordinating, and whoever composes it knows.

The coordinator is below flows and others that use it, and cannot import them. So the composing program
hands its process duties: each brings routes of the HTTP API, works in threads of its own, and ends
with the process.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastapi import APIRouter

from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.store.engine import Store
from cachefs.ports import Runtime
from cachefs.telemetry.metrics import Sample
from cachefs.transport.control import ControlServer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a duty is made from: the parts of the process that it is a part of."""

    coordinator: Coordinator
    store: Store
    runtime: Runtime
    config: CoordinatorConfig
    cluster: ClusterConfig
    token: Secret


class Duty(Protocol):
    """Something that a coordinator's process does, too."""

    @property
    def routers(self) -> Sequence[APIRouter]:
        """Its routes; they need the token as all others do, or one that the duty admits."""
        ...

    def admits(self, path: str, token: str) -> bool:
        """Say whether a token that is not the cluster's opens a path; does not wait."""
        ...

    def add_services(self, server: ControlServer) -> Sequence[str]:
        """Have the control server answer for it, too; return the full names of its gRPC services."""
        del server
        return ()

    def start(self) -> None:
        """Begin; called once, when the coordinator has begun and nothing is answered yet."""
        ...

    def close(self) -> None:
        """End within seconds, answers that take long included; the store is still there.

        Short requests may still come.
        """
        ...

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured, for the metrics."""
        ...


OpenDuty = Callable[[Surroundings], Duty]
