"""``python -m cachefs.k8s.webhook``: one webhook, which manifests describe and Kubernetes starts."""

import argparse
import sys
from pathlib import Path

from cachefs.errors import CacheFSError
from cachefs.k8s.webhook.injecting import Mode
from cachefs.k8s.webhook.process import WebhookPlan, run
from cachefs.k8s.webhook.serving import LOOK_SECONDS
from cachefs.telemetry import logs


def main() -> int:
    """Read the arguments and serve; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the webhook, as Kubernetes does.")
    parser.add_argument("--host", required=True, help="address to listen at")
    parser.add_argument("--port", type=int, default=9443, help="for TLS")
    parser.add_argument("--http-port", type=int, default=9080, help="for health and metrics")
    parser.add_argument("--serving-folder", type=Path, required=True, help="the mounted secret")
    parser.add_argument("--coordinator", required=True, metavar="HOST:PORT")
    parser.add_argument("--image", required=True, help="of injected containers")
    parser.add_argument("--default-mode", choices=list(Mode), default=Mode.CSI, type=Mode)
    parser.add_argument("--linger-seconds", type=float, default=5.0, help="after SIGTERM")
    parser.add_argument("--look-seconds", type=float, default=LOOK_SECONDS, help="at the secret")
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")
    given = vars(parser.parse_args())
    logs.configure("webhook", as_json=given.pop("log_json"))
    try:
        return run(WebhookPlan(**given))
    except CacheFSError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
