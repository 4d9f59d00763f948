"""The coordinator's HTTP API, as the command line and the SDK call it: JSON in, JSON out.

A failure is the error that the coordinator raised, rebuilt from :mod:`cachefs.wire.failures`; no
answer at all is ``CoordinatorUnavailableError``. Nothing is tried again: a call may have taken
effect although its answer was lost, and only the caller knows whether repeating it is harmless.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from cachefs.config.secrets import Secret
from cachefs.errors import CacheFSError, ClusterError, ConfigError, CoordinatorUnavailableError
from cachefs.ports import CancelToken
from cachefs.transport.connections import Connection, Patience
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire import failures

TIMEOUT_SECONDS = 30.0
"""For a whole call, unless that says otherwise."""
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_HINT = "does it run, and at that address? `cachefs up` starts one, `cachefs doctor` looks closer"


class Api:
    """Calls to one coordinator, each on a connection of its own; safe from any thread."""

    def __init__(self, address: str, token: Secret) -> None:
        """Call nobody yet.

        Args:
            address: ``host:port``, with or without ``http://`` before it.
            token: The cluster's.
        """
        self.address = address.removeprefix("http://").rstrip("/")
        self._token = token
        self._runtime = ThreadRuntime()

    def get(self, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Any:
        """Return the document at a path, query included."""
        return _document(self.fetch("GET", path, timeout_seconds=timeout_seconds))

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> Any:
        """Send a document to a path and return the answer's."""
        return _document(
            self.fetch("POST", path, body, timeout_seconds=timeout_seconds, headers=headers)
        )

    def put(self, path: str, body: Any, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Any:
        """Make what is at a path as the document says, and return what it is now."""
        return _document(self.fetch("PUT", path, body, timeout_seconds=timeout_seconds))

    def patch(self, path: str, body: Any) -> Any:
        """Change what is at a path and return what it is now."""
        return _document(self.fetch("PATCH", path, body))

    def delete(self, path: str) -> Any:
        """Remove what is at a path; the answer may be ``None``."""
        return _document(self.fetch("DELETE", path))

    def fetch(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> bytes:
        """Make a call and return the answer's body as it is.

        Raises:
            ConfigError: A header cannot be sent as it is.
            CoordinatorUnavailableError: No answer, or none that can be understood.
            CacheFSError: What the coordinator raised.
        """
        patience = Patience(self._runtime.monotonic() + timeout_seconds, timeout_seconds)
        encoded = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.address}\r\nConnection: close\r\n"
            f"Authorization: Bearer {self._token.reveal()}\r\n"
            + ("Content-Type: application/json\r\n" if encoded else "")
            + (f"Content-Length: {len(encoded)}\r\n" if method != "GET" else "")
            + "".join(_line(name, value) for name, value in headers.items())
            + "\r\n"
        )
        try:
            connection = Connection(self._runtime, self.address, patience, CancelToken())
            try:
                connection.send(head.encode(), encoded)
                answer = connection.read_head()
                content = b"" if answer.status == 204 else connection.read_body(answer)
            finally:
                connection.close()
        except OSError as error:
            reason = (error.strerror or str(error) or type(error).__name__).lower()
            raise CoordinatorUnavailableError(
                f"the coordinator does not answer: {reason}", subject=self.address, hint=_HINT
            ) from error
        if answer.status >= 300:
            raise _failure(answer.status, content)
        return content


def pages(
    get: Callable[[str], Any], path: str, *, following: str, query: Mapping[str, str] | None = None
) -> Iterator[Any]:
    """Yield the documents of a list that comes in pages, asking for each when it is wanted.

    Args:
        get: Makes a call: :meth:`Api.get`, or that with a time limit.
        path: Of the list, without a query.
        following: What the query calls the place where a page begins.
        query: What else it says.
    """
    wanted: dict[str, Any] = dict(query or {})
    while True:
        page = get(f"{path}?{urlencode(wanted)}" if wanted else path)
        yield page
        if page["next"] is None:
            return
        wanted[following] = page["next"]


def _line(name: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ConfigError("only printable ASCII can be sent", subject=name)
    return f"{name}: {value}\r\n"


def _failure(status: int, content: bytes) -> CacheFSError:
    failure = failures.decode(content)
    if type(failure) is ClusterError:
        return ClusterError(f"the coordinator answered {status}: {failure.message}")
    return failure


def _document(content: bytes) -> Any:
    if not content:
        return None
    try:
        return json.loads(content)
    except ValueError as error:
        raise CoordinatorUnavailableError("the coordinator's answer is not JSON") from error
