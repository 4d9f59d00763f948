"""Handout: descriptors for processes on this node, over the Unix socket of :mod:`cachefs.wire.local`.

One thread per connection answers its requests in order. Whatever is lent out belongs to the
connection: when it ends, however it ends, its leases end with it, so a reader that crashed keeps
nothing from being evicted; what others still have open through it, the store asks the kernel. The
descriptor that is sent is opened anew for reading, because the tier's
own may write.

The socket is in a folder that only its owner may enter, and is itself closed to others; the token is
asked for all the same, since a token can be changed and an open door cannot.
"""

import contextlib
import hashlib
import logging
import os
import resource
import socket
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cachefs.config.schema import ClusterConfig
from cachefs.config.secrets import Secret
from cachefs.core.blocks import FileVersionId, block_count
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ClusterError,
    ConfigError,
    DeniedError,
    NotKnownError,
)
from cachefs.ports import BlockStore, DiskFile, FileLease, FileRef, Runtime
from cachefs.transport.serving.listening import Guest
from cachefs.wire import digests, failures, local
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.proving.prover import Prover
from cachefs.workers.uses import Uses

SOCKET_PATH_BYTES_MAX = 107
"""``sun_path`` of Linux less its closing NUL."""
HELLO_SECONDS = 10.0
"""Who connects must say who it is within it; and a message, once begun, must come whole."""
METADATA_SECONDS = 5.0
"""Longest wait to learn which file a request means."""
LEASES_LIMIT = 4096
"""Leases of one connection."""
_LENT_SHARE = 2
"""Of the descriptors that the process may have, one in so many may be lent out. Each lease keeps a file
open, and connections must have descriptors too: who is refused here comes over one of those."""

_log = logging.getLogger("cachefs.worker")

_Reply = tuple[dict[str, Any], int | None]
"""An answer, with the descriptor to send with it."""


class _Lent:
    """A lease and what it is of."""

    def __init__(self, file: FileRef, lease: FileLease) -> None:
        self.file = file
        self.lease = lease


class Handout:
    """Lends out descriptors; :meth:`serve` is called by a listener, once for each connection."""

    def __init__(
        self,
        runtime: Runtime,
        store: BlockStore,
        prover: Prover,
        knowledge: Knowledge,
        *,
        token: Secret,
        cluster: ClusterConfig,
        own: WorkerId,
        uses: Uses,
    ) -> None:
        """Lend out what the store has, filled and proven if need be."""
        self._uses = uses
        self._runtime = runtime
        self._store = store
        self._prover = prover
        self._knowledge = knowledge
        self._token = token
        self._block_size = cluster.block_size
        self._digest_size = digests.digest_size(cluster.digest)
        self._own = own
        self._lock = runtime.condition()
        self._leases = 0
        self._leases_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _LENT_SHARE

    @property
    def leases(self) -> int:
        """How many descriptors are lent out."""
        return self._leases

    def serve(self, guest: Guest) -> None:
        """Answer requests until the other side leaves."""
        connection = guest.socket
        _bound_waits(connection, HELLO_SECONDS)
        lent: dict[int, _Lent] = {}
        try:
            if not self._greet(connection):
                return
            guest.idle_since = None
            while (request := _receive(connection)) is not None:
                self._answer(connection, request, lent)
        finally:
            for each in lent.values():
                self._release(each)

    def _greet(self, connection: socket.socket) -> bool:
        request = _receive(connection, first_wait=False)
        if request is None:
            return False
        token = request.get("token")
        if request.get("op") != "hello" or not self._token.matches(str(token)):
            error = DeniedError("the token is missing or wrong")
            _send(connection, {"failure": failures.to_document(error)}, None)
            return False
        _send(connection, {"worker": self._own, "block_size": self._block_size}, None)
        return True

    def _answer(
        self, connection: socket.socket, request: dict[str, Any], lent: dict[int, _Lent]
    ) -> None:
        descriptor: int | None = None
        try:
            answer, descriptor = self._handle(connection, request, lent)
        except CacheFSError as error:
            answer = {"failure": failures.to_document(error)}
        try:
            _send(connection, answer, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _handle(
        self, connection: socket.socket, request: dict[str, Any], lent: dict[int, _Lent]
    ) -> _Reply:
        def fill(each: _Lent, request: dict[str, Any]) -> dict[str, Any]:
            return self._fill(connection, each, request)

        operations: dict[str, Callable[[_Lent, dict[str, Any]], dict[str, Any]]] = {
            "fill": fill,
            "check": self._check,
            "report": self._report,
        }
        op = request.get("op")
        if op == "open":
            return self._lend(request, lent, self._check)
        if op == "fill" and "lease" not in request:
            return self._lend(request, lent, fill)
        each = lent.get(_number(request, "lease"))
        if each is None:
            raise NotKnownError("no such lease on this connection")
        if op == "close":
            del lent[_number(request, "lease")]
            self._release(each)
            return {}, None
        operation = operations.get(str(op))
        if operation is None:
            raise ConfigError(f"no operation {str(op)[:20]!r}")
        return operation(each, request), None

    def _lend(
        self,
        request: dict[str, Any],
        lent: dict[int, _Lent],
        describe: Callable[[_Lent, dict[str, Any]], dict[str, Any]],
    ) -> _Reply:
        """Lend a file out, with what there is to be said of it."""
        if len(lent) >= LEASES_LIMIT:
            raise CapacityError("too many leases on one connection")
        if self._leases >= self._leases_limit:
            raise CapacityError(
                "too many files are lent out", hint="read it over the data plane; see `ulimit -n`"
            )
        file = self._knowledge.file(
            DatasetName.parse(str(request.get("dataset", ""))),
            VersionId(str(request.get("version", ""))),
            FileVersionId(str(request.get("file", ""))),
            deadline=self._runtime.monotonic() + METADATA_SECONDS,
        )
        each = _Lent(file, self._store.lease(file))
        with self._lock:
            self._leases += 1
        self._uses.begin(file.dataset)
        try:
            answer = describe(each, request)
            descriptor = self._reopen(each.lease.file)
        except OSError as error:
            self._release(each)
            if isinstance(error, CacheFSError):
                raise
            raise CapacityError("cannot open the file for a reader", hint=str(error)) from error
        except BaseException:
            self._release(each)
            raise
        number = max(lent, default=0) + 1
        lent[number] = each
        return {"lease": number, **answer}, descriptor

    def _reopen(self, file: DiskFile) -> int:
        return file.lend()

    def _check(self, each: _Lent, _request: dict[str, Any]) -> dict[str, Any]:
        # The stamp first: a block that is filled in between is then in the digests, and the reader
        # sees a stamp that differs and asks again.
        stamp = each.lease.stamp()
        # An unproven block is as good as not there: the reader comes for it over the data plane.
        vouched = self._prover.vouched(each.file, each.lease.digests())
        packed = digests.pack(vouched, self._digest_size)
        return {"stamp": stamp, "digests": packed.hex()}

    def _fill(
        self, connection: socket.socket, each: _Lent, request: dict[str, Any]
    ) -> dict[str, Any]:
        index = self._index(each, request)
        seconds = request.get("deadline_seconds")
        if not isinstance(seconds, int | float) or not 0 < seconds <= 3600:
            raise ConfigError("deadline_seconds must be a number of seconds up to an hour")
        deadline = self._runtime.monotonic() + seconds
        block = self._prover.obtain(
            each.file,
            index,
            only_cached=False,
            deadline=deadline,
            on_wait=lambda: _send(connection, {"waiting": self._prover.progress(each.file)}, None),
        )
        if block is None:
            raise ClusterError("the block was not filled")
        with block:
            if block.held is None:
                raise CapacityError(
                    "no tier has room for the block", hint="read it over the data plane"
                )
            if not each.lease.is_current:
                # The file was dropped meanwhile, and the block is in the one that came after it.
                raise CapacityError(
                    "the file was replaced while it was lent out", hint="open it again"
                )
            return {
                "digest": block.digest.hex(),
                "source": block.source,
                "stamp": each.lease.stamp(),
            }

    def _report(self, each: _Lent, request: dict[str, Any]) -> dict[str, Any]:
        index = self._index(each, request)
        bad = self._store.quarantine(each.file.entry.file_version, index)
        _log.warning("a reader reported a block", extra={"path": each.file.entry.path, "bad": bad})
        return {"stamp": each.lease.stamp()}

    def _index(self, each: _Lent, request: dict[str, Any]) -> int:
        index = _number(request, "index")
        if not 0 <= index < block_count(each.file.entry.size, self._block_size):
            raise ConfigError("no such block in the file")
        return index

    def _release(self, each: _Lent) -> None:
        each.lease.release()
        self._uses.end(each.file.dataset)
        with self._lock:
            self._leases -= 1


def _number(request: dict[str, Any], name: str) -> int:
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name} must be a whole number")
    return value


def _bound_waits(connection: socket.socket, seconds: float) -> None:
    """Let no single send or receive on a blocking socket take longer."""
    connection.setblocking(True)
    bound = struct.pack("@ll", int(seconds), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)


def _receive(connection: socket.socket, *, first_wait: bool = True) -> dict[str, Any] | None:
    """Return the next message; ``None`` when the other side has left."""
    header = b""
    while len(header) < local.HEADER.size:
        try:
            part = connection.recv(local.HEADER.size - len(header))
        except BlockingIOError:
            # A lease may last for days without a word; half a message may not.
            if header or not first_wait:
                raise
            continue
        if not part:
            return None
        header += part
    body = bytearray(local.decode_length(header))
    rest = memoryview(body)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            return None
        rest = rest[count:]
    return local.decode(bytes(body))


def _send(connection: socket.socket, message: dict[str, Any], descriptor: int | None) -> None:
    encoded = memoryview(local.encode(message))
    if descriptor is not None:
        sent = socket.send_fds(connection, [encoded], [descriptor])
        encoded = encoded[sent:]
    connection.sendall(encoded)


def open_socket(home: Path) -> tuple[socket.socket, Path]:
    """Listen on a Unix socket that only this user can reach; return it with its path.

    Args:
        home: A folder of the worker's own, below which the socket is, if the path is short enough.

    Raises:
        ConfigError: Its folder cannot be made, belongs to somebody else, or is open to others.
    """
    path = _make_socket_folder(home)
    status = path.parent.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise ConfigError("the socket's folder is not ours", subject=str(path.parent))
    path.parent.chmod(0o700)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigError("cannot listen", subject=str(path), hint=str(error)) from error
    return listening, path


def _make_socket_folder(home: Path) -> Path:
    """Make the folder of a socket; return the socket's path in it."""
    failure: OSError | None = None
    for path in _socket_paths(home):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:  # its disk is full, perhaps
            failure = error
        else:
            return path
    raise ConfigError(
        "the socket's folder cannot be made", subject=str(home), hint=str(failure)
    ) from failure


def _socket_paths(home: Path) -> Iterator[Path]:
    """Yield where a socket may be, the best place first."""
    path = home.absolute() / "socket" / "worker"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield path
    # A deep folder has a name too long for a socket; its digest is short.
    name = hashlib.blake2b(os.fsencode(home.absolute()), digest_size=8).hexdigest()
    yield Path(tempfile.gettempdir()) / f"cachefs-{os.geteuid()}-{name}" / "worker"
