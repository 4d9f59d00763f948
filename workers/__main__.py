"""``python -m cachefs.workers --config FILE``: one worker; see :mod:`cachefs.transport.running`."""

import sys

from cachefs.config.schema import WorkerConfig
from cachefs.transport.running import main
from cachefs.workers.process import run

if __name__ == "__main__":
    sys.exit(main("worker", WorkerConfig, run))
