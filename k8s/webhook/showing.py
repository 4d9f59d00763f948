"""``python -m cachefs.k8s.webhook.showing NS/NAME[@VERSION] FOLDER``: mounts a dataset, as ``cachefs mount``.

It puts the token into a file that only we may read, as all programs of ours want it, and becomes that command.
When the container ends, so does the mount; one that died without its last word is cleared away by the next.

With ``--check FOLDER`` it says by its exit status whether the mount is there and answers: what is known of a dead
one is still shown by the kernel for a while, so a look at the folder alone would not do.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from cachefs.errors import ConfigError
from cachefs.k8s.webhook.containers import RUN_FOLDER
from cachefs.k8s.webhook.reading import endpoint_of, run


def prepare(
    words: Sequence[str], environment: Mapping[str, str], folder: Path
) -> tuple[list[str], dict[str, str]]:
    """Write the token's file; return the command to become, and its environment.

    Args:
        words: The dataset and the folder.
        environment: Says where the coordinator is.
        folder: In memory, and only ours.

    Raises:
        ConfigError: Something is missing.
    """
    if len(words) != 2:
        raise ConfigError("a dataset and a folder are needed")
    # The kubelet makes folders that a group may enter; what mounts know of themselves is nobody else's.
    own = folder / "mount"
    own.mkdir(mode=0o700, exist_ok=True)
    file = own / "token"
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(endpoint_of(environment).token.reveal())
    command = [sys.executable, "-m", "cachefs.cli", "mount", *words]
    command += ["--foreground", "--allow-other", "--nonempty"]
    return command, {**environment, "CACHEFS_TOKEN_FILE": str(file), "CACHEFS_RUN": str(own)}


def is_shown(folder: Path) -> bool:
    """Return whether something is mounted there and answers."""
    try:
        next(folder.iterdir(), None)
        return folder.is_mount()
    except OSError:
        return False


def _become() -> NoReturn:
    folder = Path(os.environ.get("CACHEFS_RUN") or RUN_FOLDER)
    command, environment = prepare(sys.argv[1:], os.environ, folder)
    os.execve(command[0], command, environment)  # noqa: S606 - no shell: it becomes the process


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        sys.exit(not is_shown(Path(sys.argv[2])))
    sys.exit(run("showing", _become))
