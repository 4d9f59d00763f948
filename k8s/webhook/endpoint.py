"""``python -m cachefs.k8s.webhook.endpoint NS/NAME …``: serves datasets to the other containers of a pod.

It is the gateway, at the pod's loopback address, with a reading token in place of the cluster's: the keys
that it hands to programs follow from that token, and open what it opens. They are in a volume that the pod's
containers share, each a file as the programs read them by themselves.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cachefs.client.connecting import cluster_of
from cachefs.config.schema import GatewayConfig, GatewayPlan, ReaderConfig
from cachefs.core.names import DatasetName
from cachefs.gateway.credentials import HUB_FILE, S3_FILE, write_keys
from cachefs.gateway.process import Gateway
from cachefs.k8s.webhook.containers import HUB_PORT, KEYS_FOLDER, READY_FILE, S3_PORT
from cachefs.k8s.webhook.reading import endpoint_of, run
from cachefs.ports import Runtime
from cachefs.transport.running import StopSignals, say_ready
from cachefs.transport.runtime import ThreadRuntime

_MEMORY_BYTES = 128 * 1024 * 1024
"""For blocks: the container may have 1 GiB at most."""


def serve(
    words: Sequence[str],
    environment: Mapping[str, str],
    runtime: Runtime,
    *,
    folder: Path = Path(KEYS_FOLDER),
    ports: tuple[int, int] = (S3_PORT, HUB_PORT),
) -> int:
    """Serve until SIGTERM; return the exit status.

    Args:
        words: The datasets, each with its namespace.
        environment: Says where the coordinator is.
        runtime: Clock and threads.
        folder: For the keys, and for the file that says that we serve.
        ports: Of S3 and of the Hub; 0 for any that is free.

    Raises:
        CacheFSError: It cannot be served.
    """
    ready = folder / READY_FILE
    ready.unlink(missing_ok=True)  # of who served before us in this pod
    endpoint = endpoint_of(environment)
    plan = GatewayPlan(
        coordinator=endpoint.coordinator,
        workers=(),
        settings=GatewayConfig(
            s3_port=ports[0], hub_port=ports[1], block_cache_bytes=_MEMORY_BYTES
        ),
        reader=ReaderConfig(),
        datasets=tuple(str(DatasetName.parse(word)) for word in words),
    )
    cluster = cluster_of(replace(endpoint, cluster=None))
    with StopSignals() as signals, Gateway(plan, cluster, endpoint.token, runtime) as gateway:
        write_keys(folder, endpoint.token)
        for name in (S3_FILE, HUB_FILE):
            # Others of the pod are other users; the volume is in memory, and nobody else's.
            (folder / name).chmod(0o644)
        ready.touch()
        say_ready(gateway.addresses)
        signals.wait()
    return 0


if __name__ == "__main__":
    sys.exit(run("endpoint", lambda: serve(sys.argv[1:], os.environ, ThreadRuntime())))
