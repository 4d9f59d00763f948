"""What injected programs have in common: where the coordinator is, the reading token, and whom to tell."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from cachefs.config.discovery import Endpoint
from cachefs.config.secrets import Secret
from cachefs.errors import CacheFSError, ConfigError
from cachefs.k8s.webhook.containers import TOKEN_FOLDER
from cachefs.telemetry import logs

_TOKEN_VARIABLE = "CACHEFS_READER_FILE"  # noqa: S105 - a variable's name
"""Names the file elsewhere than in a pod."""


def endpoint_of(environment: Mapping[str, str]) -> Endpoint:
    """Return where the system is, and what opens it.

    The secret's file may be read by all who are in its container, which is us: a pod whose user is not known
    beforehand cannot have a narrower one.

    Raises:
        ConfigError: It is not said, or the token cannot be read.
    """
    coordinator = environment.get("CACHEFS_COORDINATOR", "")
    if not coordinator:
        raise ConfigError("the environment does not say where the coordinator is")
    file = Path(environment.get(_TOKEN_VARIABLE) or Path(TOKEN_FOLDER) / "token")
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError("cannot read the token", subject=str(file), hint=str(error)) from error
    if not token:
        raise ConfigError("the token's file is empty", subject=str(file))
    return Endpoint(coordinator, Secret(token), (), None, None)


def run(component: str, work: Callable[[], int]) -> int:
    """Do a program's work; return the exit status, and say in a line why it is not 0."""
    logs.configure(component, as_json=True)
    try:
        return work()
    except (CacheFSError, OSError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
