"""``python -m cachefs.k8s.csi``: the driver of one node, as its daemon set runs it."""

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path

from cachefs.config.discovery import discover
from cachefs.errors import CacheFSError, ConfigError
from cachefs.k8s.csi.asking import Objects
from cachefs.k8s.csi.driver import Driver, Settings
from cachefs.k8s.csi.places import GIVE_UP_SECONDS, HEALTH_PORT, add_arguments, places_of
from cachefs.k8s.names import SYSTEM_NAMESPACE
from cachefs.telemetry import logs
from cachefs.transport.api import Api
from cachefs.transport.running import StopSignals
from cachefs.transport.runtime import ThreadRuntime

_WORKERS_USER = 65532
"""Whom workers run as, in our manifests."""


def main() -> int:
    """Serve until told to end; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cachefs.k8s.csi", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--node", default=os.environ.get("NODE_NAME", ""), metavar="NAME")
    parser.add_argument("--port", type=int, default=HEALTH_PORT, help="of health and metrics")
    parser.add_argument("--targets", type=Path, metavar="DIR", help="(default: KUBELET/pods)")
    parser.add_argument("--give-up-seconds", type=float, default=GIVE_UP_SECONDS, metavar="N")
    parser.add_argument("--system-namespace", default=SYSTEM_NAMESPACE, metavar="NAME")
    parser.add_argument("--sockets-owner", type=int, default=_WORKERS_USER, metavar="UID")
    parser.add_argument(
        "--no-cluster", action="store_true", help="no API server: nothing is shared"
    )
    given = parser.parse_args()
    logs.configure("csi", as_json=True)
    os.umask(0o077)
    try:
        if not given.node:
            raise ConfigError("which node is it?", hint="NODE_NAME in the environment, or --node")
        places = places_of(given)
        settings = Settings(
            places=places,
            node=given.node,
            targets=(given.targets or places.targets).absolute(),
            port=given.port,
            give_up_seconds=given.give_up_seconds,
            system_namespace=given.system_namespace,
            sockets_owner=given.sockets_owner,
        )
        endpoint = discover(os.environ)
        api = Api(endpoint.coordinator, endpoint.token)
        objects = None if given.no_cluster else _cluster()
        with (
            StopSignals() as stop,
            closing(Driver(ThreadRuntime(), settings, api, objects)) as made,
        ):
            stop.wait(unless=lambda: made.refused)
            return int(made.refused)
    except (CacheFSError, OSError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1


def _cluster() -> Objects:
    from cachefs.k8s.cluster import open_cluster  # noqa: PLC0415 - its library may be missing

    return open_cluster()


if __name__ == "__main__":
    sys.exit(main())
