"""Secrets: values that cannot be printed by accident."""

import hmac
import os
import secrets as random_secrets
import stat
from pathlib import Path
from typing import NoReturn

from cachefs.errors import ConfigError


class Secret:
    """A value that no formatting, logging or serialising shows; only :meth:`reveal` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Wrap a value."""
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one place that sends it."""
        return self._value

    def matches(self, presented: str) -> bool:
        """Compare in a time that does not depend on where the two differ."""
        return hmac.compare_digest(self._value.encode(), presented.encode(errors="replace"))

    def __repr__(self) -> str:
        """Hide the value."""
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """Hide the value."""
        return repr(self)

    def __reduce__(self) -> NoReturn:
        """Refuse to be serialised."""
        raise TypeError("a secret cannot be serialised")


def read_token(path: Path) -> Secret:
    """Read a token file.

    Raises:
        ConfigError: It is missing, empty, or others may read it.
    """
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            value = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot read the token", subject=str(path), hint=str(error)) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError("others may read the token", subject=str(path), hint=f"chmod 600 {path}")
    if not value:
        raise ConfigError("the token file is empty", subject=str(path))
    return Secret(value)


def make_token(path: Path) -> Secret:
    """Write a new random token to a file that only its owner may read."""
    value = random_secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(value + "\n")
    return Secret(value)
