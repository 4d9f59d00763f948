"""How a process of ours runs: what it is told, when it is ready, how it ends.

A supervisor starts coordinators, workers and gateways alike: ``python -m cachefs.workers --config
FILE``. The configuration is the JSON file that ``cachefs up`` writes; the token is in the file that
``CACHEFS_TOKEN_FILE`` names, and never an argument. A process that can serve says so in one line of
its standard output, ``ready {…}``, with its addresses. One that cannot says why in the last line of
its standard error, which the supervisor shows. SIGTERM or SIGINT end it.
"""

import argparse
import json
import os
import selectors
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from cachefs.config.files import read_process_config
from cachefs.config.schema import ClusterConfig
from cachefs.config.secrets import Secret, read_token
from cachefs.errors import CacheFSError, ConfigError
from cachefs.ports import Closing
from cachefs.telemetry import logs
from cachefs.transport.events import handle_events, taking_signals

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
POLL_SECONDS = 0.5
"""How often a process looks whether it has another reason to end than a signal."""

Config = TypeVar("Config")


def main(
    section: str, config: type[Config], run: Callable[[Config, ClusterConfig, Secret], int]
) -> int:
    """Read arguments, configuration and token, and run; return the process's exit status.

    Args:
        section: What the process is, as its configuration file and its logs name it.
        config: The dataclass of that section.
        run: Runs until told to end, and returns the exit status.
    """
    parser = argparse.ArgumentParser(description=f"Run one {section}, as a supervisor does.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file that `up` writes")
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")
    parser.add_argument("--log-level", default="info")
    given = parser.parse_args()
    logs.configure(section, as_json=given.log_json, level=given.log_level)
    try:
        token_file = os.environ.get("CACHEFS_TOKEN_FILE")
        if not token_file:
            raise ConfigError("CACHEFS_TOKEN_FILE does not name the token's file")
        cluster, own = read_process_config(given.config, section, config)
        return run(own, cluster, read_token(Path(token_file)))
    except CacheFSError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1


def say_ready(addresses: Mapping[str, str]) -> None:
    """Tell the supervisor that we can serve, and where."""
    sys.stdout.write(f"ready {json.dumps(dict(addresses))}\n")
    sys.stdout.flush()


class StopSignals(Closing):
    """SIGTERM and SIGINT as the wish that this process ends; for its main thread only."""

    def __init__(self) -> None:
        """Take the signals from now on."""
        self._came = False
        self._selector = selectors.DefaultSelector()
        with ExitStack() as owned:
            owned.callback(self._selector.close)
            owned.enter_context(taking_signals(self._selector, STOP_SIGNALS, self._note))
            self._owned = owned.pop_all()

    def _note(self, _number: int) -> None:
        self._came = True

    def wait(self, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Return once a signal came, or soon after ``unless`` has become true."""
        while not (self._came or unless()):
            handle_events(self._selector, POLL_SECONDS)

    def close(self) -> None:
        """Leave the signals to who had them before; idempotent."""
        self._owned.close()
