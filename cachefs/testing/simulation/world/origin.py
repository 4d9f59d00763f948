"""The store of record of a simulated cluster: slow, and now and then in trouble.

The content is a :class:`cachefs.testing.memory.origin.MemoryOrigin`. Each worker opens a client of
its own, which waits on that worker's clock and dies with it. Every request is remembered with its
outcome, so that a checker can tell a retry from a storm.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest, name_file_version
from cachefs.errors import OriginError, OriginProtocolError, OriginUnavailableError
from cachefs.ports import OriginFile
from cachefs.testing.memory.origin import MemoryOrigin
from cachefs.testing.simulation.world.runtime import SimRuntime


@dataclass(slots=True)
class OriginFaults:
    """How likely a request goes wrong."""

    unavailable: float = 0.0
    """It answers 503, or not at all."""
    protocol: float = 0.0
    """It answers with something that cannot be used: a short body, HTML, another range."""
    slow: float = 0.0
    """It takes seconds instead of milliseconds."""
    lie: float = 0.0
    """It gives wrong bytes of a file whose digest is known, and nothing says so."""


@dataclass(frozen=True, slots=True)
class OriginRequest:
    """One request for a range, and how it ended."""

    began: float
    at: float
    """When it ended."""
    client: str
    """The process that asked, with the number of its start."""
    path: str
    offset: int
    succeeded: bool


class SimOrigin:
    """Files that all workers fill from."""

    def __init__(
        self, files: Mapping[str, bytes], random: Random, *, with_digests: bool = False
    ) -> None:
        """Hold a copy of the files; ``with_digests``, a listing says what they must hash to."""
        self._with_digests = with_digests
        self.memory = MemoryOrigin(files)
        self.random = random
        self.faults = OriginFaults()
        self.requests: list[OriginRequest] = []
        self.read_seconds = (0.002, 0.03)
        """A request takes so long, drawn evenly."""
        self.slow_seconds = (0.5, 6.0)
        self._opened = 0

    @property
    def spec(self) -> OriginSpec:
        """Where the files are."""
        return self.memory.pin()

    def open(self, process: SimRuntime) -> "SimOriginClient":
        """Return a process's client."""
        self._opened += 1
        return SimOriginClient(self, process, f"{process.name} {self._opened}")

    def manifest(self) -> Manifest:
        """List the files as they are now."""
        entries = []
        for file in self.memory.list_files():
            content = self.memory.files[file.path]
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}" if self._with_digests else ""
            name = name_file_version(
                self.spec.identity,
                path=file.path,
                size=file.size,
                token=file.token,
                digest=digest,
            )
            entries.append(FileEntry(file.path, file.size, file.token, digest, name))
        return Manifest.of(entries)


class SimOriginClient:
    """Implements :class:`cachefs.ports.Origin` for one process."""

    client = "memory"
    reason = "simulated"

    def __init__(self, origin: SimOrigin, process: SimRuntime, name: str) -> None:
        """Belong to the process that asks."""
        self._origin = origin
        self._process = process
        self._name = name

    def pin(self) -> OriginSpec:
        """Return the spec."""
        return self._origin.spec

    def list_files(self) -> Iterator[OriginFile]:
        """Yield the files as they are now."""
        self._process.check_alive()
        yield from self._origin.memory.list_files()

    def read_range(
        self,
        entry: FileEntry,
        offset: int,
        length: int,
        buffer: memoryview | None = None,  # noqa: ARG002 - the library has memory of its own
    ) -> memoryview:
        """Return a range of the content that the token names."""
        origin, process = self._origin, self._process
        faults, random = origin.faults, origin.random
        process.check_alive()
        began = process.monotonic()
        slow = random.random() < faults.slow
        unavailable = random.random() < faults.unavailable
        unusable = random.random() < faults.protocol
        lies = bool(faults.lie and entry.digest) and random.random() < faults.lie
        process.sleep(random.uniform(*(origin.slow_seconds if slow else origin.read_seconds)))
        try:
            if unavailable:
                retry_after = random.choice((None, None, 0.3))
                raise OriginUnavailableError(
                    "503 slow down", subject=entry.path, retry_after_seconds=retry_after
                )
            if unusable:
                raise OriginProtocolError("a short body", subject=entry.path)
            data = origin.memory.read_range(entry, offset, length)
        except OriginError:
            self._note(entry, offset, began, succeeded=False)
            raise
        self._note(entry, offset, began, succeeded=True)
        if lies:
            process.note(f"origin lies about {entry.path}@{offset}")
            wrong = bytearray(data)
            wrong[random.randrange(length)] ^= 1 << random.randrange(8)
            return memoryview(wrong)
        return data

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def _note(self, entry: FileEntry, offset: int, began: float, *, succeeded: bool) -> None:
        now = self._process.monotonic()
        request = OriginRequest(began, now, self._name, entry.path, offset, succeeded)
        self._origin.requests.append(request)
        outcome = "gives" if succeeded else "refuses"
        self._process.note(f"origin {outcome} {entry.path}@{offset}")
