"""Discovery: how a command or a program finds the running system and its token.

In this order, the first that is given: a state folder named by the caller (``--state``), the address
in ``CACHEFS_COORDINATOR``, the folder in ``CACHEFS_STATE``, and the user's own state folder,
``$XDG_STATE_HOME/cachefs`` or ``~/.local/state/cachefs``. A state folder holds ``cluster.json``,
which ``cachefs up`` writes and which has no secret in it, and ``token``, which only its owner can
read. With an address alone, the token comes from the file that ``CACHEFS_TOKEN_FILE`` names.

``cluster.json`` is ``{"coordinator": {"http", "control"}, "cluster": {…}, "workers": {name:
{"data", "control", "socket"}}, "gateway": {"s3", "hub"}}``, without the last if there is none. The workers' addresses are there so that reads can begin while the
coordinator is down.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachefs.config.files import from_document
from cachefs.config.schema import ClusterConfig
from cachefs.config.secrets import Secret, read_token
from cachefs.errors import ConfigError, CoordinatorUnavailableError

CLUSTER_FILE = "cluster.json"
TOKEN_FILE = "token"  # noqa: S105 - a file's name
ENDPOINTS_FOLDER = "endpoints"
FLOWS_FOLDER = "flows"

_START = "start it with `cachefs up`, or say where it is with --state or CACHEFS_COORDINATOR"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a running system is."""

    coordinator: str
    """``host:port`` of its HTTP API."""
    token: Secret
    workers: tuple[str, ...]
    """``host:port`` of data planes that were there when the system started; may be empty."""
    cluster: ClusterConfig | None
    """``None``: ask the coordinator."""
    state: Path | None
    """The state folder it was found by, if it was."""
    gateway: Mapping[str, str] = field(default_factory=dict)
    """``host:port`` of the endpoints ``s3`` and ``hub``; empty if there are none, or none known."""


def state_folder(environment: Mapping[str, str], given: Path | None = None) -> Path:
    """Return the state folder to use; it need not exist."""
    if given is not None:
        return given.expanduser().absolute()
    if named := environment.get("CACHEFS_STATE"):
        return Path(named).expanduser().absolute()
    states = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return (Path(states) / "cachefs").expanduser().absolute()


def run_folder(environment: Mapping[str, str], user: int) -> Path:
    """Return the folder of what only means something until the machine starts again; may not exist.

    ``CACHEFS_RUN`` names it; else it is ``/run/cachefs`` for root, and for others in
    ``XDG_RUNTIME_DIR``, or in ``~/.cache`` where there is none.
    """
    if named := environment.get("CACHEFS_RUN"):
        return Path(named).expanduser().absolute()
    if user == 0:
        return Path("/run/cachefs")
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "cachefs"
    return Path("~/.cache/cachefs/run").expanduser().absolute()


def discover(environment: Mapping[str, str], *, state: Path | None = None) -> Endpoint:
    """Find the running system.

    Args:
        environment: The process's environment.
        state: A state folder that the caller names; it wins over the environment.

    Raises:
        CoordinatorUnavailableError: Nothing was started there.
        ConfigError: What was found cannot be used.
    """
    folder = state_folder(environment, state)
    address = environment.get("CACHEFS_COORDINATOR")
    if address and state is None:
        token = Path(environment.get("CACHEFS_TOKEN_FILE") or folder / TOKEN_FILE)
        address = address.removeprefix("http://").rstrip("/")
        return Endpoint(address, read_token(token.expanduser()), (), None, None)
    try:
        document = json.loads((folder / CLUSTER_FILE).read_text())
    except FileNotFoundError as error:
        raise CoordinatorUnavailableError(
            "cachefs is not running", subject=str(folder), hint=_START
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            "cannot read the file", subject=str(folder / CLUSTER_FILE), hint=str(error)
        ) from error
    return _endpoint(document, folder)


def _endpoint(document: Any, folder: Path) -> Endpoint:  # Any: whatever the file holds
    try:
        coordinator = str(document["coordinator"]["http"])
        workers = tuple(str(worker["data"]) for worker in document["workers"].values())
        cluster = from_document(ClusterConfig, document["cluster"], where="cluster.")
        gateway = {str(name): str(at) for name, at in document.get("gateway", {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            "does not say where the system is",
            subject=str(folder / CLUSTER_FILE),
            hint="run `cachefs down` and `cachefs up` to write it anew",
        ) from error
    return Endpoint(coordinator, read_token(folder / TOKEN_FILE), workers, cluster, folder, gateway)
