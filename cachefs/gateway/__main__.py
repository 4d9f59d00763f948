"""``python -m cachefs.gateway --config FILE``: how a supervisor starts a gateway.

The token is read from the file that ``CACHEFS_TOKEN_FILE`` names; it is never an argument.
"""

import argparse
import os
import sys
from pathlib import Path

from cachefs.config.files import read_process_config
from cachefs.config.schema import GatewayPlan
from cachefs.config.secrets import read_token
from cachefs.errors import CacheFSError, ConfigError
from cachefs.gateway.process import run
from cachefs.telemetry import logs


def main() -> int:
    """Read the configuration, and run until told to end."""
    parser = argparse.ArgumentParser(prog="python -m cachefs.gateway", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file that `up` writes")
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")
    parser.add_argument("--log-level", default="info")
    given = parser.parse_args()
    logs.configure("gateway", as_json=given.log_json, level=given.log_level)
    try:
        token_file = os.environ.get("CACHEFS_TOKEN_FILE")
        if not token_file:
            raise ConfigError("CACHEFS_TOKEN_FILE does not name the token's file")
        cluster, plan = read_process_config(given.config, "gateway", GatewayPlan)
        return run(plan, cluster, read_token(Path(token_file)))
    except CacheFSError as error:
        sys.stderr.write(
            f"{' '.join(str(error).split())}\n"
        )  # one line: the supervisor shows the last
        return 1


if __name__ == "__main__":
    sys.exit(main())
