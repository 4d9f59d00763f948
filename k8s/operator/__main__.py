"""``python -m cachefs.k8s.operator``: one operator. In a pod its environment says everything."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from cachefs.errors import CacheFSError
from cachefs.k8s.operator.leading import LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, Times
from cachefs.k8s.operator.process import PORT, Settings, run
from cachefs.telemetry import logs


def _main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="cachefs.k8s.operator", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="of a cluster that it is not a part of")
    parser.add_argument("--host", default="0.0.0.0", help="where it answers")
    parser.add_argument("--port", type=int, default=PORT, help="for /healthz and /metrics")
    parser.add_argument("--lease-seconds", type=float, default=LEASE_SECONDS)
    parser.add_argument("--renew-seconds", type=float, default=RENEW_SECONDS)
    parser.add_argument("--retry-seconds", type=float, default=RETRY_SECONDS)
    parser.add_argument("--log-text", action="store_true", help="lines for people, not JSON")
    given = parser.parse_args(words)
    logs.configure("operator", as_json=not given.log_text)
    try:
        settings = replace(
            Settings.of(os.environ),
            kubeconfig=given.kubeconfig,
            address=(given.host, given.port),
            times=Times(given.lease_seconds, given.renew_seconds, given.retry_seconds),
        )
        return run(settings)
    except (CacheFSError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
