"""Fronts: requests come from a connection, and what an endpoint answers is sent.

An endpoint is a :class:`Front`: it turns a request into an :class:`~cachefs.gateway.answers.Answer`,
and an error into one in the words of its clients. Reading, sending, time limits and what closes a
connection are here, and the same for all. A body that is not wanted is not read: the answer says no,
and the connection ends.
"""

import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from cachefs.errors import CacheFSError, ConfigError
from cachefs.gateway.answers import REASONS, Answer
from cachefs.gateway.files import OpenFiles
from cachefs.gateway.sending import Sender
from cachefs.ports import Runtime
from cachefs.transport.serving.answering import answer_requests
from cachefs.transport.serving.conversation import Conversation
from cachefs.transport.serving.listening import Guest
from cachefs.transport.serving.requests import Request

ReadBody = Callable[[], bytes]
"""Returns the request's body, or raises ``ConfigError`` if it is too long."""
BODY_BYTES_MAX = 1024 * 1024
"""A longer body is refused; those that are read at all are lists of paths."""

_log = logging.getLogger("cachefs.gateway")


class Front(Protocol):
    """One kind of endpoint."""

    def answer(self, request: Request, read_body: ReadBody) -> Answer:
        """Return the answer to a request that was not authorised yet."""
        ...

    def failure(self, request: Request, error: CacheFSError | None) -> Answer:
        """Return the answer that tells an error; ``None`` for a bug."""
        ...


class FrontLoop:
    """Serves one endpoint; :meth:`serve` is called by a listener, once for each connection."""

    def __init__(
        self, runtime: Runtime, front: Front, files: OpenFiles, *, idle_seconds: float
    ) -> None:
        """Serve what the front answers, from files that are kept open."""
        self._runtime = runtime
        self._front = front
        self._files = files
        self._idle_seconds = idle_seconds

    def serve(self, guest: Guest) -> None:
        """Answer requests until the other side leaves, is idle for too long, or makes no sense."""
        conversation = Conversation(self._runtime, guest.socket)
        sender = Sender(conversation)
        answer_requests(
            self._runtime,
            guest,
            conversation,
            idle_seconds=self._idle_seconds,
            respond=lambda request: self._respond(conversation, sender, request),
            refuse=lambda error: self._refuse(conversation, error),
            foreign=True,
        )

    def _refuse(self, conversation: Conversation, error: ConfigError) -> None:
        answer = self._front.failure(Request("GET", "/", keep_alive=False), error)
        conversation.send(self._head(answer, keep=False) + answer.body)
        conversation.linger()

    def _respond(self, conversation: Conversation, sender: Sender, request: Request) -> bool:
        """Answer one request; return whether the connection can go on."""
        unread = request.body_length != 0

        def read_body() -> bytes:
            nonlocal unread
            if not 0 <= request.body_length <= BODY_BYTES_MAX:
                raise ConfigError("the body of the request is too long")
            body = conversation.read_body(request.body_length)
            unread = False
            return body

        answer = self._decide(request, read_body)
        keep = request.keep_alive and not unread
        if not self._send(conversation, sender, request, answer, keep=keep):
            return False
        if unread:
            conversation.linger()
        return keep

    def _decide(self, request: Request, read_body: ReadBody) -> Answer:
        try:
            return self._front.answer(request, read_body)
        except CacheFSError as error:
            return self._front.failure(request, error)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - the boundary of a request
            _log.exception("a request failed in an unexpected way")
            return self._front.failure(request, None)

    def _send(
        self,
        conversation: Conversation,
        sender: Sender,
        request: Request,
        answer: Answer,
        *,
        keep: bool,
    ) -> bool:
        """Send an answer; return whether all of it could be had."""
        content = answer.content
        if content is not None and request.method != "HEAD":
            try:
                with self._files.borrow(content.dataset, content.entry.path) as file:
                    sender.send(self._head(answer, keep=keep), file, content.wanted)
            except CacheFSError as error:
                if sender.began:
                    _log.warning("a body was cut short", extra={"failure": str(error)})
                    return False
                answer = self._front.failure(request, error)
            else:
                return True
        head = self._head(answer, keep=keep)
        conversation.send(head if request.method == "HEAD" else head + answer.body)
        return True

    def _head(self, answer: Answer, *, keep: bool) -> bytes:
        lines = [f"HTTP/1.1 {answer.status} {REASONS[answer.status]}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if answer.status != 304:
            lines.append(f"Content-Length: {answer.length}")
        lines += [f"Date: {formatdate(self._runtime.wall(), usegmt=True)}", "Server: cachefs"]
        if not keep:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
