"""Custom resources: what people declare on a cluster, and what the operator reads of it.

Each kind has a module with its *definition*, the document that teaches the API server the kind, and its *spec*,
what an object of it says, parsed. What a schema can say, the schema says, so that ``kubectl apply`` refuses it with
a reason; a CEL rule says what holds between fields; the parser says what is left (``30s`` and ``100Gi`` become
numbers), for an object may be older than the schema.

All that a rule touches is bounded. The API server estimates what a rule costs at worst before it takes a
definition, and what has no bound costs too much.
"""

from cachefs.k8s.crds.datasets import definition as of_datasets
from cachefs.k8s.crds.flows import definition as of_flows
from cachefs.k8s.crds.forms import Document
from cachefs.k8s.crds.poolschema import definition as of_pools
from cachefs.k8s.crds.runs import definition as of_runs


def documents() -> list[Document]:
    """Return the definitions of all kinds."""
    return [each() for each in (of_datasets, of_pools, of_flows, of_runs)]
