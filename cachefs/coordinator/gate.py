"""What stands before the HTTP API: the token, and a limit on bodies.

Both are checked before the framework reads anything of a body, so that a caller without the token
cannot make the process keep a byte. This is ASGI, the one place where our code is asynchronous,
because it is called by a server that is; it never waits for anything but that server.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cachefs.config.reading import reading_door
from cachefs.config.secrets import Secret
from cachefs.errors import CacheFSError, CapacityError, DeniedError, NotKnownError
from cachefs.wire import failures

_HINT = (
    "CACHEFS_TOKEN_FILE names the file that holds it; `cachefs up` wrote it into its state folder"
)
OPEN_PATHS = frozenset({"/healthz"})
"""What can be asked without the token."""


class Gate:
    """Lets requests through that carry the token, and whose body is not too long."""

    def __init__(
        self,
        app: ASGIApp,
        token: Secret,
        *,
        request_limit_bytes: int,
        admits: Callable[[str, str], bool] = lambda _path, _token: False,
    ) -> None:
        """Stand before an application.

        Args:
            app: What answers.
            token: The cluster's, which opens every path.
            request_limit_bytes: A request with a longer body is refused.
            admits: Says whether another token opens a path; it must not wait.
        """
        self._app = app
        self._token = token
        self._other = admits
        self._reads = reading_door(token)
        self._request_limit_bytes = request_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        presented = headers.get(b"authorization", b"")
        try:
            if scope["path"] not in OPEN_PATHS and not self._admits(scope, presented):
                await _refuse(send, DeniedError("the token is missing or wrong", hint=_HINT))
                return
        except NotKnownError as error:
            await _refuse(send, error)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._request_limit_bytes:
            await _refuse(send, self._too_long())
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._request_limit_bytes:
                raise self._too_long()
            return message

        await self._app(scope, counted, send)

    def _admits(self, scope: Scope, header: bytes) -> bool:
        path = scope["path"]
        scheme, _, presented = header.decode("latin-1").partition(" ")
        if scheme.lower() == "basic":
            # Who can only be given a URL has its own token in it; the cluster's is not for URLs.
            return self._other(path, _password(presented))
        known = (
            self._token.matches(presented)
            or self._other(path, presented)
            or self._reads(scope["method"], path, _query(scope), presented)
        )
        return known and scheme.lower() == "bearer"

    def _too_long(self) -> CapacityError:
        return CapacityError(
            f"a request may have {self._request_limit_bytes} bytes",
            hint="see request_limit_bytes in the coordinator's configuration",
        )


def _query(scope: Scope) -> Mapping[str, Sequence[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _password(credentials: str) -> str:
    """Return the password of HTTP's Basic scheme; empty if there is none."""
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        return ""
    return decoded.partition(":")[2]


async def _refuse(send: Send, error: CacheFSError) -> None:
    body = failures.encode(error)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        # What was sent of a body is not read, so the connection cannot be used again.
        (b"connection", b"close"),
    ]
    if isinstance(error, DeniedError):
        headers.append((b"www-authenticate", b"Bearer"))
    status = failures.http_status(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
