"""Blocks from workers, over the HTTP/1.1 data plane.

A body is received straight into the caller's buffer, and only after its head has said exactly what was
asked for: the status, the range, the length and the digest. Everything else, from a refused connection
to a worker that answers with a web page, is a ``WorkerUnavailableError``, which means "ask the next
one". A pooled connection that the worker closed while it was idle is replaced once, without a word, as
long as no byte of an answer has come.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

from cachefs.config.secrets import Secret
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    DeadlineError,
    DeniedError,
    OriginError,
    WorkerUnavailableError,
)
from cachefs.ports import BlockRequest, CancelToken, FetchedBlock, FileRef, Referral, Runtime
from cachefs.transport.connections import (
    BrokenAnswerError,
    Connection,
    ConnectionPool,
    Head,
    Patience,
)
from cachefs.wire import failures
from cachefs.wire.http import (
    DIGESTS_HEADER,
    FROM_PEERS,
    ONLY_CACHED,
    REPLICA_HEADER,
    SOURCE_HEADER,
    VERIFY,
    ZONE_HEADER,
    file_target,
)

_IDLE_LIMIT = 16
"""Idle connections kept for each worker that blocks are fetched from."""
_IDLE_SECONDS = 30.0
"""For how long; less than the workers' own ``idle_seconds``."""
PROOF_STALL_SECONDS = 2.5
"""A worker that is silent for so long is not proving. Less than a reader's patience, who waits for
one worker that waits for another."""
_PASSED_ON = (OriginError, CapacityError, DeniedError)
"""What a worker may say that is about the block and not about the worker."""
_BYTES = frozenset({200, 206})
"""How it answers with what was asked for."""


Answer = TypeVar("Answer")


class _Question(NamedTuple, Generic[Answer]):
    address: str
    head: bytes
    take: Callable[[Connection, Head], Answer]
    """Makes of a successful answer what was asked for, receiving its body."""
    on_wait: Callable[[str], None] | None = None
    statuses: frozenset[int] = _BYTES
    """Of successful answers."""


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

    def fetch(self, member: Member, request: BlockRequest) -> FetchedBlock | Referral | None:
        """Read one whole block from a worker; see the port."""
        first = request.index * self._block_size
        last = first + len(request.into) - 1
        directives = [ONLY_CACHED] * request.only_cached + [VERIFY] * request.verify
        directives += [FROM_PEERS] * request.from_peers
        headers = f"Range: bytes={first}-{last}\r\n"
        if request.zone is not None:
            headers += f"{ZONE_HEADER}: {request.zone}\r\n"
        target = file_target(request.file, unproven=self._unproven)
        head = self._head(member, target, directives, headers)
        content_range = f"bytes {first}-{last}/{request.file.entry.size}"

        def take(connection: Connection, answer: Head) -> FetchedBlock | Referral:
            if answer.status == 307:
                connection.read_body(answer)
                return Referral(WorkerId(answer.headers.get(REPLICA_HEADER.lower(), "")))
            fetched = _described(answer, content_range, request.into)
            connection.read_into(request.into)
            return fetched

        patience = Patience(request.deadline, self._stall_seconds)
        statuses = _BYTES if request.zone is None else _BYTES | {307}
        question = _Question(member.data_address, head, take, statuses=statuses)
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
            if head.status in question.statuses:
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
