"""A webhook's token that is a secret of the coordinator's machine: where it is read.

The trigger's words say which file, and one thread reads them all: so a file is opened without waiting, and
read only if it is a regular one, and a short one.
"""

import os
import stat
from collections.abc import Mapping

from cachefs.errors import ConfigError

_BYTES_MAX = 4096
"""A token is a line; what is longer was not meant."""


def read_webhook_secret(reference: str, environment: Mapping[str, str]) -> str:
    """Return what ``env:NAME`` or ``file:PATH`` of a webhook names, without white space around it.

    Raises:
        ConfigError: It is not of that form, it is not there or empty, or the file is none to read.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        found = environment.get(name, "").strip()
    elif kind == "file":
        found = _read(name).strip()
    else:
        raise ConfigError("a webhook's secret is env:NAME or file:PATH")
    if not found:
        raise ConfigError("a webhook's secret is not there, or empty", subject=reference)
    return found


def _read(path: str) -> str:
    # Without O_NONBLOCK, opening a pipe would wait for its writer; a terminal must not become ours.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        with open(os.open(path, flags), "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError("a webhook's secret is not in a regular file", subject=path)
            content = file.read(_BYTES_MAX + 1)
        if len(content) > _BYTES_MAX:
            raise ConfigError(f"a webhook's secret has at most {_BYTES_MAX} bytes", subject=path)
        return content.decode()
    except (OSError, ValueError) as error:  # a path with a zero byte; bytes that are no text
        raise ConfigError("a webhook's secret cannot be read", subject=path) from error
