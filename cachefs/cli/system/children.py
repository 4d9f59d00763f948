"""Children: processes that say when they are ready, log into bounded files, and die with us.

A child writes one line to its standard output when it can serve, ``ready {…}`` with its addresses,
and logs to its standard error. Both are pipes that the supervisor reads, so that logs can be bounded
without a signal or a race. The kernel kills a child whose supervisor is gone (PR_SET_PDEATHSIG), so
that ``kill -9`` of the supervisor leaves no orphan that would hold ports and tiers.
"""

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cachefs.errors import ClusterError
from cachefs.transport.processes import ProcessRecord

_PR_SET_PDEATHSIG = 1
_READY = b"ready "
_READY_BYTES_MAX = 64 * 1024
_READ_BYTES = 64 * 1024
_TAIL_BYTES = 4096
_LIBC = ctypes.CDLL(None, use_errno=True)

Addresses = Mapping[str, str]
"""What a child that is ready can be reached at, by purpose: ``http``, ``data``, ``control`` …"""


class Service(Protocol):
    """What shall run: known before it does, and the same after each restart."""

    @property
    def name(self) -> str:
        """What the process is called in logs and listings."""
        ...

    @property
    def log(self) -> Path:
        """Where its log goes."""
        ...

    def command(self, failures: int) -> Sequence[str]:
        """Return the arguments to start it with.

        Args:
            failures: How often in a row it has ended soon after its start.
        """
        ...

    def became_ready(self, addresses: Addresses) -> None:
        """Learn where it can be reached, so that a restart can use the same addresses."""
        ...


class BoundedLog:
    """A log file that keeps between one and two times ``bytes_max`` of the newest output."""

    def __init__(self, path: Path, *, bytes_max: int = 10 * 1024 * 1024) -> None:
        """Append to ``path``; what is older is in ``path`` with ``.1`` added."""
        self._path = path
        self._bytes_max = bytes_max
        self._file = path.open("ab", buffering=0)

    def write(self, text: bytes) -> None:
        """Append, beginning a new file when this one is full."""
        if self._file.tell() + len(text) > self._bytes_max:
            self._file.close()
            self._path.replace(f"{self._path}.1")
            self._file = self._path.open("ab", buffering=0)
        self._file.write(text)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Child:
    """One running process of a service."""

    def __init__(
        self, service: Service, *, failures: int, environment: Mapping[str, str], now: float
    ) -> None:
        """Start it. Only the main thread may: the kernel ties the child's life to the thread."""
        self.service = service
        self.failures = failures
        self.started_at = now
        self.addresses: Addresses | None = None
        """``None`` until it is ready."""
        self._log = BoundedLog(service.log)
        self._said = b""
        self._log_end = b""
        parent = os.getpid()
        self.process = subprocess.Popen(  # noqa: S603 - our own arguments, and no shell
            list(service.command(failures)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops us in good order
            preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),  # noqa: PLW1509 - it takes no lock that another thread could hold
        )
        assert self.process.stdout is not None  # noqa: S101 - for the type checker
        assert self.process.stderr is not None  # noqa: S101 - likewise
        self.output = self.process.stdout.fileno()
        self.errors = self.process.stderr.fileno()
        self.ended = os.pidfd_open(self.process.pid)
        """Readable once it has ended."""
        for pipe in (self.output, self.errors):
            os.set_blocking(pipe, False)
        self.record = ProcessRecord.of(service.name, self.process.pid)

    def read_output(self) -> bool:
        """Take in what it said; ``False`` at the end of its output."""
        text = _read(self.output)
        if text is None:
            return True
        if self.addresses is None:
            self._said = (self._said + text)[-_READY_BYTES_MAX:]
            for line in self._said.split(b"\n")[:-1]:
                if line.startswith(_READY):
                    self.addresses = _addresses(line)
                    self.service.became_ready(self.addresses)
        return bool(text)

    def read_errors(self) -> bool:
        """Move what it logged to its log file; ``False`` at the end."""
        text = _read(self.errors)
        if text:
            self._log.write(text)
            self._log_end = (self._log_end + text)[-_TAIL_BYTES:]
        return text is None or bool(text)

    def reap(self) -> int:
        """Collect the exit status of a child that has ended, and release everything."""
        while self.read_errors():
            if _read(self.errors) is None:
                break
        status = self.process.wait()
        self._log.write(f"--- {self.service.name} ended with status {status}\n".encode())
        self._log.close()
        os.close(self.ended)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return status

    @property
    def last_words(self) -> str:
        """The last line that it logged; empty if it was silent."""
        lines = self._log_end.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _addresses(line: bytes) -> Addresses:
    try:
        document = json.loads(line.removeprefix(_READY))
        return {str(purpose): str(address) for purpose, address in document.items()}
    except (ValueError, AttributeError) as error:
        raise ClusterError(f"not a ready line: {line[:80]!r}") from error


def _read(descriptor: int) -> bytes | None:
    """Read what is there: ``None`` for nothing yet, empty at the end."""
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return None


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Ask the kernel to signal this process when its parent ends; for ``preexec_fn`` only."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # the parent ended before we asked
        os._exit(1)
