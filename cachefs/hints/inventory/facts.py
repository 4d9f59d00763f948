"""Facts: what somebody says of a node. Several may speak of the same one; each leaves out what it knows not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cachefs.core.hints.nodes import Gpu, Node, Rates
from cachefs.wire.nodereports import NodeReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A node in the words of one source; ``None`` for what it does not say."""

    name: str
    rack: str | None = None
    zone: str | None = None
    region: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] | None = None
    images: frozenset[str] | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    """Bytes a second, by the field of :class:`~cachefs.core.hints.nodes.Rates`."""
    schedulable: bool | None = None


def reported(report: NodeReport, *, zone: str) -> Facts:
    """Return what a worker says of its node."""
    rates = {"nic": report.nic_bytes_rate, "disk": report.disk_bytes_rate}
    return Facts(
        name=report.name,
        rack=report.rack or None,
        zone=zone or None,
        region=report.region or None,
        labels=report.labels,
        gpus=report.gpus or None,
        rates={name: rate for name, rate in rates.items() if rate},
    )


def merged(name: str, facts: Iterable[Facts]) -> Node:
    """Return a node of which several have spoken; who comes first is believed first.

    Labels and images are those of all together; a label that two give differently is the first's.
    """
    node = Node(name=name)
    labels: dict[str, str] = {}
    rates: dict[str, float] = {}
    images: frozenset[str] | None = None
    for each in reversed(list(facts)):
        labels.update(each.labels)
        rates.update(each.rates)
        if each.images is not None:
            images = each.images | (images or frozenset())
        node = replace(
            node,
            rack=node.rack if each.rack is None else each.rack,
            zone=node.zone if each.zone is None else each.zone,
            region=node.region if each.region is None else each.region,
            gpus=node.gpus if each.gpus is None else each.gpus,
            schedulable=node.schedulable if each.schedulable is None else each.schedulable,
        )
    return replace(node, labels=labels, images=images, rates=Rates(**rates))
