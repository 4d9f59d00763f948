"""Calls to Kubernetes' API server: sent, limited in time, repeated where that is harmless, failures named.

:mod:`cachefs.k8s.cluster` says what is called; whom and as whom comes from the package ``kubernetes``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject

from cachefs.core.backoff import Backoff
from cachefs.errors import (
    ApiServerUnavailableError,
    CacheFSError,
    ConfigError,
    ConflictError,
    DeniedError,
    NotKnownError,
)
from cachefs.k8s.names import FIELD_MANAGER
from cachefs.ports import Runtime

Document = dict[str, Any]

TIMEOUT_SECONDS = 30.0
"""For a whole call, its further attempts included."""
_CONNECT_SECONDS = 5.0
_IDENTITY_SECONDS = 600.0
"""For how long others may use our token: a service account's is renewed long before its hour is over."""
_ATTEMPT_SECONDS = 15.0
"""For one attempt; a page of a list is a few megabytes at most."""
_BODY_BYTES_MAX = 256 << 20
_LINE_BYTES_MAX = 16 << 20
"""An object is at most as large as etcd takes: 1.5 MiB. This is for what is no API server."""
_BACKOFF = Backoff(attempts_limit=5, first_seconds=0.5, wait_seconds_max=5.0)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_SENT_TWICE_IS_SENT_ONCE = frozenset({"GET", "PATCH", "DELETE"})
_BY_STATUS: Mapping[int, type[CacheFSError]] = {
    400: ConfigError,
    401: DeniedError,
    403: DeniedError,
    404: NotKnownError,
    405: NotKnownError,
    409: ConflictError,
    415: ConfigError,
    422: ConfigError,
}


class AgedError(NotKnownError):
    """What was listed, or watched from, has aged away (410): list again."""


class _BusyError(ApiServerUnavailableError):
    """The server did not do it; perhaps it will when it is asked again."""

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        untouched: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, subject=subject)
        self.untouched = untouched
        """Nothing was done for certain."""
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Document | list[Document] | None = None
    form: str = "application/json"
    """Of the body."""
    timeout_seconds: float = TIMEOUT_SECONDS
    once: bool = False
    """Whether it is not worth a second attempt."""


class Calls:
    """Calls to one API server; safe from any thread."""

    def __init__(self, configuration: Configuration, runtime: Runtime) -> None:
        """Connect to nobody yet.

        Args:
            configuration: Where the server is, and who we are; its hooks renew our token.
            runtime: Time.
        """
        configuration.keep_alive = True
        self.runtime = runtime
        self._configuration = configuration
        self._pool = RESTClientObject(configuration).pool_manager

    def make(self, call: Call) -> Document:
        """Make a call, again if need be, and return the answer; raises as ``fetch``."""
        return _decode(self.fetch(call))

    def fetch(self, call: Call) -> bytes:
        """Make a call, again if need be, and return the answer as it is: a log is no document.

        Raises:
            ConfigError: The server does not understand, or refuses the object.
            NotKnownError: There is no such object, or kind.
            ConflictError: It is there already, or has changed.
            DeniedError: We may not.
            ApiServerUnavailableError: No answer, or it is too busy.
        """
        ends_at = self.runtime.monotonic() + call.timeout_seconds
        attempt = 0
        while True:
            attempt += 1
            left = max(0.1, ends_at - self.runtime.monotonic())
            try:
                return self._attempt(replace(call, timeout_seconds=min(left, _ATTEMPT_SECONDS)))
            except _BusyError as error:
                wait = _BACKOFF.wait_after(
                    attempt,
                    draw=self.runtime.random.random(),
                    retry_after_seconds=error.retry_after_seconds,
                )
                harmless = error.untouched or call.method in _SENT_TWICE_IS_SENT_ONCE
                if wait is None or call.once or not harmless:
                    raise
                if self.runtime.monotonic() + wait >= ends_at - 1.0:
                    raise
                self.runtime.sleep(wait)

    def identity(self) -> dict[str, Any]:  # Any: flags and texts
        """Return where the server is and who we are, as others' clients of it want to be told."""
        found = self._configuration
        settings: Any = found.auth_settings()  # Any: the package's form varies
        tokens = [one["value"] for one in settings.values() if one["in"] == "header"]
        scheme, _, token = (tokens[0] if tokens and tokens[0] else "").partition(" ")
        told = {
            "server": found.host,
            "insecure": not found.verify_ssl,
            "ca_path": found.ssl_ca_cert,
            "certificate_path": found.cert_file,
            "private_key_path": found.key_file,
            "scheme": scheme or None,
            "token": token.strip() or None,
            "expiration": datetime.fromtimestamp(self.runtime.wall() + _IDENTITY_SECONDS, UTC),
        }
        return {name: value for name, value in told.items() if value is not None}

    def stream(self, call: Call) -> Iterator[Document]:
        """Yield the documents of an answer that is one a line; closing it ends the connection.

        Raises:
            NotKnownError: There is no such kind; or, ``AgedError``, no such version any more.
            DeniedError: We may not.
            ApiServerUnavailableError: It broke off, or did not even begin.
        """
        ends_at = self.runtime.monotonic() + call.timeout_seconds
        answer = self._open(call)
        try:
            if answer.status >= 300:
                raise _failure(answer.status, self._read(answer, ends_at), call.path)
            for line in _lines(answer):
                if self.runtime.monotonic() > ends_at:
                    return
                document = _decode(line)
                if document.get("type") == "ERROR":
                    told = document.get("object", {})
                    raise _failure(int(told.get("code", 500)), json.dumps(told).encode(), call.path)
                yield document
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error, self._configuration.host) from error
        finally:
            answer.close()

    def _attempt(self, call: Call) -> bytes:
        ends_at = self.runtime.monotonic() + call.timeout_seconds
        answer = self._open(call)
        try:
            content = self._read(answer, ends_at)
        except urllib3.exceptions.HTTPError as error:
            answer.close()
            raise _unreachable(error, self._configuration.host) from error
        finally:
            answer.release_conn()
        if answer.status >= 300:
            raise _failure(answer.status, content, call.path, headers=answer.headers)
        return content

    def _read(self, answer: urllib3.BaseHTTPResponse, ends_at: float) -> bytes:
        parts, size = [], 0
        for part in answer.stream(1 << 20):
            parts.append(part)
            size += len(part)
            if size > _BODY_BYTES_MAX or self.runtime.monotonic() > ends_at:
                answer.close()
                raise _BusyError("an answer without end", subject=self._configuration.host)
        return b"".join(parts)

    def _open(self, call: Call) -> urllib3.BaseHTTPResponse:
        """Send a call; the caller reads the answer and lets go of it."""
        headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER}
        if call.body is not None:
            headers["Content-Type"] = call.form
        settings: Any = self._configuration.auth_settings()  # Any: the package's form varies
        for setting in settings.values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
        url = self._configuration.host.rstrip("/") + call.path
        seconds = call.timeout_seconds
        try:
            return self._pool.request(
                call.method,
                f"{url}?{urlencode(call.query)}" if call.query else url,
                body=None if call.body is None else json.dumps(call.body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, seconds), read=seconds),
                retries=False,  # we know better which calls may be repeated
                redirect=False,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error, self._configuration.host) from error


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for part in answer.stream(1 << 16):
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            raise ApiServerUnavailableError("a change without end")
        yield from (line for line in lines if line.strip())


def _decode(content: bytes) -> Document:
    try:
        document: Document = json.loads(content)
    except ValueError as error:
        raise ApiServerUnavailableError("the API server's answer is not JSON") from error
    return document


def _unreachable(error: Exception, host: str) -> CacheFSError:
    never_sent = isinstance(
        error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError
    )
    reason = str(error) or type(error).__name__
    return _BusyError(
        f"the API server does not answer: {reason}", subject=host, untouched=never_sent
    )


def _failure(
    status: int, content: bytes, subject: str, *, headers: Mapping[str, str] = _NOTHING
) -> CacheFSError:
    """Return the error for an answer that is none."""
    try:
        told = json.loads(content)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    message = str(told.get("message") or f"the API server answered {status}")
    if status == 410:
        return AgedError(message, subject=subject)
    if status in _BY_STATUS:
        return _BY_STATUS[status](message, subject=subject)
    after = headers.get("Retry-After") or (told.get("details") or {}).get("retryAfterSeconds", "")
    return _BusyError(
        message,
        subject=subject,
        untouched=status == 429,
        retry_after_seconds=float(after) if str(after).isdecimal() else None,
    )
