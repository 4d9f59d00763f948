"""Request targets as they were sent: split first, decoded after, and strictly.

A slash that was sent as ``%2F`` is part of a name, a ``%`` that begins nothing is an error, and so
are bytes that are not Unicode: no two programs may read two things in one target.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from cachefs.errors import ConfigError

_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PARAMETERS_LIMIT = 64


class Target(NamedTuple):
    """A target in two parts, neither of them decoded."""

    path: str
    query: str

    def parameters(self) -> list[tuple[str, str]]:
        """Return the decoded parameters in the order in which they were sent.

        Raises:
            ConfigError: There are too many, or one cannot be decoded.
        """
        words = [word for word in self.query.split("&") if word]
        if len(words) > _PARAMETERS_LIMIT:
            raise ConfigError("too many parameters")
        pairs = (word.replace("+", "%20").partition("=") for word in words)
        return [(decode(name), decode(value)) for name, _, value in pairs]

    def only_parameters(self) -> Mapping[str, str]:
        """Return the parameters by name.

        Raises:
            ConfigError: As above, or one is there twice.
        """
        pairs = self.parameters()
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ConfigError("a parameter is given twice")
        return values


def split_target(text: str) -> Target:
    """Take a request's target apart."""
    path, _, query = text.partition("?")
    return Target(path, query)


def decode(text: str) -> str:
    """Undo percent-encoding.

    Raises:
        ConfigError: It is none, or what comes out is not Unicode.
    """
    if _STRAY_PERCENT.search(text):
        raise ConfigError("a percent sign that encodes nothing")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise ConfigError("a name that is not UTF-8") from error
