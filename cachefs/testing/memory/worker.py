"""A worker that keeps everything in memory, on a real socket, and misbehaves when told to.

It speaks :mod:`cachefs.wire.http` as a worker does, so that the reader can be tested over real
connections without a worker process, and with answers that no real worker gives. A fault is chosen
per request by a function, and named by what it does; see :data:`Fault`.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from cachefs.core.blocks import FileVersionId, block_count, block_range
from cachefs.core.membership import EMPTY_VIEW, Member, View
from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError, DeniedError, NotKnownError
from cachefs.ports import ResolvedVersion
from cachefs.wire import digests, failures
from cachefs.wire.http import (
    DIGESTS_HEADER,
    FROM_PEERS,
    ONLY_CACHED,
    REPLICA_HEADER,
    SOURCE_HEADER,
    ZONE_HEADER,
    encode_version,
    encode_view,
)

Fault = Literal[
    "close",  # closes the connection instead of an answer
    "stall",  # reads the request and says nothing more
    "stall_in_body",  # sends half of the body and then nothing
    "close_in_body",  # sends half of the body and closes
    "short",  # announces and sends one byte less
    "other_range",  # announces another range
    "garbage",  # answers with something that is not HTTP
    "html",  # answers 200 with a page
    "corrupt",  # flips a byte and says the right digest
    "lie",  # flips a byte and says the digest of that
    "fill",  # takes a while, sends 102 meanwhile, and says that it came from the origin
]


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a block, as faults and tests see it."""

    file_version: FileVersionId
    index: int
    only_cached: bool
    from_peers: bool = False


def no_fault(_: Request) -> Fault | CacheFSError | None:
    """Behave."""
    return None


@dataclass
class MemoryWorker:
    """Serves files from memory until closed. Each attribute may be changed while it runs."""

    name: str
    token: str
    block_size: int
    contents: Mapping[FileVersionId, bytes]
    missing: set[tuple[FileVersionId, int]] = field(default_factory=set)
    """Blocks it does not hold: it fills them, unless only what is cached is wanted."""
    fault: Callable[[Request], Fault | CacheFSError | None] = no_fault
    view: View = EMPTY_VIEW
    versions: dict[str, ResolvedVersion] = field(default_factory=dict)
    """By dataset name; the key of the current version."""
    refers_to: str = ""
    """Another worker's name: that of the replica to which it refers those who may be."""
    digest_lists: bool = True
    """Whether it knows digests of blocks that it is asked for."""
    fill_seconds: float = 0.0
    progress_seconds: float = 0.1
    requests: list[Request] = field(default_factory=list)
    """All requests for blocks so far."""

    def __post_init__(self) -> None:
        """Listen, and serve in threads."""
        self._digester = digests.digester("xxh3-128")
        self._closed = threading.Event()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    @property
    def member(self) -> Member:
        """What a view says of it."""
        return Member(
            worker=WorkerId(self.name),
            incarnation=self.address,
            node=f"node-of-{self.name}",
            zone=f"zone-of-{self.name}",
            pool="default",
            weight=1.0,
            data_address=self.address,
            control_address="127.0.0.1:1",
            socket_path="/nonexistent",
        )

    def drop_connections(self) -> None:
        """Close all connections, as idle ones are closed."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop at once, as a killed process does; idempotent."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(5)

    def _start(self, body: Callable[[], None]) -> None:
        thread = threading.Thread(target=body, name=f"memory-worker-{self.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(connection)
            self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]  # a default binds it now

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            stream = connection.makefile("rb")
            while (line := stream.readline()) and not self._closed.is_set():
                headers: dict[str, str] = {}
                while (header := stream.readline().strip()) != b"":
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                if not self._answer(connection, line.decode("latin-1").split(" ")[1], headers):
                    break
        self._connections.discard(connection)

    def _answer(self, connection: socket.socket, target: str, headers: dict[str, str]) -> bool:
        """Answer a request; ``False`` if the connection shall be closed."""
        try:
            if headers.get("authorization") != f"Bearer {self.token}":
                raise DeniedError("the token is wrong")
            if target.startswith("/v1/files/"):
                return self._answer_block(connection, target, headers)
            body = self._document(target)
        except CacheFSError as error:
            _send_failure(connection, error)
        else:
            _send(connection, "200 OK", {}, body)
        return True

    def _document(self, target: str) -> bytes:
        split = urlsplit(target)
        kind, _, name = split.path.removeprefix("/v1/").partition("/")
        asked = parse_qs(split.query).get("dataset", [""])[0]
        if kind == "view":
            return encode_view(self.view)
        if kind == "versions":
            if asked not in self.versions:
                raise NotKnownError("no such dataset", subject=asked)
            return encode_version(self.versions[asked])
        if kind == "manifests":
            # As a reading token needs it: in the name of a dataset whose version it is.
            version = self.versions.get(asked)
            if version is not None and version.manifest.id == name:
                return version.manifest.encoded
        if kind == "digests" and self.digest_lists and name in self.contents:
            content = self.contents[FileVersionId(name)]
            count = block_count(len(content), self.block_size)
            return b"".join(self._digester(self._block(content, index)) for index in range(count))
        raise NotKnownError("no such thing", subject=target)

    def _block(self, content: bytes, index: int) -> bytes:
        where = block_range(index, len(content), self.block_size)
        return content[where.offset : where.end]

    def _answer_block(
        self, connection: socket.socket, target: str, headers: dict[str, str]
    ) -> bool:
        file_version = FileVersionId(urlsplit(target).path.removeprefix("/v1/files/"))
        first = int(headers["range"].removeprefix("bytes=").partition("-")[0])
        index = first // self.block_size
        directives = headers.get("cache-control", "")
        only_cached, from_peers = ONLY_CACHED in directives, FROM_PEERS in directives
        request = Request(file_version, index, only_cached, from_peers)
        self.requests.append(request)
        if self.refers_to and ZONE_HEADER.lower() in headers:
            _send(connection, "307 Temporary Redirect", {REPLICA_HEADER: self.refers_to}, b"")
            return True
        fault = self.fault(request)
        if isinstance(fault, CacheFSError):
            raise fault
        missing = (file_version, index) in self.missing or fault == "fill"
        if missing and (only_cached or from_peers):
            _send(connection, "504 Gateway Timeout", {}, b"")
            return True
        if missing:
            self._wait_as_for_a_fill(connection)
            self.missing.discard((file_version, index))
        content = self.contents[file_version]
        return self._send_block(
            connection,
            first,
            len(content),
            self._block(content, index),
            fault,
            source="origin" if missing else "memory",
        )

    def _wait_as_for_a_fill(self, connection: socket.socket) -> None:
        left = self.fill_seconds
        while left > 0 and not self._closed.wait(min(left, self.progress_seconds)):
            left -= self.progress_seconds
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")

    def _send_block(
        self,
        connection: socket.socket,
        first: int,
        size: int,
        block: bytes,
        fault: str | None,
        *,
        source: str,
    ) -> bool:
        if fault == "close":
            return False
        if fault == "stall":
            self._closed.wait()
            return False
        if fault == "garbage":
            connection.sendall(b"\x16\x03\x01 this is not HTTP at all\r\n\r\n")
            return False
        if fault == "html":
            _send(connection, "200 OK", {"Content-Type": "text/html"}, b"<html>log in</html>")
            return True
        digest = self._digester(block)
        if fault in {"corrupt", "lie"}:
            block = bytes([block[0] ^ 1]) + block[1:]
        if fault == "lie":
            digest = self._digester(block)
        if fault == "short":
            block = block[:-1]
        start = first + 1 if fault == "other_range" else first
        headers = {
            "Content-Range": f"bytes {start}-{start + len(block) - 1}/{size}",
            DIGESTS_HEADER: digest.hex(),
            SOURCE_HEADER: source,
        }
        if fault in {"close_in_body", "stall_in_body"}:
            half = len(block) // 2
            _send(connection, "206 Partial Content", headers, block, send=half)
            if fault == "stall_in_body":
                self._closed.wait()
            return False
        _send(connection, "206 Partial Content", headers, block)
        return True


def _send_failure(connection: socket.socket, error: CacheFSError) -> None:
    status = f"{failures.http_status(error)} Failure"
    _send(connection, status, {"Content-Type": "application/json"}, failures.encode(error))


def _send(
    connection: socket.socket,
    status: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    send: int | None = None,
) -> None:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall(
        "\r\n".join([*lines, "", ""]).encode() + body[: len(body) if send is None else send]
    )
