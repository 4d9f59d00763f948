"""What a reader must know before it asks for bytes: from the coordinator, or else from workers.

When the coordinator is down, the workers of the last view are asked. What cannot change is kept:
manifests by their id, digests of files that are known whole. When nobody answers, ``resolve`` falls
back to the answer it had last: an old version is right bytes, and that is what "reads go on while the
coordinator is down" promises.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from urllib.parse import urlencode

from cachefs.config.secrets import Secret
from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.membership import EMPTY_VIEW, View
from cachefs.core.names import DatasetName
from cachefs.errors import (
    CacheFSError,
    CoordinatorUnavailableError,
    DeniedError,
    IntegrityError,
    NotKnownError,
)
from cachefs.ports import CancelToken, FileRef, ResolvedVersion, Runtime
from cachefs.transport.connections import (
    Connection,
    ConnectionPool,
    Patience,
)
from cachefs.wire import digests, failures
from cachefs.wire.http import (
    VersionHead,
    decode_version,
    decode_view,
)

_MANIFESTS_LIMIT = 16
"""A manifest of 100,000 files takes some 50 MB as objects."""
_HEADS_LIMIT = 4096
"""Answers kept for when nobody answers: each is one of a version, by its id or as it was asked for."""
_DIGEST_LISTS_LIMIT = 4096
_IDLE_LIMIT = 2
"""Idle connections kept for each process."""
_IDLE_SECONDS = 30.0
"""For how long; less than the others' own ``idle_seconds``."""


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
            token: The cluster's, or one that reads the datasets that are asked for.
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
        self._pool = ConnectionPool(runtime, idle_limit=_IDLE_LIMIT, idle_seconds=_IDLE_SECONDS)
        self._lock = threading.Lock()
        self._view = EMPTY_VIEW
        self._coordinator_down_until = 0.0
        self._manifests: OrderedDict[VersionId, Manifest] = OrderedDict()
        self._heads: OrderedDict[tuple[DatasetName, str], VersionHead] = OrderedDict()
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
        manifest = self._manifest(head, deadline)
        with self._lock:
            for key in (asked, (name, head.version)):
                self._heads[key] = head
                self._heads.move_to_end(key)
            while len(self._heads) > _HEADS_LIMIT:
                self._heads.popitem(last=False)
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

    def _manifest(self, head: VersionHead, deadline: float) -> Manifest:
        version = head.version
        query = urlencode({"dataset": str(head.dataset)})
        with self._lock:
            if version in self._manifests:
                self._manifests.move_to_end(version)
                return self._manifests[version]
        for _, answer in self._answers(f"/v1/manifests/{version}?{query}", deadline):
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
