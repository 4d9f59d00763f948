"""Addresses: resolve a host name, check what came out, connect to exactly that.

A name that was checked and then resolved a second time by whoever connects may answer differently
the second time; that is how an allow-list is walked around. Our own HTTP reader therefore gets its
sockets from here. The clients of others resolve by themselves, and follow redirects: for them the
addresses are checked when an origin is opened, which stops mistakes and simple abuse, but not a name
server or an allowed store that lies on purpose (``docs/WEAKNESSES.md``).
"""

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from cachefs.core.names import printable
from cachefs.core.urls import Confinement, HostRules
from cachefs.errors import ConfigError, OriginDeniedError, OriginUnavailableError

_RESOLVE_HINT = (
    "is it spelt right, and does DNS work on the coordinator's and the workers' machines?"
)

Resolve = Callable[[str, int], list[tuple[Any, ...]]]
"""As ``socket.getaddrinfo`` for TCP."""  # Any: the socket module's own address tuples


def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Ask the system's resolver."""
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class Addresses:
    """The hosts that may be contacted, as seen from this machine."""

    def __init__(self, rules: HostRules, *, resolve: Resolve = resolve) -> None:
        """Keep the rules."""
        self._rules = rules
        self._resolve = resolve

    def confined(self, confinement: Confinement | None) -> "Addresses":
        """Return those that may be contacted for somebody who is not trusted; all of them for ``None``."""
        if confinement is None:
            return self
        return Addresses(self._rules.confined(confinement), resolve=self._resolve)

    def check(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """Return the addresses of a host, all of which may be contacted.

        Raises:
            OriginDeniedError: The name, or one of its addresses, is not allowed.
            OriginUnavailableError: The name cannot be resolved.
        """
        self._refuse(host, self._rules.host_fault(host))
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise OriginUnavailableError(
                "the host name cannot be resolved", subject=printable(host), hint=_RESOLVE_HINT
            ) from error
        for entry in found:
            self._refuse(host, self._rules.address_fault(entry[4][0], host))
        return found

    def check_endpoint(self, url: str) -> None:
        """Check the host of an ``http(s)://`` endpoint.

        Raises:
            ConfigError: It is not such a URL.
            OriginDeniedError: It may not be contacted.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise ConfigError(f"not an endpoint: {printable(url)!r}", hint=str(error)) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigError(
                "not an endpoint URL", hint="write it like https://storage.example.org:9000"
            )
        self.check(parts.hostname, port)

    def connect(self, host: str, port: int, timeout_seconds: float) -> socket.socket:
        """Return a connection to one of a host's checked addresses.

        Raises:
            OriginDeniedError: The host may not be contacted.
            OriginUnavailableError: None of its addresses answers.
        """
        failure: OSError | None = None
        for family, kind, protocol, _name, address in self.check(host, port):
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(timeout_seconds)
            try:
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection
        reason = getattr(failure, "strerror", None) or str(failure)
        raise OriginUnavailableError(
            f"cannot connect: {reason.lower()}",
            subject=f"{printable(host)}:{port}",
            hint="does the server run there, and can the workers' machines reach it?",
        ) from failure

    @staticmethod
    def _refuse(host: str, fault: str | None) -> None:
        if fault is not None:
            raise OriginDeniedError(
                fault, subject=printable(host), hint="see origin.allowed_hosts in the configuration"
            )
