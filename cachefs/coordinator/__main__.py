"""``python -m cachefs.coordinator --config FILE``: how a supervisor starts a coordinator.

The token is read from the file that ``CACHEFS_TOKEN_FILE`` names; it is never an argument.
"""

import argparse
import os
import sys
from pathlib import Path

from cachefs.config.files import read_process_config
from cachefs.config.schema import CoordinatorConfig
from cachefs.config.secrets import read_token
from cachefs.coordinator.process import run
from cachefs.errors import CacheFSError, ConfigError
from cachefs.telemetry import logs


def main() -> int:
    """Read the configuration, and run until told to end."""
    parser = argparse.ArgumentParser(prog="cachefs.coordinator")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--log-json", action="store_true")
    given = parser.parse_args()
    logs.configure("coordinator", as_json=given.log_json)
    try:
        token_file = os.environ.get("CACHEFS_TOKEN_FILE", "")
        if not token_file:
            raise ConfigError("CACHEFS_TOKEN_FILE is not set")
        token = read_token(Path(token_file))
        cluster, config = read_process_config(given.config, "coordinator", CoordinatorConfig)
        return run(config, cluster, token)
    except CacheFSError as error:
        sys.stderr.write(
            f"{' '.join(str(error).split())}\n"
        )  # one line: the supervisor shows the last
        return 2


if __name__ == "__main__":
    sys.exit(main())
