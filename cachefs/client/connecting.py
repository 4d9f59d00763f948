"""Putting a reader together for a running system: what the SDK, the command line and benches share."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from cachefs.client.reader import Reader
from cachefs.config.discovery import Endpoint
from cachefs.config.files import from_document
from cachefs.config.schema import ClusterConfig, ReaderConfig
from cachefs.ports import Runtime
from cachefs.transport.api import Api
from cachefs.transport.blocks import HttpBlockSource
from cachefs.transport.local import LocalNode
from cachefs.transport.metadata import HttpMetadata
from cachefs.transport.nearby import NearbyBlockSource
from cachefs.transport.node import node_identity
from cachefs.transport.runtime import ThreadRuntime


def cluster_of(endpoint: Endpoint) -> ClusterConfig:
    """Return what all processes of a system agree on, asking the coordinator if need be."""
    if endpoint.cluster is not None:
        return endpoint.cluster
    document = Api(endpoint.coordinator, endpoint.token).get("/v1/cluster")
    known = {key: document[key] for key in ClusterConfig.__dataclass_fields__ if key in document}
    return from_document(ClusterConfig, known, where="cluster.")


@contextmanager
def connect(
    endpoint: Endpoint, config: ReaderConfig, runtime: Runtime | None = None
) -> Iterator[Reader]:
    """Open a reader on a running system, and close all that belongs to it afterwards.

    Raises:
        CoordinatorUnavailableError: The coordinator had to be asked for the cluster's settings, and
            did not answer.
    """
    runtime = runtime or ThreadRuntime()
    cluster = cluster_of(endpoint)
    metadata = HttpMetadata(
        runtime,
        endpoint.coordinator,
        endpoint.token,
        workers=endpoint.workers,
        digest=cluster.digest,
    )
    remote = HttpBlockSource(
        runtime,
        endpoint.token,
        block_size=cluster.block_size,
        stall_seconds=config.stall_seconds,
    )
    nearby = NearbyBlockSource(
        runtime,
        endpoint.token,
        remote,
        block_size=cluster.block_size,
        stall_seconds=config.stall_seconds,
    )
    local = LocalNode(runtime, endpoint.token, block_size=cluster.block_size, digest=cluster.digest)
    with ExitStack() as owned:
        for part in (metadata, remote, nearby, local):
            owned.enter_context(closing(part))
        blocks = nearby if config.local else remote
        yield owned.enter_context(
            Reader(
                runtime,
                config,
                cluster,
                metadata=metadata,
                blocks=blocks,
                local=local,
                node=node_identity(),
            )
        )
