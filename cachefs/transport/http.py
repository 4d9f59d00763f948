"""The reader's side of the HTTP/1.1 data plane: blocks from workers, metadata from anyone.

:class:`HttpBlockSource` moves blocks. A body is received straight into the caller's buffer, and only
after its head has said exactly what was asked for: the status, the range, the length and the digest.
Everything else, from a refused connection to a worker that answers with a web page, is a
``WorkerUnavailableError``, which means "ask the next one". A pooled connection that the worker closed
while it was idle is replaced once, without a word, as long as no byte of an answer has come.

:class:`HttpMetadata` asks the coordinator and, when that is down, the workers of the last view. What
cannot change is kept: manifests by their id, digests of files that are known whole. When nobody
answers, ``resolve`` falls back to the answer it had last: an old version is right bytes, and that is
what "reads go on while the coordinator is down" promises.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

from cachefs.config.secrets import Secret
from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.membership import EMPTY_VIEW, Member, View
from cachefs.core.names import DatasetName
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    CoordinatorUnavailableError,
    DeadlineError,
    DeniedError,
    IntegrityError,
    NotKnownError,
    OriginError,
    WorkerUnavailableError,
)
from cachefs.ports import BlockRequest, CancelToken, FetchedBlock, FileRef, ResolvedVersion, Runtime
from cachefs.transport.connections import (
    BrokenAnswerError,
    Connection,
    ConnectionPool,
    Head,
    Patience,
)
from cachefs.wire import digests, failures
from cachefs.wire.http import (
    DIGESTS_HEADER,
    ONLY_CACHED,
    SOURCE_HEADER,
    VERIFY,
    VersionHead,
    decode_version,
    decode_view,
    file_target,
)

_MANIFESTS_LIMIT = 16
"""A manifest of 100,000 files takes some 50 MB as objects."""
_DIGEST_LISTS_LIMIT = 4096
_IDLE_LIMIT = 16
"""Idle connections kept for each worker that blocks are fetched from."""
_IDLE_SECONDS = 30.0
"""For how long; less than the workers' own ``idle_seconds``."""
PROOF_STALL_SECONDS = 2.5
"""A worker that is silent for so long is not proving. Less than a reader's patience, who waits for
one worker that waits for another."""
_PASSED_ON = (OriginError, CapacityError, DeniedError)
"""What a worker may say that is about the block and not about the worker."""


Answer = TypeVar("Answer")


class _Question(NamedTuple, Generic[Answer]):
    address: str
    head: bytes
    take: Callable[[Connection, Head], Answer]
    """Makes of a successful answer what was asked for, receiving its body."""
    on_wait: Callable[[str], None] | None = None


class HttpBlockSource:
    """Implements :class:`cachefs.ports.ProofSource` over pooled connections."""

    def __init__(
        self,
        runtime: Runtime,
        token: Secret,
        *,
        block_size: int,
        stall_seconds: float = 5.0,
        unproven: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            runtime: For its clock.
            token: The cluster's.
            block_size: The cluster's, which says where a block lies in its file.
            stall_seconds: A worker that sends nothing for so long has stalled.
            unproven: Take blocks of files that were not proven yet; for workers only.
        """
        self._runtime = runtime
        self._block_size = block_size
        self._unproven = unproven
        self._stall_seconds = stall_seconds
        self._pool = ConnectionPool(runtime, idle_limit=_IDLE_LIMIT, idle_seconds=_IDLE_SECONDS)
        self._authorization = f"Authorization: Bearer {token.reveal()}\r\n"

    def fetch(self, member: Member, request: BlockRequest) -> FetchedBlock | None:
        """Read one whole block from a worker; see the port."""
        first = request.index * self._block_size
        last = first + len(request.into) - 1
        directives = [ONLY_CACHED] * request.only_cached + [VERIFY] * request.verify
        target = file_target(request.file, unproven=self._unproven)
        head = self._head(member, target, directives, f"Range: bytes={first}-{last}\r\n")
        content_range = f"bytes {first}-{last}/{request.file.entry.size}"

        def take(connection: Connection, answer: Head) -> FetchedBlock:
            fetched = _described(answer, content_range, request.into)
            connection.read_into(request.into)
            return fetched

        patience = Patience(request.deadline, self._stall_seconds)
        question = _Question(member.data_address, head, take)
        return self._ask(member, question, patience, request.cancel)

    def proof(
        self,
        member: Member,
        file: FileRef,
        *,
        only_cached: bool,
        deadline: float,
        on_wait: Callable[[str], None],
    ) -> bytes | None:
        """Return the packed digests of a proven file; see the port."""
        head = self._head(member, file_target(file, kind="proofs"), [ONLY_CACHED] * only_cached)
        patience = Patience(deadline, PROOF_STALL_SECONDS)
        question = _Question(member.data_address, head, Connection.read_body, on_wait)
        return self._ask(member, question, patience, CancelToken())

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    def _head(
        self, member: Member, target: str, directives: Sequence[str], headers: str = ""
    ) -> bytes:
        if directives:
            headers += f"Cache-Control: {', '.join(directives)}\r\n"
        return (
            f"GET {target} HTTP/1.1\r\nHost: {member.data_address}\r\n"
            f"{self._authorization}{headers}\r\n"
        ).encode()

    def _ask(
        self, member: Member, question: _Question[Answer], patience: Patience, cancel: CancelToken
    ) -> Answer | None:
        """Return the answer; ``None`` if it is that nothing is cached."""
        with _named_failures(member, cancel):
            pooled = self._pool.take(question.address, patience, cancel)
            if pooled is not None:
                try:
                    return self._converse(pooled, question)
                except ConnectionError:
                    # The worker may have closed it while it was idle. That shows before any byte of
                    # an answer, and then the request was not acted upon.
                    if pooled.received or cancel.cancelled:
                        raise
            connection = Connection(self._runtime, question.address, patience, cancel)
            return self._converse(connection, question)

    def _converse(self, connection: Connection, question: _Question[Answer]) -> Answer | None:
        answer = None
        failure = b""
        try:
            connection.send(question.head)
            head = connection.read_head(question.on_wait)
            if head.status in {200, 206}:
                answer = question.take(connection, head)
            else:
                failure = connection.read_body(head)
        except BaseException:
            connection.close()
            raise
        self._pool.give(question.address, connection)
        if answer is None:
            _raise_failure(head, failure)
        return answer


@contextmanager
def _named_failures(member: Member, cancel: CancelToken) -> Iterator[None]:
    """Make everything that a call to a worker may meet one of our errors."""
    try:
        yield
    except CacheFSError as error:
        if isinstance(error, (*_PASSED_ON, DeadlineError, WorkerUnavailableError)):
            raise
        raise WorkerUnavailableError(str(error), subject=member.worker) from error
    except OSError as error:
        reason = "cancelled" if cancel.cancelled else str(error) or type(error).__name__
        raise WorkerUnavailableError(reason, subject=member.worker) from error
    finally:
        cancel.on_cancel(None)


def _described(head: Head, asked: str, into: memoryview) -> FetchedBlock:
    """Check that a head announces exactly the block that was asked for."""
    whole = f"bytes 0-{len(into) - 1}/{len(into)}"
    answered = head.headers.get("content-range", "") if head.status == 206 else whole
    if answered != asked:
        raise BrokenAnswerError(f"asked for {asked}, answered {answered[:60]!r}")
    if head.length() != len(into):
        raise BrokenAnswerError(f"a body of {head.length()} bytes instead of {len(into)}")
    try:
        digest = bytes.fromhex(head.headers.get(DIGESTS_HEADER.lower(), ""))
    except ValueError:
        digest = b""
    if len(digest) not in (16, 32):
        raise BrokenAnswerError("a block without a usable digest")
    return FetchedBlock(digest, head.headers.get(SOURCE_HEADER.lower(), ""))


def _raise_failure(head: Head, body: bytes) -> None:
    """Raise the error that an answer carries; return if it only says that nothing is cached."""
    is_failure = head.headers.get("content-type", "").startswith("application/json")
    if head.status == 504 and not is_failure:
        return
    failure = failures.decode(body)
    if isinstance(failure, _PASSED_ON):
        raise failure
    # Among the rest is the worker's own DeadlineError, which is not about our deadline.
    raise WorkerUnavailableError(
        f"answered {head.status}: {failure.message}", subject=failure.subject, hint=failure.hint
    ) from failure


class HttpMetadata:
    """Implements :class:`cachefs.ports.Metadata`, from the coordinator or else from workers."""

    def __init__(
        self,
        runtime: Runtime,
        coordinator_address: str | None,
        token: Secret,
        *,
        workers: Sequence[str] = (),
        digest: str = "xxh3-128",
        timeout_seconds: float = 3.0,
    ) -> None:
        """Ask nobody yet.

        Args:
            runtime: For its clock and its randomness.
            coordinator_address: ``host:port`` of its HTTP API, if there is one.
            token: The cluster's.
            workers: Data addresses to begin with while no view is known.
            digest: The cluster's digest algorithm.
            timeout_seconds: Who does not answer within it is passed over.
        """
        self._runtime = runtime
        self._coordinator = coordinator_address
        self._workers = tuple(workers)
        self._digest_size = digests.digest_size(digest)
        self._timeout_seconds = timeout_seconds
        self._authorization = f"Authorization: Bearer {token.reveal()}\r\n"
        self._pool = ConnectionPool(runtime, idle_limit=2, idle_seconds=_IDLE_SECONDS)
        self._lock = threading.Lock()
        self._view = EMPTY_VIEW
        self._coordinator_down_until = 0.0
        self._manifests: OrderedDict[VersionId, Manifest] = OrderedDict()
        self._heads: dict[tuple[DatasetName, str], VersionHead] = {}
        self._digests: OrderedDict[str, list[bytes | None]] = OrderedDict()

    def view(self, *, deadline: float) -> View:
        """Return the newest view; one from a worker may not be older than the last."""
        for address, answer in self._answers("/v1/view", deadline):
            try:
                view = decode_view(answer)
            except (ValueError, KeyError, TypeError):
                continue
            with self._lock:
                if address == self._coordinator or view.epoch >= self._view.epoch:
                    self._view = view
                    self._workers = tuple(member.data_address for member in view.members)
                return self._view
        raise CoordinatorUnavailableError("nobody answered with a usable view")

    def resolve(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return a version with its manifest; the last known answer when nobody answers."""
        asked = (name, version or "")
        query = urlencode({"dataset": str(name), **({"version": version} if version else {})})
        try:
            head = self._head(f"/v1/versions?{query}", deadline)
        except CoordinatorUnavailableError:
            with self._lock:
                known = self._heads.get(asked)
            if known is None:
                raise
            head = known
        manifest = self._manifest(head.version, deadline)
        with self._lock:
            self._heads[asked] = head
            self._heads[name, head.version] = head
        return head.with_manifest(manifest)

    def digests(self, file: FileRef, *, deadline: float) -> Sequence[bytes | None]:
        """Return the known digest of each block; empty when nobody knows the file."""
        key = file.entry.file_version
        with self._lock:
            if key in self._digests:
                return self._digests[key]
        query = urlencode({"dataset": str(file.dataset), "version": file.version})
        try:
            answer = next(self._answers(f"/v1/digests/{key}?{query}", deadline))[1]
            known = digests.unpack(answer, self._digest_size)
        except (NotKnownError, IntegrityError):
            return []
        if known and all(known):
            with self._lock:
                self._digests[key] = known
                if len(self._digests) > _DIGEST_LISTS_LIMIT:
                    self._digests.popitem(last=False)
        return known

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    def _head(self, target: str, deadline: float) -> VersionHead:
        # The coordinator may list the origin first. Half of the time is left for the workers.
        patient = (deadline - self._runtime.monotonic()) / 2
        for _, answer in self._answers(target, deadline, timeout_seconds=patient):
            try:
                return decode_version(answer)
            except (ValueError, KeyError, TypeError):
                continue
        raise CoordinatorUnavailableError("nobody answered with a usable version")

    def _manifest(self, version: VersionId, deadline: float) -> Manifest:
        with self._lock:
            if version in self._manifests:
                self._manifests.move_to_end(version)
                return self._manifests[version]
        for _, answer in self._answers(f"/v1/manifests/{version}", deadline):
            try:
                manifest = Manifest.decode(answer, version)
            except IntegrityError:
                continue
            with self._lock:
                self._manifests[version] = manifest
                if len(self._manifests) > _MANIFESTS_LIMIT:
                    self._manifests.popitem(last=False)
            return manifest
        raise CoordinatorUnavailableError(
            "nobody answered with the right manifest", subject=version
        )

    def _answers(
        self, target: str, deadline: float, *, timeout_seconds: float = 0.0
    ) -> Iterator[tuple[str, bytes]]:
        """Yield usable answers, from one process after the other, until the caller has enough.

        Raises:
            CoordinatorUnavailableError: There was none; names whom it asked.
        """
        said: list[str] = []
        answered = False
        for address in self._addresses():
            now = self._runtime.monotonic()
            if now >= deadline:
                break
            timeout = max(timeout_seconds, self._timeout_seconds)
            patience = Patience(min(deadline, now + timeout), timeout)
            try:
                answer = self._get(address, target, patience)
            except DeniedError:
                raise
            except NotKnownError as error:
                if address == self._coordinator:
                    raise
                said.append(f"{address}: {error}")
            except (CacheFSError, OSError) as error:
                if address == self._coordinator:
                    self._coordinator_down_until = now + self._timeout_seconds
                said.append(f"{address}: {error or type(error).__name__}")
            else:
                answered = True
                yield address, answer
        if not answered:
            raise CoordinatorUnavailableError(
                "no coordinator answered, and no worker knows",
                subject=target.partition("?")[0],
                hint="; ".join(said) or "nobody to ask",
            )

    def _addresses(self) -> list[str]:
        """Return whom to ask, the coordinator first unless it failed a moment ago."""
        with self._lock:
            workers = list(self._workers)
        self._runtime.random.shuffle(workers)
        if self._coordinator is None:
            return workers
        if self._runtime.monotonic() < self._coordinator_down_until:
            return [*workers, self._coordinator]
        return [self._coordinator, *workers]

    def _get(self, address: str, target: str, patience: Patience) -> bytes:
        request = f"GET {target} HTTP/1.1\r\nHost: {address}\r\n{self._authorization}\r\n".encode()
        cancel = CancelToken()
        pooled = self._pool.take(address, patience, cancel)
        if pooled is not None:
            try:
                return self._converse(pooled, address, request)
            except ConnectionError:
                if pooled.received:
                    raise
        fresh = Connection(self._runtime, address, patience, cancel)
        return self._converse(fresh, address, request)

    def _converse(self, connection: Connection, address: str, request: bytes) -> bytes:
        try:
            connection.send(request)
            head = connection.read_head()
            body = connection.read_body(head)
        except BaseException:
            connection.close()
            raise
        self._pool.give(address, connection)
        if head.status != 200:
            raise failures.decode(body)
        return body
