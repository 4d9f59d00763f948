"""A source of nodes in memory, which a test changes."""

from dataclasses import replace

from cachefs.hints.inventory.facts import Facts
from cachefs.hints.inventory.sources import Listing, NodeSource


class MemoryNodes(NodeSource):
    """Implements :class:`~cachefs.hints.inventory.sources.NodeSource`."""

    def __init__(self, *nodes: Facts) -> None:
        """List these."""
        self.listing = Listing(nodes={node.name: node for node in nodes})
        self.closed = False

    def put(self, node: Facts) -> None:
        """List a node, in place of what was said of it."""
        self.listing = replace(self.listing, nodes={**self.listing.nodes, node.name: node})

    def remove(self, name: str) -> None:
        """List a node no more."""
        nodes = {known: node for known, node in self.listing.nodes.items() if known != name}
        self.listing = replace(self.listing, nodes=nodes)

    def fail(self, problem: str) -> None:
        """Be out of date from now on; an empty problem ends that."""
        if problem != self.listing.problem:
            self.listing = replace(self.listing, problem=problem)

    def look(self) -> Listing:
        """Return what is listed."""
        return self.listing

    def close(self) -> None:
        """Note it."""
        self.closed = True
