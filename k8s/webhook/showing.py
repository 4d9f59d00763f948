"""``python -m cachefs.k8s.webhook.showing NS/NAME[@VERSION] FOLDER``: mounts a dataset, as ``cachefs mount``.

It puts the token into a file that only we may read, as all programs of ours want it, and becomes that command.
When the container ends, so does the mount; one that died without its last word is cleared away by the next.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cachefs.errors import ConfigError
from cachefs.k8s.webhook.containers import RUN_FOLDER
from cachefs.k8s.webhook.reading import endpoint_of, run


def prepare(
    words: Sequence[str], environment: Mapping[str, str], folder: Path = Path(RUN_FOLDER)
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
    file = folder / "token"
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(endpoint_of(environment).token.reveal())
    command = [sys.executable, "-m", "cachefs.cli", "mount", *words]
    command += ["--foreground", "--allow-other", "--nonempty"]
    return command, {**environment, "CACHEFS_TOKEN_FILE": str(file), "CACHEFS_RUN": str(folder)}


def _become() -> int:
    command, environment = prepare(sys.argv[1:], os.environ)
    os.execve(command[0], command, environment)  # noqa: S606 - no shell: it becomes the process


if __name__ == "__main__":
    sys.exit(run("showing", _become))
