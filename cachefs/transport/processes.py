"""Processes by pid *and* start time, so that a pid which the kernel gave to another is left alone."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_START_TIME = 19
"""The field of ``/proc/PID/stat`` after the command's closing parenthesis: proc(5) calls it 22."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process that was started."""

    name: str
    """``supervisor``, ``coordinator``, ``gateway`` or a worker's name."""
    pid: int
    started: str
    """The machine's boot and the clock tick of the start: together with the pid never used twice."""

    @classmethod
    def of(cls, name: str, pid: int) -> "ProcessRecord":
        """Describe a process that runs now."""
        return cls(name, pid, _started(pid))

    @classmethod
    def read(cls, document: Any) -> "list[ProcessRecord]":  # Any: what a file holds
        """Return the records that a file holds; one that is not ours yields none."""
        try:
            return [cls(str(row["name"]), int(row["pid"]), str(row["started"])) for row in document]
        except (TypeError, KeyError, ValueError):
            return []

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self.started != "" and _started(self.pid) == self.started

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; ``False`` if it is gone."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                # While we hold the descriptor, the pid cannot become another process's.
                if self.alive:
                    signal.pidfd_send_signal(descriptor, number)
                    return True
            finally:
                os.close(descriptor)
        return False


def _started(pid: int) -> str:
    """Return what identifies the process of that pid; empty if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else f"{boot}/{fields[_START_TIME]}"
