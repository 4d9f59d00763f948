"""Decorators of origins: each is an origin itself, around another, and does one thing.

:class:`MeteredOrigin` counts; :class:`LimitedOrigin` holds back; :class:`FilteredOrigin` leaves
files out and checks names; :class:`RetryingOrigin` asks again. ``open_origin`` puts the first three
around every client, in this order from the outside. The fourth is for whoever lists: the fill of a
block counts its own attempts, because it asks peers in between.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cachefs.config.schema import OriginConfig
from cachefs.core.backoff import Backoff
from cachefs.core.datasets import OriginSpec
from cachefs.core.globs import Globs
from cachefs.core.manifest import FileEntry
from cachefs.core.names import parse_path
from cachefs.core.ratelimits import Pause, TokenBucket
from cachefs.errors import CacheFSError, ConfigError, OriginNotFoundError, OriginUnavailableError
from cachefs.ports import Origin, OriginFile, Runtime


class _Decorated:
    """Passes everything on."""

    def __init__(self, inner: Origin) -> None:
        self._inner = inner

    @property
    def client(self) -> str:
        """What moves the bytes."""
        return self._inner.client

    @property
    def reason(self) -> str:
        """Why this client was chosen."""
        return self._inner.reason

    def pin(self) -> OriginSpec:
        """Return the spec with anything that moves pinned down."""
        return self._inner.pin()

    def list_files(self) -> Iterator[OriginFile]:
        """Yield every file."""
        return self._inner.list_files()

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Return exactly the bytes of a range."""
        return self._inner.read_range(entry, offset, length, buffer)

    def close(self) -> None:
        """Release connections."""
        self._inner.close()


@dataclass(frozen=True, slots=True)
class OriginStatistics:
    """What was asked of an origin since it was opened."""

    client: str
    requests: int
    """Listings, pins and range reads; those that failed included."""
    bytes_read: int
    """Bytes of range reads that succeeded."""
    inflight: int
    """Requests that are not answered yet."""
    errors: dict[str, int] = field(default_factory=dict)
    """Failed requests by the name of the error's class."""


class MeteredOrigin(_Decorated):
    """Counts requests, bytes and errors."""

    def __init__(self, inner: Origin) -> None:
        """Begin at zero."""
        super().__init__(inner)
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes_read = 0
        self._inflight = 0
        self._errors: Counter[str] = Counter()

    def statistics(self) -> OriginStatistics:
        """Return the counts, all of the same moment."""
        with self._lock:
            return OriginStatistics(
                self.client, self._requests, self._bytes_read, self._inflight, dict(self._errors)
            )

    def pin(self) -> OriginSpec:
        """Pin, counted as a request."""
        with self._counted():
            return self._inner.pin()

    def list_files(self) -> Iterator[OriginFile]:
        """List, counted as a request however many pages it takes."""
        with self._counted():
            yield from self._inner.list_files()

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Read, counted."""
        with self._counted():
            data = self._inner.read_range(entry, offset, length, buffer)
        with self._lock:
            self._bytes_read += len(data)
        return data

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._requests += 1
            self._inflight += 1
        try:
            yield
        except CacheFSError as error:
            with self._lock:
                self._errors[type(error).__name__] += 1
            raise
        finally:
            with self._lock:
                self._inflight -= 1


class LimitedOrigin(_Decorated):
    """Keeps to the configured limits, and to what the origin asked for.

    Requests wait for a free slot, for their turn in the token buckets, and until a ``Retry-After``
    is over: whoever was told to wait, all wait. A request that would have to wait longer than a
    request may take fails at once instead, so that the caller can ask elsewhere meanwhile.
    """

    def __init__(self, inner: Origin, config: OriginConfig, runtime: Runtime) -> None:
        """Begin with full buckets."""
        super().__init__(inner)
        now = runtime.monotonic()
        self._config = config
        self._runtime = runtime
        self._changed = runtime.condition()
        self._free = config.requests_limit
        self._requests = TokenBucket(config.request_rate, now=now)
        self._bytes = TokenBucket(config.bytes_rate, now=now)
        self._pause = Pause()

    def pin(self) -> OriginSpec:
        """Pin, at the request rate."""
        with self._minded():
            self._wait_turn(0)
            return self._inner.pin()

    def list_files(self) -> Iterator[OriginFile]:
        """List, at the request rate, but without a slot: the consumer sets the pace of a listing."""
        with self._minded():
            self._wait_turn(0)
            yield from self._inner.list_files()

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Read when it is our turn."""
        deadline = self._runtime.monotonic() + self._config.deadline_seconds
        with self._minded(), self._slot(deadline):
            self._wait_turn(length)
            return self._inner.read_range(entry, offset, length, buffer)

    @contextmanager
    def _slot(self, deadline: float) -> Iterator[None]:
        with self._changed:
            while self._free == 0:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    raise OriginUnavailableError(
                        f"all {self._config.requests_limit} requests to this origin are in use",
                        hint="see origin.requests_limit",
                    )
                self._changed.wait(left)
            self._free -= 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _wait_turn(self, length: int) -> None:
        with self._changed:
            now = self._runtime.monotonic()
            paused = self._pause.remaining(now=now)
            if paused > self._config.timeout_seconds:
                raise OriginUnavailableError(
                    "the origin asked us to wait", retry_after_seconds=paused
                )
            wait = max(
                paused,
                self._requests.reserve(1, now=now),
                self._bytes.reserve(length, now=now),
            )
            if wait > self._config.deadline_seconds:
                self._requests.give_back(1, now=now)
                self._bytes.give_back(length, now=now)
                raise OriginUnavailableError(
                    "the configured rate to this origin is used up",
                    hint="see origin.request_rate and origin.bytes_rate",
                    retry_after_seconds=wait,
                )
        if wait > 0:
            self._runtime.sleep(wait)

    @contextmanager
    def _minded(self) -> Iterator[None]:
        """Pause for everybody when the origin asks one of us to wait."""
        try:
            yield
        except OriginUnavailableError as error:
            if error.retry_after_seconds is not None:
                with self._changed:
                    self._pause.extend(error.retry_after_seconds, now=self._runtime.monotonic())
            raise


class FilteredOrigin(_Decorated):
    """Leaves out what the globs do not select, and refuses names that no dataset can hold."""

    def __init__(self, inner: Origin, globs: Globs) -> None:
        """Keep the globs."""
        super().__init__(inner)
        self._globs = globs

    def list_files(self) -> Iterator[OriginFile]:
        """Yield the selected files.

        Raises:
            ConfigError: A selected file has a name that is not legal.
            OriginNotFoundError: There are files, but none is selected.
        """
        seen = selected = 0
        for file in self._inner.list_files():
            seen += 1
            if not self._globs.select(file.path):
                continue
            selected += 1
            try:
                parse_path(file.path)
            except ConfigError as error:
                raise ConfigError(
                    f"the origin holds a file that cannot be shown: {error.message}",
                    hint="leave it out with --exclude",
                ) from error
            yield file
        if seen and not selected:
            raise OriginNotFoundError(
                f"none of the {seen} files matches",
                subject=self._inner.pin().url,
                hint="see --include and --exclude",
            )


class RetryingOrigin(_Decorated):
    """Asks again when that may help, after a wait with jitter."""

    def __init__(self, inner: Origin, backoff: Backoff, runtime: Runtime) -> None:
        """Keep the plan of waits."""
        super().__init__(inner)
        self._backoff = backoff
        self._runtime = runtime

    def pin(self) -> OriginSpec:
        """Pin, with retries."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._inner.pin()
            except CacheFSError as error:
                self._wait_or_raise(attempt, error)

    def list_files(self) -> Iterator[OriginFile]:
        """List, with retries; the whole list is held, for a retry begins anew."""
        attempt = 0
        while True:
            attempt += 1
            try:
                files = list(self._inner.list_files())
            except CacheFSError as error:
                self._wait_or_raise(attempt, error)
            else:
                return iter(files)

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Read, with retries."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._inner.read_range(entry, offset, length, buffer)
            except CacheFSError as error:
                self._wait_or_raise(attempt, error)

    def _wait_or_raise(self, attempt: int, error: CacheFSError) -> None:
        retry_after = (
            error.retry_after_seconds if isinstance(error, OriginUnavailableError) else None
        )
        wait = self._backoff.wait_after(
            attempt, draw=self._runtime.random.random(), retry_after_seconds=retry_after
        )
        if not error.retryable or wait is None:
            raise error
        self._runtime.sleep(wait)
