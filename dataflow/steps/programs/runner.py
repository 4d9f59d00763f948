"""The runner: the parent of one program, which outlives the coordinator that started it.

``python -I -S runner.py ROOM`` runs what ``ROOM/start.json`` says, in a session of its own, and writes
down what becomes of it. It imports nothing but the standard library's small parts, because a rollout
starts a hundred of them at once.

=================  =============================================================================
``start.json``     what to run, by whoever began it
``lock``           locked by the runner for as long as it lives, so that nobody mistakes a stranger's
                   process for it
``running.json``   the runner's process id; it is written once, and who finds it there starts nothing
``log``, ``log.1`` what the program wrote to its standard output and standard error; bounded
``ready.json``     when the program became ready
``ended.json``     how it ended; whole or not there
``mount-N.log``    what the process wrote that mounts a dataset for the program
=================  =============================================================================

SIGTERM ends the program: its process group is asked to, and a second later killed, with every
descendant that left the group: they are the runner's own children by then (PR_SET_CHILD_SUBREAPER). The
same clears up behind a program that ended by itself. If the runner is killed, the kernel kills the
program. With ``tethered`` the runner does all that when its standard input ends, which a living
coordinator holds open.

``mounts`` are there before the program begins, each held by a process that serves it (``cachefs mount
--foreground``), and go once the program has ended, whatever its descendants still hold open. Killed with the
runner, the kernel asks those processes to unmount.
"""

import ctypes
import fcntl
import json
import os
import re
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 1.0
"""Between SIGTERM and SIGKILL."""
_MOUNT_SECONDS = 30.0
"""For all mounts to be there; a mount says by itself what is wrong long before."""
_UNMOUNT_SECONDS = 0.5
"""For a mount to go by itself; then it is taken off."""
_LOOK_SECONDS = 0.02
_SERVED = "unmounts it"
"""In what ``cachefs mount --foreground`` says once the mount is served."""
_DRAIN_SECONDS = 0.2
"""For output that is still in the pipe after the last process has ended."""
_LINE_BYTES_MAX = 4096
_READ_BYTES = 64 * 1024
_NOT_FOUND = 127
_OCTAL = re.compile(r"\\([0-7]{3})")
"""How the mount table writes blanks and the like."""
_NEVER = float("inf")

_now = time.monotonic  # noqa: TID251 - it is a program of its own, and imports nothing of ours
_wall = time.time  # noqa: TID251 - likewise


def main() -> int:
    """Run what the room says, unless somebody did already; return the exit status."""
    os.chdir(sys.argv[1])
    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    if os.path.exists("running.json"):  # noqa: PTH110 - pathlib would take longer than all the rest
        return 0
    with open("start.json", encoding="utf-8") as file:  # noqa: PTH123 - likewise
        start = json.load(file)
    write("running.json", {"pid": os.getpid(), "at": _wall()})
    Runner(start).run()
    return 0


def write(name: str, document: dict[str, Any]) -> None:  # Any: JSON
    """Write a file of the room whole, so that it survives a power cut."""
    partial = f".{name}.{os.getpid()}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(descriptor, json.dumps(document).encode())
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(partial, name)  # noqa: PTH104 - likewise


class Log:
    """What the program writes: between one and two times ``bytes_max`` of the newest."""

    def __init__(self, bytes_max: int) -> None:
        """Begin a file."""
        self._bytes_max = bytes_max
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size

    @staticmethod
    def _open() -> int:
        return os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, text: bytes) -> None:
        """Append, beginning a new file when this one is full; a full disk loses the text."""
        try:
            if self._size + len(text) > self._bytes_max:
                os.close(self._descriptor)
                os.rename("log", "log.1")  # noqa: PTH104 - likewise
                self._descriptor = self._open()
                self._size = 0
            self._size += os.write(self._descriptor, text)
        except OSError:
            return


class Mount:
    """A dataset as a folder, held by a process of its own."""

    def __init__(self, start: dict[str, Any], libc: Any, *, log: str) -> None:  # Any: JSON; ctypes'
        """Begin nothing."""
        self._log = log
        self.path: str = start["path"]
        self._command: list[str] = start["command"]
        self._folder: str = start["folder"]
        self._libc = libc
        self._made: list[str] = []
        """Folders that were made for it, the outermost first."""
        self._pid = 0
        self._ended = False

    def begin(self) -> None:
        """Start the process, and make the folder that it mounts on."""
        path = self.path
        missing = []
        while not os.path.isdir(path):  # noqa: PTH112 - likewise
            missing.append(path)
            path = os.path.dirname(path)  # noqa: PTH120 - likewise
        for folder in reversed(missing):
            try:
                os.mkdir(folder, 0o700)  # noqa: PTH102 - likewise
            except FileExistsError:  # no folder, or a dead mount: whoever mounts knows what to do
                continue
            self._made.append(folder)
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            self._become_mount(parent)

    def _become_mount(self, parent: int) -> None:
        try:
            os.setsid()
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for source, target in ((nothing, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            os.chdir(self._folder)
            os.execv(self._command[0], self._command)  # noqa: S606 - a list of arguments, and no shell
        finally:
            os._exit(_NOT_FOUND)

    def there(self) -> bool:
        """Say whether the mount can be used."""
        return not self._ended and _SERVED in self._said() and self.path in mounted()

    def ended(self) -> bool:
        """Say whether its process is gone: then nobody will make it, or somebody else had."""
        return self._ended

    def note_end(self, pid: int) -> None:
        """Take note that a child has ended."""
        self._ended = self._ended or pid == self._pid

    def processes(self) -> list[int]:
        """Return the processes that hold it."""
        return [self._pid, *descendants(self._pid)] if self._pid and not self._ended else []

    def stop(self) -> None:
        """Ask its process to unmount, and to end."""
        if self._pid and not self._ended:
            os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """Take it off, and end its processes."""
        processes = self.processes()
        detach(self.path, self._libc)
        for pid in processes:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def clear(self) -> None:
        """Leave nothing of it behind."""
        if self._pid:
            detach(self.path, self._libc)
        for folder in reversed(self._made):
            with suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 - likewise

    def _said(self) -> str:
        try:
            with open(self._log, encoding="utf-8", errors="replace") as log:  # noqa: PTH123 - likewise
                return log.read(_LINE_BYTES_MAX)
        except OSError:
            return ""

    def last_words(self) -> str:
        """Return the line that says what is wrong."""
        lines = [line.strip() for line in self._said().splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("error", "hint"))] or lines
        return "; ".join(told[-2:])[-_LINE_BYTES_MAX:] or "its process ended without a word"


class Runner:
    """One program, from its start to the end of all that it has left behind."""

    def __init__(self, start: dict[str, Any]) -> None:  # Any: JSON
        """Prepare; nothing runs yet."""
        self._command: list[str] = start["command"]
        self._workdir: str = start["workdir"]
        self._ready_line = start["ready_line"].encode()
        self._ready_after: float = start["ready_after"]
        self._tethered: bool = start["tethered"]
        self._log = Log(start["log_bytes"])
        self._read_bytes = min(_READ_BYTES, start["log_bytes"])
        self._libc = ctypes.CDLL(None)
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._line = b""
        self._output_open = True
        self._mounts = [
            Mount(one, self._libc, log=f"mount-{number}.log")
            for number, one in enumerate(start.get("mounts", ()))
        ]
        self._unmounting = False
        self._unmount_by = _NEVER
        self._pid = 0
        self._stopped = False
        """Whether somebody asked it to end."""
        self._kill_at = _NEVER
        self._ready_at = _NEVER
        self._status: int | None = None
        self._failure = ""
        self._began = _now()

    def run(self) -> None:
        """Run it, and return when nothing of it is left."""
        wakes, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._output, program_end = os.pipe2(os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(wakes, select.POLLIN)
        if self._tethered:
            self._poll.register(0, select.POLLIN)
        if self._mount(wakes):
            self._began = _now()
            self._pid = self._spawn(program_end)
        os.close(program_end)
        if self._pid and not self._ready_line:
            self._ready_at = self._began + self._ready_after
        if not self._pid:
            self._unmount()
        while self._reap():
            self._turn(wakes)
        for mount in self._mounts:
            mount.clear()
        self._drain()
        ended = {
            "code": os.waitstatus_to_exitcode(self._status) if self._status is not None else None,
            "stopped": self._stopped,
            "failure": self._failure,
            "seconds": _now() - self._began,
            "at": _wall(),
        }
        write("ended.json", ended)

    def _mount(self, wakes: int) -> bool:
        """Have all mounts made; ``False`` if one cannot be, or somebody asked us to end."""
        give_up = _now() + _MOUNT_SECONDS
        for mount in self._mounts:
            try:
                mount.begin()
            except OSError as error:
                self._failure = f"{mount.path} cannot be mounted on: {error.strerror}"
                return False
        while not self._stopped and (waiting := [one for one in self._mounts if not one.there()]):
            for mount in waiting:
                if mount.ended() or _now() > give_up:
                    self._failure = f"{mount.path} cannot be mounted: {mount.last_words()}"
                    return False
            self._turn(wakes, seconds=_LOOK_SECONDS)
            self._reap()
        return not self._stopped

    def _unmount(self) -> None:
        """Have the mounts go; the program has ended, or cannot as long as they are there."""
        if self._unmounting:
            return
        self._unmounting = True
        for mount in self._mounts:
            mount.stop()
        if self._mounts:
            self._unmount_by = _now() + _UNMOUNT_SECONDS

    def _turn(self, wakes: int, seconds: float = _NEVER) -> None:
        """Wait for something to happen, no longer than so many seconds, and see to it."""
        left = min(self._kill_at, self._ready_at, self._unmount_by, _now() + seconds) - _now()
        for descriptor, _ in self._poll.poll(None if left == _NEVER else max(0.0, left) * 1000):
            if descriptor == self._output:
                self._read()
            elif descriptor == wakes:
                os.read(wakes, 512)
            elif not os.read(descriptor, 512):
                self._poll.unregister(descriptor)
                self._stop()
        if _now() >= self._ready_at:
            self._become_ready()
        if _now() >= self._unmount_by:
            self._unmount_by = _NEVER
            for mount in self._mounts:
                mount.kill()
        if _now() >= self._kill_at:
            self._send(signal.SIGKILL)
            self._kill_at = _now() + 0.1  # some may have been forked in between
            self._unmount()  # who waits for a mount that does not answer is not killed before it goes

    def _spawn(self, output: int) -> int:
        """Start the program; 0 if there is none, or it may not be started."""
        failure, failed = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_program(output, failed, parent)
        os.close(failed)
        text = os.read(failure, _LINE_BYTES_MAX)
        os.close(failure)
        if text:
            os.waitpid(pid, 0)
            self._failure = text.decode(errors="replace")
            self._status = _NOT_FOUND << 8
            return 0
        return pid

    def _become_program(self, output: int, failed: int, parent: int) -> None:
        try:
            os.setpgid(0, 0)
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((nothing, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            os.chdir(self._workdir)
            os.execvp(self._command[0], self._command)  # noqa: S606 - a list of arguments, and no shell
        except OSError as error:
            os.write(failed, f"{error.strerror}: {error.filename or self._command[0]}".encode())
        finally:
            os._exit(_NOT_FOUND)

    def _reap(self) -> bool:
        """Collect whoever has ended; say whether anybody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            for mount in self._mounts:
                mount.note_end(pid)
            if pid == self._pid:
                self._status = status
                self._ready_at = _NEVER
                self._unmount()
                if self._kill_at == _NEVER:  # what it has left behind goes, too
                    self._ask()

    def _stop(self) -> None:
        if self._kill_at == _NEVER:
            self._stopped = self._status is None
            self._ask()

    def _ask(self) -> None:
        self._kill_at = _now() + _GRACE_SECONDS
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to the program's process group, and to descendants outside of it.

        Those that hold its mounts are left alone: they are told otherwise, when the program has ended.
        """
        if self._pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)
        mounting = {pid for mount in self._mounts for pid in mount.processes()}
        for pid in descendants(os.getpid()):
            try:
                if pid not in mounting and os.getpgid(pid) != self._pid:
                    os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def _read(self) -> bool:
        """Take in what the program wrote; ``False`` at the end."""
        text = os.read(self._output, self._read_bytes)
        if not text:
            self._poll.unregister(self._output)
            self._output_open = False
            return False
        self._log.write(text)
        if self._ready_line:
            *lines, rest = (self._line + text).split(b"\n")
            self._line = rest[-_LINE_BYTES_MAX:]
            if any(line.startswith(self._ready_line) for line in lines):
                self._become_ready()
        return True

    def _become_ready(self) -> None:
        self._ready_line, self._ready_at = b"", _NEVER
        write("ready.json", {"seconds": _now() - self._began, "at": _wall()})

    def _drain(self) -> None:
        until = _now() + _DRAIN_SECONDS
        while self._output_open and (left := until - _now()) > 0:
            if not any(fd == self._output for fd, _ in self._poll.poll(left * 1000)):
                continue
            self._read()


def mounted() -> set[str]:
    """Return where file systems in user space are mounted."""
    found = set()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:  # noqa: PTH123 - likewise
        for line in table:
            left, _, right = line.partition(" - ")
            if right.startswith("fuse"):
                path = left.split(" ")[4]
                found.add(_OCTAL.sub(lambda match: chr(int(match[1], 8)), path))
    return found


def detach(path: str, libc: Any) -> None:  # Any: what ctypes makes
    """Take a mount off, whoever uses it; nothing happens if there is none."""
    if path not in mounted() or libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        return
    for program in ("fusermount3", "fusermount"):
        with suppress(OSError):
            pid = os.posix_spawnp(program, [program, "-u", "-z", path], os.environ)
            os.waitpid(pid, 0)
            return


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have started."""
    found = []
    left = [pid]
    while left:
        for child in _children(left.pop()):
            found.append(child)
            left.append(child)
    return found


def _children(pid: int) -> list[int]:
    children = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - likewise
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123 - likewise
                children += [int(child) for child in file.read().split()]
    except OSError:
        return children
    return children


if __name__ == "__main__":
    sys.exit(main())
