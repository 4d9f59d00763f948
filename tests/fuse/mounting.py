"""Real mounts of a real system, by the command line, for tests that use and break them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from cachefs.fuse.engines.choice import DEVICE, look_around
from cachefs.fuse.mounts import blocking
from cachefs.fuse.mounts.runfolder import RunFolders
from cachefs.fuse.mounts.table import find_mount, read_table
from tests.integration.commands import Done, run_here
from tests.integration.systems import wait_for

COMMAND_SECONDS = 60
MIB = 1024 * 1024


def why_no_mounts() -> str:
    """Return why this machine cannot run tests with mounts; empty if it can."""
    if os.geteuid() != 0:
        return "needs root: the tests mount, and make users and namespaces"
    fault = look_around().device
    return f"needs {DEVICE}: {fault}" if fault else ""


def content(name: str, size: int) -> bytes:
    """Return bytes that follow from a name, so that no two files look alike."""
    return hashlib.shake_128(name.encode()).digest(size)


FILES = {
    "config.json": b'{"layers": 1}\n',
    "empty": b"",
    "model-00001-of-00002.safetensors": content("one", 3 * MIB + 77),
    "model-00002-of-00002.safetensors": content("two", 2 * MIB),
    "tokenizer/vocab.txt": content("vocab", 100_000),
}
"""The dataset ``model`` of the systems that tests use."""
LARGE = "model-00001-of-00002.safetensors"
"""The largest of them."""


def write_files(folder: Path, files: dict[str, bytes]) -> str:
    """Write a dataset's files; return the URL of its origin."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return f"file://{folder}"


class Mounts:
    """What one test mounts; nothing of it is left after :meth:`close`."""

    def __init__(self, state: Path, folder: Path) -> None:
        """Use the system of a state folder; keep everything else in ``folder``."""
        self.folder = folder
        self.run_folders = RunFolders(folder / "run")
        self.environment = {
            **{name: value for name, value in os.environ.items() if "CACHEFS" not in name},
            "CACHEFS_STATE": str(state),
            "CACHEFS_RUN": str(self.run_folders.path),
            "CACHEFS_READER__DEADLINE_SECONDS": "5s",
        }

    def set(self, **settings: str) -> None:
        """Set settings of later mounts: ``mount__engine="native"``."""
        for name, value in settings.items():
            self.environment[f"CACHEFS_{name.upper()}"] = value

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "cachefs.cli", *map(str, words)]

    def cachefs(
        self, *words: object, code: int | None = 0, **options
    ) -> subprocess.CompletedProcess[str] | Done:
        """Run a command, which must end with that exit code, if one is given.

        It is a process of its own only with options, which are :func:`subprocess.run`'s.
        """
        if options:
            done = subprocess.run(
                self.command(*words),
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
                **options,
            )
        else:
            done = run_here(self.environment, *map(str, words))
        assert code in (None, done.returncode), f"{words}: {done.returncode}: {done.stderr}"
        return done

    @staticmethod
    def system(*words: object) -> None:
        """Run a program of the system."""
        subprocess.run(list(map(str, words)), check=True, timeout=COMMAND_SECONDS)

    def place(self, name: str = "mnt") -> Path:
        """Make a folder to mount on."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return place

    def mount(self, reference: str, *words: object, at: Path | None = None) -> Path:
        """Mount a dataset, or with ``""`` all; return where."""
        place = self.place() if at is None else at
        self.cachefs("mount", *words, *([reference] if reference else ["--all"]), place)
        return place

    def listed(self) -> list[dict]:
        """Return what ``mount list`` says of this test's mounts; others may be on the machine."""
        found = json.loads(self.cachefs("mount", "list", "--json").stdout)
        return [each for each in found if Path(each["mountpoint"]).is_relative_to(self.folder)]

    def record(self, place: Path):
        """Return what the keeper wrote down of a mount last."""
        return next(record for _, record in self.run_folders.all() if record.mountpoint == place)

    def wait_for_restart(self, place: Path, restarts: int, seconds: float = 20.0):
        """Wait until another process serves; return the record."""
        wait_for(
            lambda: self.record(place).restarts > restarts,
            seconds,
            what=lambda: f"nobody took over: {self.logs()}",
        )
        return self.record(place)

    def logs(self) -> str:
        return "\n".join(
            folder.log.read_text() for folder, _ in self.run_folders.all() if folder.log.exists()
        )

    def processes(self) -> list[int]:
        """Return the processes of this test's mounts that still run, however they were started."""
        return processes_below(self.run_folders.path)

    def close(self) -> None:
        """Unmount and end everything, whatever state it is in; fail if that does not work."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        for entry in reversed(mounts_below(self.folder)):
            blocking.unmount(entry.mountpoint, flags=blocking.FORCED, seconds=5)
            if find_mount(entry.mountpoint) is not None:
                blocking.unmount(entry.mountpoint, flags=blocking.DETACHED, seconds=5)
        wait_for(lambda: not self.processes(), 10, what="a mount's process does not end")
        assert not mounts_below(self.folder), "a mount is left"
        shutil.rmtree(self.run_folders.path, ignore_errors=True)


def mounts_below(folder: Path):
    """Return the mounts of ours below a folder."""
    return [
        entry
        for entry in read_table()
        if entry.type.startswith("fuse") and entry.mountpoint.is_relative_to(folder)
    ]


def processes_below(folder: Path) -> list[int]:
    """Return the processes of mounts whose arguments name something below a folder."""
    wanted = os.fsencode(folder) + b"/"
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            words = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
            stat = (process / "stat").read_text() if wanted in words else ""
            if b"cachefs.fuse" in words and wanted in words and ") Z" not in stat:
                found.append(int(process.name))
    return found
