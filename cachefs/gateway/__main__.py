"""``python -m cachefs.gateway --config FILE``: one gateway; see :mod:`cachefs.transport.running`."""

import sys

from cachefs.config.schema import GatewayPlan
from cachefs.gateway.process import run
from cachefs.transport.running import main

if __name__ == "__main__":
    sys.exit(main("gateway", GatewayPlan, run))
