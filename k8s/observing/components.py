"""Components: the parts of an installation that have metrics, and where they show them."""

from dataclasses import dataclass
from typing import Literal

from cachefs.k8s.installation import Installation

Name = Literal["coordinator", "worker", "operator", "csi", "webhook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of an installation."""

    name: Name
    """As in its pods' label ``app.kubernetes.io/component``, after ``cachefs-``."""
    port: str
    """Its container's port, by name."""
    needs_token: bool
    namespaces: tuple[str, ...]
    """Where its pods are."""

    @property
    def job(self) -> str:
        """The value of Prometheus' label ``job``."""
        return f"cachefs-{self.name}"


def present(wanted: Installation) -> tuple[Component, ...]:
    """Return the parts that an installation has."""
    system, nodes = wanted.namespace, wanted.node_namespace
    of_pools = (system,) if wanted.plain else (system, nodes)
    found = [
        Component(name="coordinator", port="http", needs_token=True, namespaces=(system,)),
        Component(name="worker", port="data", needs_token=True, namespaces=of_pools),
    ]
    if not wanted.plain:
        found.append(
            Component(name="operator", port="http", needs_token=False, namespaces=(system,))
        )
    if wanted.has_csi:
        found.append(Component(name="csi", port="health", needs_token=False, namespaces=(nodes,)))
    if wanted.webhook and not wanted.plain:
        found.append(
            Component(name="webhook", port="http", needs_token=False, namespaces=(system,))
        )
    return tuple(found)
