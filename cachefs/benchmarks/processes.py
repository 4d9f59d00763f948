"""Processes under test: started until they say that they are ready, and ended by their id."""

import ctypes
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from cachefs.errors import CacheFSError

READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Process:
    """A process that writes ``ready {…}`` to its standard output when it can serve."""

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str]
    ) -> None:
        """Start it and wait until it is ready.

        Raises:
            CacheFSError: It ended, or was not ready in time; carries the end of its log.
        """
        self._log = log
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                preexec_fn=lambda: end_with_parent(signal.SIGKILL),  # noqa: PLW1509 - it allocates nothing
            )
        self.pid = self._popen.pid
        try:
            self.addresses = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> Mapping[str, str]:
        deadline = time.perf_counter() + READY_SECONDS
        said = b""
        output = self._popen.stdout
        assert output is not None  # noqa: S101 - for the type checker
        while (left := deadline - time.perf_counter()) > 0:
            if not select.select([output], [], [], left)[0]:
                break
            part = os.read(output.fileno(), 65536)
            if not part:
                break
            said += part
            for line in said.split(b"\n")[:-1]:
                if line.startswith(b"ready "):
                    addresses: Mapping[str, str] = json.loads(line.removeprefix(b"ready "))
                    return addresses
        raise CacheFSError("a process did not become ready", hint=self.log_end())

    def log_end(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    def process(self) -> psutil.Process:
        """Return what its times and its memory are read from."""
        return psutil.Process(self.pid)

    def is_running(self) -> bool:
        """Return whether it has not ended."""
        return self._popen.poll() is None

    def stop(self, *, kill: bool = False) -> None:
        """End it; idempotent."""
        if self.is_running():
            self._popen.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self._popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


def end_with_parent(number: int) -> None:
    """Run in the child: ask the kernel to send it a signal when the benchmark ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)
