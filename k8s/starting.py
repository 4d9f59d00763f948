"""What runs first in a pod: ``python -m cachefs.k8s.starting worker``.

A process is told what it is by a configuration file. Of that file, a config map holds what all pods have
in common, and the environment what this one knows of itself. The token comes from a secret, whose file the
whole pod may read; processes insist on one that only they may. So both are written anew, into memory, and
this process becomes the one that was asked for. The operator has the token only; its environment says the rest.

``python -m cachefs.k8s.starting own USER FOLDER...`` gives folders of the node to the user who is to fill them.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cachefs.config.files import from_document
from cachefs.config.schema import ClusterConfig, CoordinatorConfig, WorkerConfig
from cachefs.errors import CacheFSError, ConfigError
from cachefs.k8s.manifests.parts import CONFIG_FOLDER, RUN_FOLDER, TOKEN_FOLDER
from cachefs.k8s.names import worker_name

_PROGRAMS: Mapping[str, tuple[str, type[Any]]] = {
    "coordinator": ("cachefs.cli.system.coordinating", CoordinatorConfig),
    "worker": ("cachefs.workers", WorkerConfig),
}
OPERATOR = "operator"


def prepare(
    component: str, environment: Mapping[str, str], root: Path = Path("/")
) -> tuple[list[str], dict[str, str]]:
    """Write the files that a process needs; return its command and its environment.

    Args:
        component: ``coordinator``, ``worker`` or ``operator``.
        environment: ``POD_NAME`` (``WORKER_NAME`` where pods' names do not last), ``POD_IP`` and ``NODE_NAME``; for a coordinator
            ``CACHEFS_STORE_URL`` if its store is elsewhere, and ``CACHEFS_SOURCES``, ``CACHEFS_DESTINATIONS``,
            ``CACHEFS_TRUSTED`` and ``POD_NAMESPACE`` if others act for namespaces.
        root: What the folders of the pod are below.

    Raises:
        ConfigError: Something is missing, or makes no sense.
    """
    config, token, run = (
        root / each.lstrip("/") for each in (CONFIG_FOLDER, TOKEN_FOLDER, RUN_FOLDER)
    )
    told = {**environment, "CACHEFS_TOKEN_FILE": str(run / "token")}
    if component == OPERATOR:
        _write(run / "token", _text(token / "token"))
        return [sys.executable, "-m", "cachefs.k8s.operator"], told
    if component not in _PROGRAMS:
        known = ", ".join((*_PROGRAMS, OPERATOR))
        raise ConfigError("no such component", subject=component, hint=known)
    program, form = _PROGRAMS[component]
    document = _read(config / f"{component}.json")
    own = document.setdefault(component, {})
    own["host"] = _needed(environment, "POD_IP")
    if component == "worker":
        _needed(environment, "POD_NAME")
        own["name"] = worker_name(environment)
        own["node_name"] = _needed(environment, "NODE_NAME")
        for folder in (own["state_folder"], *(tier["folder"] for tier in own["tiers"])):
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        if not own.get("store_url"):
            own["store_url"] = _needed(environment, "CACHEFS_STORE_URL")
        if "CACHEFS_SOURCES" in environment:
            own["tenants"] = _tenants(environment)
    from_document(ClusterConfig, document["cluster"], where="cluster.")
    from_document(form, own, where=f"{component}.")
    file = run / f"{component}.json"
    _write(file, json.dumps(document))
    _write(run / "token", _text(token / "token"))
    command = [sys.executable, "-m", program, "--config", str(file), "--log-json"]
    told.pop("CACHEFS_STORE_URL", None)
    return command, told


def _tenants(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return whom a coordinator trusts beside its own namespace, and what others may name."""
    trusted = f"{_needed(environment, 'POD_NAMESPACE')},{environment.get('CACHEFS_TRUSTED', '')}"
    lists = {
        "trusted": trusted,
        "sources": environment["CACHEFS_SOURCES"],
        "destinations": environment.get("CACHEFS_DESTINATIONS", ""),
    }
    return {name: [one for one in text.split(",") if one] for name, text in lists.items()}


def give(user: int, folders: Sequence[Path]) -> None:
    """Give folders to a user, who alone may look into them; what is in them stays whose it is."""
    for folder in folders:
        if folder.stat().st_uid != user:
            # In this order: once it is somebody else's, its mode is no longer ours to change.
            folder.chmod(0o700)
            os.chown(folder, user, user)


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(_text(path))
    except ValueError as error:
        raise ConfigError("cannot read the file", subject=str(path), hint=str(error)) from error
    return document


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        raise ConfigError("cannot read the file", subject=str(path), hint=str(error)) from error


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise ConfigError("the environment lacks a value", subject=name)
    return value


def _write(path: Path, text: str) -> None:
    """Write a file that only we may read; it holds a password, or may."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["own"]:
            give(int(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]])
            sys.exit()
        words, variables = prepare(sys.argv[1] if len(sys.argv) > 1 else "", os.environ)
    except (CacheFSError, OSError) as error:
        sys.exit(f"{error}")
    os.execve(words[0], words, variables)  # noqa: S606 - no shell: it becomes the process
