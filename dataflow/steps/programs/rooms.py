"""Rooms: where programs are begun, looked at and ended, by whoever is the coordinator at the time.

A room is a folder with one program in it (:mod:`.runner` says what its files are). What is there says
everything: a coordinator that was killed leaves nothing behind that its successor would have to know.
To begin a room's program twice starts it once, because only one runner can claim a room; to stop one that
has not been claimed yet claims it, so that a runner which comes late finds the place taken.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cachefs.core.names import printable
from cachefs.dataflow.steps.programs.runner import detach, mounted
from cachefs.errors import ClusterError
from cachefs.ports import Closing, Runtime

RUNNER = Path(__file__).with_name("runner.py")
STOP_SECONDS = 1.7
"""How long a runner may take to end its program: its own grace is a second. A step has two to end in."""
_KILL_SECONDS = 0.3
_LOOK_SECONDS = 0.01
_MARK = "CACHEFS_ROOM"

Standing = Literal["none", "starting", "running", "ended", "lost"]


class MountFor(NamedTuple):
    """A dataset that a program finds as a folder."""

    path: str
    """Absolute; made if it is missing."""
    command: tuple[str, ...]
    """What mounts it, and serves it until it is asked to end."""
    folder: str
    """Where that is run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run."""

    command: tuple[str, ...]
    workdir: str
    environment: Mapping[str, str]
    """All of it; it is passed on and written nowhere."""
    ready_line: str = ""
    """It is ready when a line of its output begins so; empty for :attr:`ready_after`."""
    ready_after: float = 0.0
    """It is ready when it has lived for so many seconds."""
    log_bytes: int = 4 * 1024 * 1024
    tethered: bool = False
    """Whether it ends with the process that began it."""
    mounts: tuple["MountFor", ...] = ()
    """What is mounted before it begins, and goes when it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A program as it stands."""

    standing: Standing
    """``lost``: its runner is gone, and did not say how the program ended."""
    code: int | None = None
    """Once it has ended: its exit code, or a signal's number below zero; ``None`` if it never ran."""
    stopped: bool = False
    """Whether somebody asked it to end."""
    failure: str = ""
    """Why it could not be started."""
    seconds: float = 0.0
    """How long it ran, once it has ended."""
    ready_seconds: float | None = None
    """After its start; ``None`` if it was not ready, yet."""
    started_at: float = 0.0
    """Seconds since 1970; 0 if it has not started."""
    note: str = ""
    """What a person should know of it: what it waits for, or what ended it."""

    @property
    def active(self) -> bool:
        """Whether it runs, or is about to."""
        return self.standing in ("starting", "running")


class Rooms(Closing):
    """Begins and ends the programs of rooms. The owner closes it; programs go on."""

    def __init__(self, runtime: Runtime) -> None:
        """Begin nothing."""
        self._runtime = runtime
        self._turn = runtime.condition()
        self._runners: dict[Path, subprocess.Popen[bytes]] = {}

    def close(self) -> None:
        """Let go of all runners: those that are tethered end."""
        with self._turn:
            runners, self._runners = list(self._runners.values()), {}
        for runner in runners:
            _let_go(runner)

    def begin(
        self, room: Path, program: Program, *, notes: Mapping[str, str | int] | None = None
    ) -> None:
        """Start a room's program, unless that was done; returns at once.

        Args:
            room: The folder; made if it is missing.
            program: What to run.
            notes: What :func:`notes_of` returns.

        Raises:
            ClusterError: The machine cannot start a process now.
        """
        self.reap()
        if not (room / "start.json").exists():
            room.mkdir(mode=0o700, parents=True, exist_ok=True)
            document = {
                "command": program.command,
                "workdir": program.workdir,
                "ready_line": program.ready_line,
                "ready_after": program.ready_after,
                "log_bytes": program.log_bytes,
                "tethered": program.tethered,
                "mounts": [one._asdict() for one in program.mounts],
                "notes": dict(notes or {}),
            }
            _write(room / "start.json", document)
        with self._turn:
            if room in self._runners or (room / "running.json").exists():
                return
            environment = {**program.environment, _MARK: os.fspath(room)}
            try:
                self._runners[room] = subprocess.Popen(  # noqa: S603 - a list of arguments, and no shell
                    [sys.executable, "-I", "-S", os.fspath(RUNNER), os.fspath(room)],
                    stdin=subprocess.PIPE if program.tethered else subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                text = error.strerror or str(error)
                raise ClusterError(f"no process can be started: {text}") from error

    def look(self, room: Path) -> Found:
        """Say how a program stands."""
        self.reap()
        return look(room)

    def stop(self, rooms: Sequence[Path]) -> None:
        """End programs, with all that they have started; returns when they have, within two seconds."""
        left = list(rooms)
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            until = self._runtime.monotonic() + seconds
            while left := [room for room in left if look(room).active]:
                for (
                    room
                ) in left:  # again and again: a runner that is just starting may not have heard
                    ask_to_stop(room, number)
                if self._runtime.monotonic() >= until:
                    break
                self._runtime.sleep(_LOOK_SECONDS)
                self.reap()
        clear_up([room for room in rooms if look(room).standing == "lost"])

    def reap(self) -> None:
        """Collect runners that have ended."""
        with self._turn:
            for room, runner in list(self._runners.items()):
                if runner.poll() is not None:
                    del self._runners[room]
                    _let_go(runner)


def look(room: Path) -> Found:
    """Say how a program stands, from what is in its room."""
    ended = _read(room / "ended.json")
    running = _read(room / "running.json")
    ready = _read(room / "ready.json")
    started_at = float(running.get("at", 0.0)) if running else 0.0
    ready_seconds = float(ready["seconds"]) if ready else None
    if ended is None and running is not None and not _is_locked(room):
        ended = _read(room / "ended.json")  # it may have ended since we looked
        if ended is None:
            return Found(standing="lost", ready_seconds=ready_seconds, started_at=started_at)
    if ended is not None:
        return Found(
            standing="ended",
            code=ended["code"],
            stopped=ended["stopped"],
            failure=ended["failure"],
            seconds=ended["seconds"],
            ready_seconds=ready_seconds,
            started_at=started_at,
        )
    if running is not None:
        return Found(standing="running", ready_seconds=ready_seconds, started_at=started_at)
    return Found(standing="starting" if (room / "start.json").exists() else "none")


def notes_of(room: Path) -> Mapping[str, Any]:  # Any: JSON
    """Return what was noted when the room's program was begun."""
    start = _read(room / "start.json") or {}
    notes: Mapping[str, Any] = start.get("notes", {})  # Any: JSON
    return notes


def tail(room: Path, size: int) -> str:
    """Return the end of what a program wrote, from a line's beginning."""
    text = b""
    for name in ("log", "log.1"):
        with suppress(FileNotFoundError), (room / name).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - (size - len(text))))
            text = file.read() + text
        if len(text) >= size:
            _, newline, rest = text[-size:].partition(b"\n")
            text = rest if newline else text[-size:]
            break
    return text.decode(errors="replace")


def ask_to_stop(room: Path, number: signal.Signals = signal.SIGTERM) -> None:
    """Have a program end soon; one that has not started never will."""
    if not room.is_dir():
        return
    with (room / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _send(room, number)
            return
        if not (room / "running.json").exists():
            _write(room / "running.json", {"pid": 0, "at": 0.0})
            _write_stopped(room)


def clear_up(rooms: Sequence[Path]) -> None:
    """Kill what is left of programs whose runners are gone, and note that they have ended."""
    marks = {f"{_MARK}={room}".encode() for room in rooms}
    if not marks:
        return
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):  # it has ended meanwhile, or is not ours
                if marks & set((process / "environ").read_bytes().split(b"\0")):
                    os.kill(int(process.name), signal.SIGKILL)
    for room in rooms:
        for mount in (_read(room / "start.json") or {}).get("mounts", ()):
            detach(mount["path"], ctypes.CDLL(None))
        if not (room / "ended.json").exists():
            _write_stopped(room)


def rooms_in(folder: Path) -> list[Path]:
    """Return the rooms below a folder; looks into nothing that is mounted there."""
    found, elsewhere = [], mounted()
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if f"{here}/{name}" not in elsewhere]
        if "start.json" in files:
            found.append(Path(here))
    return found


def stop_all(runtime: Runtime, folder: Path) -> int:
    """End every program of a folder of rooms; return how many ran. For whoever ends the whole system."""
    active = [room for room in rooms_in(folder) if look(room).active]
    with Rooms(runtime) as owned:
        owned.stop(active)
    return len(active)


def _write_stopped(room: Path) -> None:
    document = {"code": None, "stopped": True, "failure": "", "seconds": 0.0, "at": 0.0}
    _write(room / "ended.json", document)


def _send(room: Path, number: signal.Signals) -> None:
    """Send a signal to a room's runner, if it lives."""
    running = _read(room / "running.json")
    if not running or not running["pid"]:
        return
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(running["pid"])
        try:
            # While it is locked the runner lives; while we hold the descriptor its pid is not another's.
            if _is_locked(room):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _is_locked(room: Path) -> bool:
    try:
        with (room / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _read(file: Path) -> dict[str, Any] | None:  # Any: JSON
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ClusterError("a program's record is damaged", subject=printable(str(file))) from error
    return document if isinstance(document, dict) else None


def _write(file: Path, document: Mapping[str, Any]) -> None:  # Any: JSON
    partial = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    with partial.open("w", encoding="utf-8") as opened:
        json.dump(document, opened)
        opened.flush()
        os.fsync(opened.fileno())
    partial.replace(file)


def _let_go(runner: "subprocess.Popen[bytes]") -> None:
    if runner.stdin is not None:
        runner.stdin.close()
    if runner.poll() is None:
        runner.returncode = 0  # it goes on without us, and Popen shall not complain about that
