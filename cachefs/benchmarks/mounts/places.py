"""Mounts under test: made, watched and ended."""

import ctypes.util
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from cachefs.benchmarks.clusters import DATASET, Cluster, pause
from cachefs.benchmarks.context import Bench, CannotRunError
from cachefs.benchmarks.processes import end_with_parent
from cachefs.errors import CacheFSError, InvariantError
from cachefs.fuse.engines.choice import look_around
from cachefs.fuse.mounts import blocking
from cachefs.fuse.mounts.table import find_mount
from cachefs.ports import Closing

_READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_UNMOUNT_SECONDS = 10.0
_LOG_LINES = 15


class Mounted(Closing):
    """A folder that a program has mounted on, and the program."""

    def __init__(
        self, command: Sequence[str], folder: Path, *, log: Path, environment: Mapping[str, str]
    ) -> None:
        """Start a program that mounts and stays; return when the mount answers.

        Args:
            command: The program and its arguments; it shall unmount on SIGTERM.
            folder: Where it mounts; made if need be.
            log: For what it says.
            environment: Its whole environment.

        Raises:
            CacheFSError: It ended, or the mount did not answer in time.
        """
        self.folder = folder
        self._log = log
        if find_mount(folder) is not None:  # of a run that was killed
            self._unmount()
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as said:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=dict(environment),
                # The signal after which it unmounts, for the case that we cannot say it ourselves.
                preexec_fn=lambda: end_with_parent(signal.SIGTERM),  # noqa: PLW1509 - it allocates nothing
            )
        try:
            self._wait_until_it_answers(command[0])
        except BaseException:
            self.close()
            raise

    def _wait_until_it_answers(self, name: str) -> None:
        deadline = time.perf_counter() + _READY_SECONDS
        while time.perf_counter() < deadline and self._popen.poll() is None:
            if find_mount(self.folder) is None:
                pause()
                continue
            # In a process of its own: a mount that nobody serves would make this one wait for ever.
            left = max(1.0, deadline - time.perf_counter())
            if blocking.ask(self.folder, user=os.getuid(), group=os.getgid(), seconds=left) == 0:
                return
        lines = self._log.read_text(errors="replace").splitlines()
        raise CacheFSError(
            "did not mount", subject=Path(name).name, hint="\n".join(lines[-_LOG_LINES:])
        )

    def processes(self) -> list[psutil.Process]:
        """Return the program and its children."""
        try:
            program = psutil.Process(self._popen.pid)
            return [program, *program.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _unmount(self) -> None:
        for flags in (0, blocking.DETACHED):
            if find_mount(self.folder) is None:
                return
            blocking.unmount(self.folder, flags=flags, seconds=_UNMOUNT_SECONDS)

    def close(self) -> None:
        """Unmount and end the program; idempotent."""
        self._unmount()
        try:
            self._popen.wait(_STOP_SECONDS)  # It ends with its mount.
        except subprocess.TimeoutExpired:
            for stop in (self._popen.terminate, self._popen.kill):
                stop()
                try:
                    self._popen.wait(_STOP_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
        self._unmount()


class Slot(Closing):
    """Room for one mount, which is another one from turn to turn."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._mounted: Mounted | None = None

    def empty(self) -> None:
        """End the mount that it holds."""
        if self._mounted is not None:
            self._mounted.close()
            self._mounted = None

    def fill(self, make: Callable[[], Mounted]) -> None:
        """End the mount that it holds and make another one."""
        self.empty()
        self._mounted = make()

    @property
    def mounted(self) -> Mounted:
        """The mount that it holds.

        Raises:
            InvariantError: It holds none.
        """
        if self._mounted is None:
            raise InvariantError("no mount is in this slot")
        return self._mounted

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the mount that it holds."""
        return [] if self._mounted is None else self._mounted.processes()

    def close(self) -> None:
        """End the mount that it holds."""
        self.empty()


def mount_ours(
    bench: Bench,
    cluster: Cluster,
    *,
    name: str = "ours",
    dataset: str = DATASET,
    local: bool = True,
) -> Mounted:
    """Mount a dataset of a cluster as a user does, with the defaults.

    Args:
        bench: Where to.
        cluster: Whose dataset.
        name: Of the mount, among those of the benchmark.
        dataset: Its name.
        local: Use the worker's descriptors; without them, it is like a worker of another node.
    """
    folder = mounts_folder(bench)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("CACHEFS_")},
        "CACHEFS_STATE": str(cluster.folder),
        "CACHEFS_RUN": str(folder / "run"),
        "CACHEFS_READER__LOCAL": "true" if local else "false",
    }
    command = [sys.executable, "-m", "cachefs.cli", "mount", "--foreground", dataset]
    place = folder / name
    return Mounted(
        [*command, str(place)], place, log=folder / f"{name}.log", environment=environment
    )


def mount_other(bench: Bench, command: Sequence[str], *, name: str) -> Mounted:
    """Mount with somebody else's program; the folder is added to its arguments at ``{}``."""
    folder = mounts_folder(bench)
    place = folder / name
    environment = {
        # Without credentials or proxies of whoever runs this, and without their configuration.
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
    }
    words = [str(place) if word == "{}" else word for word in command]
    return Mounted(words, place, log=folder / f"{name}.log", environment=environment)


def mounts_folder(bench: Bench) -> Path:
    """Return the folder that everything is mounted below."""
    folder = bench.folder / "mounts"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def need(
    *, programs: Sequence[str] = (), modules: Sequence[str] = (), libraries: Sequence[str] = ()
) -> None:
    """Make sure that this machine has what a scenario with mounts needs.

    Raises:
        CannotRunError: It has not.
    """
    machine = look_around()
    if os.geteuid() != 0:
        raise CannotRunError("mounts are measured by root: readahead and passthrough need it")
    if machine.device:
        raise CannotRunError(f"/dev/fuse: {machine.device}")
    for program in programs:
        if shutil.which(program) is None:
            raise CannotRunError(f"{program} is not installed (apt-get install {program})")
    for module, package in (word.split("=") for word in modules):
        if importlib.util.find_spec(module) is None:
            raise CannotRunError(f"{package} is not installed (pip install {package})")
    for library, package in (word.split("=") for word in libraries):
        if ctypes.util.find_library(library) is None:
            raise CannotRunError(f"lib{library} is not installed (apt-get install {package})")


def need_passthrough() -> None:
    """Make sure that the kernel passes files through.

    Raises:
        CannotRunError: It does not.
    """
    machine = look_around()
    if not machine.passthrough:
        kernel = ".".join(map(str, machine.kernel))
        raise CannotRunError(f"passthrough needs root and Linux 6.9; this is {kernel}")
