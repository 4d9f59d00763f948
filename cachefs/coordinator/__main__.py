"""``python -m cachefs.coordinator --config FILE``: one coordinator; see :mod:`cachefs.transport.running`."""

import sys

from cachefs.config.schema import CoordinatorConfig
from cachefs.coordinator.process import run
from cachefs.transport.running import main

if __name__ == "__main__":
    sys.exit(main("coordinator", CoordinatorConfig, run))
