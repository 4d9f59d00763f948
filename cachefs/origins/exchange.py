"""One HTTP request and its answer, over checked and pooled connections.

This is the part of the HTTP reader that knows sockets: it connects only to addresses that were
checked (:mod:`cachefs.origins.addresses`), follows redirects by hand so that each hop is checked
too, and bounds every wait. What an answer *means* is for :mod:`cachefs.origins.http`.

Two times bound a request. Each socket operation must make progress within ``timeout_seconds``; and
because a server can drip a byte now and then for ever, the request as a whole ends by
``deadline_seconds``.
"""

import http.client
import io
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from cachefs.config.schema import OriginConfig
from cachefs.core.names import printable
from cachefs.core.urls import Confinement
from cachefs.errors import (
    OriginChangedError,
    OriginDeniedError,
    OriginError,
    OriginNotFoundError,
    OriginProtocolError,
    OriginUnavailableError,
)
from cachefs.origins.addresses import Addresses
from cachefs.ports import Runtime

REDIRECTS_LIMIT = 5
DRAIN_BYTES_MAX = 64 * 1024
"""A longer body that nobody wants costs more to read than a new connection does."""
WAKE_BYTES = 512 * 1024
"""While a large body comes in, the thread wakes up for so many bytes and not for a few."""
BUFFER_BYTES = 64 * 1024
"""For heads and small bodies; a large body goes past it into the caller's memory."""

_TIMEVAL = struct.Struct("@ll")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SKEW_SECONDS = 300.0
"""Clocks that differ by more may be why a request is refused: S3 allows signatures 15 minutes."""


class _Connection(http.client.HTTPConnection):
    """A connection whose socket comes from :class:`Addresses` and keeps to the deadline."""

    def __init__(
        self, url: SplitResult, addresses: Addresses, config: OriginConfig, runtime: Runtime
    ) -> None:
        secure = url.scheme == "https"
        host = str(url.hostname)
        super().__init__(host, url.port or (443 if secure else 80))
        self._addresses = addresses
        self._config = config
        self._runtime = runtime
        self._tls = ssl.create_default_context() if secure else None
        self.deadline = 0.0
        """Of the request in progress, on the runtime's clock."""

    def wait_seconds(self) -> float:
        """Return how long the next socket operation may wait."""
        left = self.deadline - self._runtime.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, self._config.timeout_seconds)

    def connect(self) -> None:
        """Connect to a checked address, and let TLS verify the name."""
        connection = self._addresses.connect(self.host, self.port, self.wait_seconds())
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_hostname=self.host)
            except OSError:
                connection.close()
                raise
        self.sock = _Wire(connection, self)


class _Wire:
    """A socket as ``http.client`` sees it: each operation is given the time that is left.

    The library closes it as soon as it has made a file of it, when the server will close too; the
    file then lives on. So the socket is closed when the last of its users is.
    """

    def __init__(self, connection: socket.socket, owner: _Connection) -> None:
        self._connection = connection
        self._owner = owner
        self._is_plain = not isinstance(connection, ssl.SSLSocket)
        self._wake = 1
        self._users = 1
        self._closed = False

    def sendall(self, data: bytes) -> None:
        """Send a request."""
        self._connection.settimeout(self._owner.wait_seconds())
        self._connection.sendall(data)

    def receive(self, into: Any) -> int:  # Any: a writable buffer
        """Receive what is there; of much that is asked for, as much as comes in time."""
        timeout = self._owner.wait_seconds()
        if self._is_plain and len(into) > 2 * WAKE_BYTES:
            # So much is to come after it that the thread can sleep until there is much.
            self._set_wake(WAKE_BYTES)
            return self._receive_large(memoryview(into)[:-WAKE_BYTES], timeout)
        self._set_wake(1)
        self._connection.settimeout(timeout)
        return self._connection.recv_into(into)

    def _receive_large(self, into: memoryview, timeout: float) -> int:
        """Receive in one system call, which the kernel ends when it is over or out of time.

        Python's own time-outs would poll before each of a hundred small receives.
        """
        self._connection.setblocking(True)
        bound = _TIMEVAL.pack(int(timeout), max(1000, int(timeout % 1 * 1e6)))
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
        try:
            return self._connection.recv_into(into, 0, socket.MSG_WAITALL)
        except BlockingIOError as error:
            raise TimeoutError from error

    def _set_wake(self, count: int) -> None:
        if count != self._wake:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            self._wake = count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what an answer is read from."""
        self._users += 1
        return io.BufferedReader(_Incoming(self), BUFFER_BYTES)

    def close(self) -> None:
        """End the library's own use; idempotent."""
        if not self._closed:
            self._closed = True
            self.leave()

    def leave(self) -> None:
        """Count one user less."""
        self._users -= 1
        if self._users == 0:
            self._connection.close()


class _Incoming(io.RawIOBase):
    """The receiving side of a wire, as a file."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, into: Any, /) -> int:  # Any: a writable buffer
        """Receive what is there."""
        return self._wire.receive(into)

    def close(self) -> None:
        """End this use; idempotent."""
        if not self.closed:
            super().close()
            self._wire.leave()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose head has arrived."""

    status: int
    headers: HTTPMessage
    url: str
    """Where it came from, redirects followed."""
    body: http.client.HTTPResponse

    def header(self, name: str) -> str:
        """Return a header's value, or an empty text."""
        return (self.headers.get(name) or "").strip()


class Exchange:
    """Sends requests and receives answers; safe from any thread."""

    def __init__(
        self,
        config: OriginConfig,
        runtime: Runtime,
        *,
        addresses: Addresses,
        bearer: str = "",
        confinement: Confinement | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            config: Time limits, and how many connections are kept.
            runtime: Gives the time.
            addresses: Whom we may connect to.
            bearer: A token sent to the first host only, never to one that it redirects to.
            confinement: What a host may redirect to beside itself; ``None`` for anything.
        """
        self._confinement = confinement
        self._config = config
        self._runtime = runtime
        self._addresses = addresses
        self._bearer = bearer
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        into: memoryview | None = None,
        check: Callable[[Answer], None] | None = None,
        *,
        body_limit: int = DRAIN_BYTES_MAX,
        follow: bool = True,
    ) -> tuple[Answer, bytes]:
        """Send a request, follow redirects, and read the answer.

        With ``into``, the body must be exactly as long and is read into it, after ``check`` has
        looked at the head; the bytes returned are empty then. Without, the body is returned, up to
        ``body_limit`` bytes. Who signs a request for one host does not let it ``follow`` redirects.

        Raises:
            OriginError: Anything but a 2xx came back, or nothing did, or ``check`` raised it.
        """
        deadline = self._runtime.monotonic() + self._config.deadline_seconds
        first = urlsplit(url)
        for _hop in range(REDIRECTS_LIMIT + 1):
            parts = urlsplit(url)
            sent = {"Accept-Encoding": "identity", "User-Agent": "cachefs", **headers}
            if self._bearer and (parts.scheme, parts.netloc) == (first.scheme, first.netloc):
                sent["Authorization"] = f"Bearer {self._bearer}"
            connection, answer = self._send(method, parts, sent, deadline)
            keep = False
            try:
                if answer.status in _REDIRECTS and not follow:
                    raise OriginProtocolError(
                        f"the origin answered {answer.status}, a redirect", subject=shown(url)
                    )
                if answer.status in _REDIRECTS:
                    keep = self._read(answer, DRAIN_BYTES_MAX)[1]
                    url = self._next_hop(url, answer)
                    continue
                _raise_for_status(answer, self._runtime)
                if into is None:
                    body, keep = self._read(answer, body_limit)
                    return answer, body
                if check is not None:
                    check(answer)
                self._receive(answer, into)
                keep = True
                return answer, b""
            finally:
                self._release(parts, connection, answer, keep=keep)
        raise OriginProtocolError(
            f"more than {REDIRECTS_LIMIT} redirects", subject=shown(first.geturl())
        )

    def _send(
        self, method: str, parts: SplitResult, headers: Mapping[str, str], deadline: float
    ) -> tuple[_Connection, Answer]:
        """Return an answer's head; a pooled connection that has died meanwhile is replaced."""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        pooled = self._take(parts)
        while True:
            connection = pooled or _Connection(parts, self._addresses, self._config, self._runtime)
            connection.deadline = deadline
            try:
                connection.request(method, target, headers=dict(headers))
                response = connection.getresponse()
            except OriginError:
                connection.close()
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                if pooled and isinstance(error, ConnectionError):
                    # The server closed it while it was idle, which says nothing of today. The
                    # second try is on a new connection, so there is no third.
                    pooled = None
                    continue
                raise _translated(error, parts.geturl()) from error
            return connection, Answer(response.status, response.headers, parts.geturl(), response)

    def _next_hop(self, url: str, answer: Answer) -> str:
        target = urljoin(url, answer.header("Location"))
        parts = urlsplit(target)
        if not answer.header("Location") or parts.scheme not in ("http", "https"):
            raise OriginProtocolError("a redirect to nowhere", subject=shown(url))
        if urlsplit(url).scheme == "https" and parts.scheme == "http":
            raise OriginDeniedError("a redirect from https to http", subject=shown(url))
        if not parts.hostname or "@" in parts.netloc:
            raise OriginProtocolError("a redirect to a URL we do not follow", subject=shown(url))
        is_elsewhere = parts.netloc != urlsplit(url).netloc
        if self._confinement and is_elsewhere and not self._confinement.allows(target):
            raise OriginDeniedError(
                "a redirect to what is not a source of this namespace", subject=shown(target)
            )
        return target

    def _receive(self, answer: Answer, into: memoryview) -> None:
        """Fill the buffer exactly."""
        subject = shown(answer.url)
        filled = 0
        try:
            while filled < len(into):
                count = answer.body.readinto(into[filled:])
                if count == 0:
                    raise OriginUnavailableError(
                        f"the body ended after {filled} of {len(into)} bytes", subject=subject
                    )
                filled += count
            if answer.body.read(1):
                raise OriginProtocolError("the body is longer than asked", subject=subject)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OriginError):
                raise
            raise _translated(error, answer.url) from error

    def _read(self, answer: Answer, limit: int) -> tuple[bytes, bool]:
        """Return the body's beginning, and whether that was all of it."""
        try:
            body = answer.body.read(limit)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _translated(error, answer.url) from error
        return body, len(body) < limit

    def _take(self, parts: SplitResult) -> _Connection | None:
        with self._lock:
            idle = self._idle.get((parts.scheme, parts.netloc))
            return idle.pop() if idle else None

    def _release(
        self, parts: SplitResult, connection: _Connection, answer: Answer, *, keep: bool
    ) -> None:
        keep = keep and not answer.body.will_close
        answer.body.close()
        with self._lock:
            idle = self._idle.setdefault((parts.scheme, parts.netloc), [])
            if keep and not self._closed and len(idle) < self._config.requests_limit:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close the idle connections; those in use close when their request ends."""
        with self._lock:
            self._closed = True
            connections = [one for idle in self._idle.values() for one in idle]
            self._idle.clear()
        for connection in connections:
            connection.close()


def shown(url: str) -> str:
    """Return a URL for messages: without its query, which may hold a signature."""
    return printable(url.partition("?")[0])


def _raise_for_status(answer: Answer, runtime: Runtime) -> None:
    status = answer.status
    if 200 <= status < 300:
        return
    subject = shown(answer.url)
    message = f"the origin answered {status}"
    if status in (404, 410):
        raise OriginNotFoundError("no such file", subject=subject)
    if status in (401, 403, 407):
        raise OriginDeniedError(message, subject=subject, hint=_denied_hint(answer, runtime))
    if status in (412, 416):
        raise OriginChangedError("the file has changed since it was listed", subject=subject)
    if status in (408, 425, 429) or status >= 500:
        raise OriginUnavailableError(
            message, subject=subject, retry_after_seconds=retry_after(answer, runtime)
        )
    raise OriginProtocolError(message, subject=subject)


def retry_after(answer: Answer, runtime: Runtime) -> float | None:
    """Return how long the server asked us to wait: it says seconds, or a date of its own clock."""
    text = answer.header("Retry-After")
    if text.isascii() and text.isdigit():
        return float(text)
    until, now = _moment(text), _moment(answer.header("Date"))
    if until is None:
        return None
    return max(0.0, until - (runtime.wall() if now is None else now))


def _denied_hint(answer: Answer, runtime: Runtime) -> str:
    """Return what to check; a signature is refused as well when the clocks differ by minutes."""
    now = _moment(answer.header("Date"))
    skew = 0.0 if now is None else abs(runtime.wall() - now)
    if skew > _SKEW_SECONDS:
        return f"our clock differs from the origin's by {skew:.0f} s: run an NTP client"
    return "check the dataset's credentials"


def _moment(text: str) -> float | None:
    """Return an HTTP date in seconds since 1970, ``None`` if it is not one."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _translated(error: Exception, url: str) -> OriginError:
    subject = shown(url)
    if isinstance(error, ssl.SSLCertVerificationError):
        return OriginDeniedError(
            "the server's certificate is not trusted", subject=subject, hint=error.verify_message
        )
    if isinstance(error, TimeoutError):
        return OriginUnavailableError("the origin is silent", subject=subject)
    if isinstance(error, OSError | http.client.IncompleteRead | http.client.RemoteDisconnected):
        return OriginUnavailableError("the connection broke", subject=subject, hint=str(error))
    return OriginProtocolError("not an HTTP answer", subject=subject, hint=printable(str(error)))
