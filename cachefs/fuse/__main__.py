"""``python -m cachefs.fuse --config FILE``: serve one mount; its keeper starts it."""

import argparse
import sys
from pathlib import Path

from cachefs.errors import CacheFSError
from cachefs.fuse.keeping.heartbeat import Heartbeat
from cachefs.fuse.keeping.servers import Control
from cachefs.fuse.mounts.runfolder import RunFolder
from cachefs.fuse.server import run
from cachefs.telemetry import logs
from cachefs.transport.runtime import ThreadRuntime


def main() -> int:
    """Serve; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cachefs.fuse", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the mount's plan")
    parser.add_argument("--control", type=int, required=True, help="the keeper's socket")
    parser.add_argument("--heartbeat", type=int, required=True, help="memory for signs of life")
    arguments = parser.parse_args()
    logs.configure("mount", as_json=False)
    control = Control(arguments.control)
    folder = RunFolder(arguments.config.parent)
    try:
        cluster, plan = folder.read_plan()
        heartbeat = Heartbeat(arguments.heartbeat)
        run(ThreadRuntime(), folder, plan, cluster, control=control, heartbeat=heartbeat)
    except CacheFSError as error:
        control.fail(error)
        sys.stderr.write(f"cachefs mount: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
