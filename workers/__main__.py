"""``python -m cachefs.workers --config FILE``: run one worker; the token's file is in the environment."""

import argparse
import os
import sys
from pathlib import Path

from cachefs.config.files import read_process_config
from cachefs.config.schema import WorkerConfig
from cachefs.config.secrets import read_token
from cachefs.errors import CacheFSError, ConfigError
from cachefs.telemetry import logs
from cachefs.workers.process import run


def main() -> int:
    """Read the configuration and run; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cachefs.workers", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file that `up` writes")
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")
    parser.add_argument("--log-level", default="info")
    arguments = parser.parse_args()
    logs.configure("worker", as_json=arguments.log_json, level=arguments.log_level)
    try:
        token_file = os.environ.get("CACHEFS_TOKEN_FILE")
        if not token_file:
            raise ConfigError("CACHEFS_TOKEN_FILE does not name the token's file")
        cluster, config = read_process_config(arguments.config, "worker", WorkerConfig)
        return run(config, cluster, read_token(Path(token_file)))
    except CacheFSError as error:
        sys.stderr.write(
            f"{' '.join(str(error).split())}\n"
        )  # one line: the supervisor shows the last
        return 1


if __name__ == "__main__":
    sys.exit(main())
