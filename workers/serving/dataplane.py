"""Serving: the worker's data plane, HTTP/1.1 as :mod:`cachefs.wire.http` describes it.

One thread per connection reads a request, decides, and answers; the decisions are made per request,
the bytes move per block. The token is looked at before anything else of a request.

A range is answered in this order: obtain its first block (while a fill is waited for, ``102
Processing`` says that we are alive), send the head, then send block after block. So a failure of the
first block is an answer with a reason, and a later one closes the connection, which no reader can
take for the end of the body. When the range is whole blocks, and not too many, all of them are
obtained first, because their digests go into the head. Who asks for one block of which a crowd is being
sent may be referred to another worker (:mod:`.spreading`).
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

from cachefs.config.reading import reading_door
from cachefs.config.schema import ClusterConfig, WorkerConfig
from cachefs.config.secrets import Secret
from cachefs.core.blocks import FileVersionId, Range, block_count, blocks_of
from cachefs.core.manifest import VersionId
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName
from cachefs.errors import (
    CacheFSError,
    ClusterError,
    ConfigError,
    CoordinatorUnavailableError,
    DeniedError,
    NotKnownError,
)
from cachefs.ports import FileRef, Runtime
from cachefs.transport.serving.answering import answer_requests
from cachefs.transport.serving.conversation import Conversation
from cachefs.transport.serving.listening import Guest
from cachefs.transport.serving.requests import (
    Request,
    UnsatisfiableRangeError,
    parse_range,
)
from cachefs.wire import digests, failures
from cachefs.wire.http import (
    DIGESTS_HEADER,
    EPOCH_HEADER,
    FROM_PEERS,
    ONLY_CACHED,
    PROGRESS_HEADER,
    REPLICA_HEADER,
    SOURCE_HEADER,
    VERIFY,
    ZONE_HEADER,
    encode_version,
    encode_view,
    file_target,
)
from cachefs.workers.filling.accounts import ByteAccounts
from cachefs.workers.filling.filler import Filler
from cachefs.workers.filling.fills import ObtainedBlock
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.proving.asking import PROOF_SECONDS
from cachefs.workers.proving.prover import Prover
from cachefs.workers.reporting.traffic import Sending
from cachefs.workers.serving.spreading import Spreading
from cachefs.workers.uses import Uses

DIGESTS_LIMIT = 16
"""Blocks of one answer that are obtained before its head is sent."""
METADATA_SECONDS = 5.0
"""Longest wait for the coordinator's answer to a request for metadata."""
PATIENCE_SECONDS = 5.0
"""On top of a fill's own limit, for its place in the queue."""

_FILE_VERSION = re.compile(r"[0-9a-f]{40}", re.ASCII)
_REASONS = {
    200: "OK",
    206: "Partial Content",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    416: "Range Not Satisfiable",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}
_JSON = "application/json"
_BYTES = "application/octet-stream"

_log = logging.getLogger("cachefs.worker")


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer that is ready whole."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()


class DataPlane:
    """Answers requests; :meth:`serve` is called by a listener, once for each connection."""

    def __init__(
        self,
        runtime: Runtime,
        filler: Filler,
        prover: Prover,
        knowledge: Knowledge,
        *,
        spreading: Spreading,
        token: Secret,
        cluster: ClusterConfig,
        config: WorkerConfig,
        exposition: Callable[[], bytes],
        own_digests: Callable[[FileRef], list[bytes | None]],
        uses: Uses,
    ) -> None:
        """Serve what the filler obtains and what is known.

        Args:
            runtime: For its clock.
            filler: Obtains blocks for workers that prove.
            prover: Obtains blocks for everybody else.
            knowledge: Answers requests for metadata.
            spreading: Says whom a crowd is referred to.
            token: The cluster's.
            cluster: Says how large a block and its digest are.
            config: Says how long a connection may be idle.
            exposition: Returns the text of ``/metrics``.
            own_digests: Returns the digests of a file's blocks that are resident here.
            uses: What readers read is noted there.
        """
        self._runtime = runtime
        self._filler = filler
        self._prover = prover
        self._knowledge = knowledge
        self._spreading = spreading
        self._token = token
        self._reads = reading_door(token)
        self._block_size = cluster.block_size
        self._digest_size = digests.digest_size(cluster.digest)
        self._idle_seconds = config.idle_seconds
        self._fill_seconds = config.fill.fill_seconds + PATIENCE_SECONDS
        self._exposition = exposition
        self._own_digests = own_digests
        self._uses = uses
        self.served = ByteAccounts("memory", "disk", "peer", "origin")
        """Bytes sent, by where they were."""
        self.sending = Sending()
        """The blocks that are being sent."""
        self._routes: dict[str, Callable[[Request, str], _Answer]] = {
            "view": self._answer_view,
            "versions": self._answer_version,
            "manifests": self._answer_manifest,
            "digests": self._answer_digests,
        }
        self._lock = threading.Lock()
        self._requests = 0

    def serve(self, guest: Guest) -> None:
        """Answer requests until the other side leaves, is idle for too long, or makes no sense."""
        conversation = Conversation(self._runtime, guest.socket)
        last = Request("GET", "", keep_alive=False)
        answer_requests(
            self._runtime,
            guest,
            conversation,
            idle_seconds=self._idle_seconds,
            respond=lambda request: self._respond(conversation, request) and request.keep_alive,
            refuse=lambda error: self._send(conversation, _failure(error), last),
        )

    def _respond(self, conversation: Conversation, request: Request) -> bool:
        """Answer one request; return whether the connection can go on."""
        with self._lock:
            self._requests += 1
        try:
            if request.path == "/healthz":
                answer = _Answer(200, b"ok\n", "text/plain")
            else:
                self._check_token(request)
                if request.path.startswith("/v1/files/"):
                    return self._respond_bytes(conversation, request)
                if request.path.startswith("/v1/proofs/") and request.method == "GET":
                    answer = self._answer_proof(conversation, request)
                else:
                    answer = self._answer(request)
        except CacheFSError as error:
            answer = _failure(error)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - the boundary of a request
            _log.exception("a request failed in an unexpected way")
            answer = _failure(ClusterError("the worker failed; its log says why"))
        self._send(conversation, answer, request)
        return True

    def _check_token(self, request: Request) -> None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if self._token.matches(value.strip()):
                return
            query = {name: (each,) for name, each in request.query.items()}
            if self._reads(request.method, request.path, query, value.strip()):
                return
        raise DeniedError("the token is missing or wrong")

    def _answer(self, request: Request) -> _Answer:
        if request.method not in ("GET", "HEAD"):
            body = failures.encode(ConfigError("only GET and HEAD are understood"))
            return _Answer(405, body, headers=(("Allow", "GET, HEAD"),))
        if request.path == "/metrics":
            return _Answer(200, self._exposition(), "text/plain; version=0.0.4; charset=utf-8")
        _, _, kind, *names = [*request.path.split("/", 3), ""][:4]
        route = self._routes.get(kind) if request.path.startswith("/v1/") else None
        if route is None:
            raise NotKnownError("no such path")
        return route(request, "".join(names))

    def _answer_view(self, _request: Request, _name: str) -> _Answer:
        view = self._knowledge.view(deadline=0.0)
        if not view.members:
            raise CoordinatorUnavailableError("this worker has not seen a coordinator yet")
        return _Answer(200, encode_view(view))

    def _answer_version(self, request: Request, _name: str) -> _Answer:
        resolved = self._knowledge.resolve_here(
            DatasetName.parse(request.query.get("dataset", "")),
            request.query.get("version") or None,
            deadline=self._runtime.monotonic() + METADATA_SECONDS,
        )
        return _Answer(200, encode_version(resolved))

    def _answer_manifest(self, request: Request, name: str) -> _Answer:
        asked = request.query.get("dataset")
        dataset = None if asked is None else DatasetName.parse(asked)
        return _Answer(200, self._knowledge.manifest(VersionId(name), dataset).encoded, _BYTES)

    def _answer_digests(self, request: Request, name: str) -> _Answer:
        if "dataset" in request.query:
            file = self._file(request, name)
        else:
            known_file = self._knowledge.known_file(FileVersionId(name))
            if known_file is None:
                raise NotKnownError("no such file version here", subject=name[:40])
            file = known_file
        try:
            deadline = self._runtime.monotonic() + METADATA_SECONDS
            known = self._knowledge.digests(file, deadline=deadline)
        except CoordinatorUnavailableError:
            known = ()
        if not known or not all(known):
            own = self._own_digests(file)
            count = block_count(file.entry.size, self._block_size)
            known = [
                (known[at] if at < len(known) else None) or (own[at] if at < len(own) else None)
                for at in range(count)
            ]
        return _Answer(200, digests.pack(known, self._digest_size), _BYTES)

    def _file(self, request: Request, name: str) -> FileRef:
        if not _FILE_VERSION.fullmatch(name):
            raise NotKnownError("not a file version")
        return self._knowledge.file(
            DatasetName.parse(request.query.get("dataset", "")),
            VersionId(request.query.get("version", "")),
            FileVersionId(name),
            deadline=self._runtime.monotonic() + METADATA_SECONDS,
        )

    def _respond_bytes(self, conversation: Conversation, request: Request) -> bool:
        if request.method not in ("GET", "HEAD"):
            self._send(conversation, self._answer(request), request)
            return True
        file = self._file(request, request.path.removeprefix("/v1/files/"))
        size = file.entry.size
        base: tuple[tuple[str, str], ...] = (
            ("Accept-Ranges", "bytes"),
            ("ETag", f'"{file.entry.file_version}"'),
        )
        if request.method == "HEAD":
            head = self._head(200, (*base, ("Content-Type", _BYTES)), size, request)
            conversation.send(head)
            return True
        try:
            asked = parse_range(request.headers.get("range"), size)
        except UnsatisfiableRangeError as error:
            headers = (("Content-Range", f"bytes */{size}"),)
            answer = _Answer(416, failures.encode(ConfigError(error.message)), headers=headers)
            self._send(conversation, answer, request)
            return True
        wanted = asked or Range(0, size)
        if asked is not None:
            base += (("Content-Range", f"bytes {asked.offset}-{asked.end - 1}/{size}"),)
        index = wanted.offset // self._block_size
        if not wanted.length or wanted.end > (index + 1) * self._block_size:
            return self._respond_range(conversation, request, file, wanted, base)
        zone = request.headers.get(ZONE_HEADER.lower())
        replica = self._spreading.refer(file, index, zone) if zone is not None else None
        if replica is not None:
            self._uses.note(file.dataset)
            self._send(conversation, _referral(replica, file), request)
            return True
        with self._spreading.sending(file, index):
            return self._respond_range(conversation, request, file, wanted, base)

    def _respond_range(
        self,
        conversation: Conversation,
        request: Request,
        file: FileRef,
        wanted: Range,
        headers: tuple[tuple[str, str], ...],
    ) -> bool:
        status = 206 if any(name == "Content-Range" for name, _ in headers) else 200
        directives = request.headers.get("cache-control", "").lower()
        only_cached, verify = ONLY_CACHED in directives, VERIFY in directives
        from_peers = FROM_PEERS in directives
        if from_peers and not self._spreading.welcomes(file, wanted.offset // self._block_size):
            only_cached = True
        unproven = "unproven" in request.query
        if not unproven:  # other workers take unproven blocks, too; what they ask for is no use
            self._uses.note(file.dataset)
        if not unproven and not only_cached and self._prover.is_needed(file):
            self._prover.proof(
                file,
                deadline=self._runtime.monotonic() + PROOF_SECONDS,
                on_wait=lambda: self._show_progress(conversation, file),
            )
        obtain = self._filler.obtain if unproven else self._prover.obtain
        blocks = blocks_of(wanted, self._block_size)
        eager = DIGESTS_LIMIT if self._is_whole_blocks(wanted, file.entry.size) else 1
        with ExitStack() as stack:
            ready: list[tuple[ObtainedBlock, Range]] = []
            for index, part in islice(blocks, eager):
                block = obtain(
                    file,
                    index,
                    only_cached=only_cached,
                    from_peers=from_peers,
                    verify=verify,
                    deadline=self._runtime.monotonic() + self._fill_seconds,
                    on_wait=lambda: self._show_progress(conversation, file),
                )
                if block is None:
                    answer = _Answer(504, b"not cached\n", "text/plain")
                    self._send(conversation, answer, request)
                    return True
                ready.append((stack.enter_context(block), part))
            covered = sum(part.length for _, part in ready)
            if ready:
                headers += ((SOURCE_HEADER, ready[0][0].source),)
            if eager > 1 and covered == wanted.length and ready:
                known = ",".join(block.digest.hex() for block, _ in ready)
                headers += ((DIGESTS_HEADER, known),)
            headers += (("Content-Type", _BYTES),)
            conversation.send(
                self._head(status, headers, wanted.length, request), more=wanted.length > 0
            )
            for block, part in ready:
                self._send_block(conversation, file, block, part)
        only_cached = only_cached or from_peers
        return self._send_rest(conversation, file, blocks, obtain, only_cached=only_cached)

    def _send_rest(
        self,
        conversation: Conversation,
        file: FileRef,
        blocks: Iterator[tuple[int, Range]],
        obtain: Callable[..., ObtainedBlock | None],
        *,
        only_cached: bool,
    ) -> bool:
        """Send the blocks after the head; return whether the whole body was sent."""
        for index, part in blocks:
            deadline = self._runtime.monotonic() + self._fill_seconds
            try:
                block = obtain(file, index, only_cached=only_cached, deadline=deadline)
            except CacheFSError as error:
                _log.warning("a body was cut short", extra={"failure": str(error)})
                return False
            if block is None:
                return False
            with block:
                self._send_block(conversation, file, block, part)
        return True

    def _is_whole_blocks(self, wanted: Range, size: int) -> bool:
        ends_whole = wanted.end % self._block_size == 0 or wanted.end == size
        return wanted.offset % self._block_size == 0 and ends_whole

    def _answer_proof(self, conversation: Conversation, request: Request) -> _Answer:
        """Answer another worker with a proof made here: asking a third one could go on for ever."""
        file = self._file(request, request.path.removeprefix("/v1/proofs/"))
        if not self._prover.is_needed(file):
            raise NotKnownError("there is no digest to prove the file by", subject=file.entry.path)
        if ONLY_CACHED in request.headers.get("cache-control", "").lower():
            proof = self._prover.known(file)
        else:
            proof = self._prover.prove(
                file,
                deadline=self._runtime.monotonic() + PROOF_SECONDS,
                on_wait=lambda: self._show_progress(conversation, file),
            )
        if proof is None:
            return _Answer(504, b"not proven\n", "text/plain")
        return _Answer(200, digests.pack(proof, self._digest_size), _BYTES)

    def _show_progress(self, conversation: Conversation, file: FileRef) -> None:
        """Say that we are alive, and what is being done for the file."""
        progress = self._prover.progress(file).encode("ascii", "backslashreplace").decode()
        header = f"{PROGRESS_HEADER}: {progress}\r\n" if progress else ""
        conversation.send(f"HTTP/1.1 102 Processing\r\n{header}\r\n".encode())

    def _send_block(
        self, conversation: Conversation, file: FileRef, block: ObtainedBlock, part: Range
    ) -> None:
        with self.sending.of(block.source):
            if block.held is not None:
                conversation.send_file(block.held.file.fileno(), part.offset, part.length)
            else:
                start = part.offset % self._block_size
                conversation.send(block.view()[start : start + part.length])
        self.served.add(file.entry.file_version, block.source, part.length)

    def _send(self, conversation: Conversation, answer: _Answer, request: Request) -> None:
        headers = (*answer.headers, ("Content-Type", answer.content_type))
        head = self._head(answer.status, headers, len(answer.body), request)
        conversation.send(head if request.method == "HEAD" else head + answer.body)

    def _head(
        self, status: int, headers: tuple[tuple[str, str], ...], length: int, request: Request
    ) -> bytes:
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines.append(f"Content-Length: {length}")
        lines.append(f"{EPOCH_HEADER}: {self._knowledge.view(deadline=0.0).epoch}")
        if not request.keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _referral(replica: Member, file: FileRef) -> _Answer:
    location = f"http://{replica.data_address}{file_target(file)}"
    headers = ((REPLICA_HEADER, replica.worker), ("Location", location))
    return _Answer(307, b"", "text/plain", headers)


def _failure(error: CacheFSError) -> _Answer:
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, DeniedError):
        headers = (("WWW-Authenticate", "Bearer"),)
    return _Answer(failures.http_status(error), failures.encode(error), headers=headers)
