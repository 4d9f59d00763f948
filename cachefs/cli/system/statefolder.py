"""The state folder: all that one ``cachefs up`` keeps, and who may use it.

====================  ========================================================================
``token``             the bearer token, 0600; made once and kept
``endpoints/``        the keys of the gateway's endpoints, 0600, which follow from the token
``cluster.json``      where the running system is (:mod:`cachefs.config.discovery`)
``plan.json``         what ``up`` was asked for, so that the next ``up`` goes on with it
``lock``              locked by the supervisor while it runs
``workers.json``      the workers of this machine, and which of them are on their way out
``processes.json``    the supervisor and its children, each with pid and start time
``config/*.json``     what each process was told
``logs/*.log``        what each process said; one older file of each is kept
``coordinator/``      the embedded store
``flows/``            programs that flows run: their records and logs
``workers/NAME/``     a worker's identity and its disk tier
====================  ========================================================================

The folder is closed to others (0700). A memory tier is on tmpfs, under a name that is derived from
the state folder's path, and goes away with ``down``; everything else stays, so that the next ``up``
finds datasets and blocks.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cachefs.config.discovery import CLUSTER_FILE, ENDPOINTS_FOLDER, FLOWS_FOLDER, TOKEN_FILE
from cachefs.config.secrets import make_token
from cachefs.core.names import printable
from cachefs.errors import ConfigError, ConflictError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's tmpfs; our folder in it is ours alone


class StateFolder:
    """The paths of one state folder, and what is done with them."""

    def __init__(self, path: Path) -> None:
        """Name a folder; nothing is touched yet."""
        self.path = path
        self.token = path / TOKEN_FILE
        self.cluster = path / CLUSTER_FILE
        self.endpoints = path / ENDPOINTS_FOLDER
        self.plan = path / "plan.json"
        self.processes = path / "processes.json"
        self.roster = path / "workers.json"
        self.logs = path / "logs"
        self.store = path / "coordinator" / "cachefs.db"
        self.programs = path / FLOWS_FOLDER
        """Programs that flows run."""
        self._lock = path / "lock"
        name = hashlib.blake2b(os.fsencode(path), digest_size=6).hexdigest()
        self.memory = SHARED_MEMORY / f"cachefs-{os.getuid()}-{name}"
        """Where the workers' memory tiers are."""

    def config(self, name: str) -> Path:
        """Return the configuration file of a process."""
        return self.path / "config" / f"{name}.json"

    def worker(self, name: str) -> Path:
        """Return the folder of a worker."""
        return self.path / "workers" / name

    def prepare(self) -> None:
        """Make the folder, closed to others, and its token.

        Raises:
            ConfigError: It cannot be made, is not ours, or others may enter it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_private(self.path)
            for folder in (self.path / "config", self.logs, self.store.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileExistsError):
                make_token(self.token)
        except OSError as error:
            raise ConfigError(
                f"cannot make the state folder: {(error.strerror or str(error)).lower()}",
                subject=printable(str(self.path)),
                hint="name another one with --state or CACHEFS_STATE",
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process, which is then the only supervisor on it.

        Raises:
            ConflictError: Another supervisor holds it.
        """
        with self._lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConflictError(
                    "cachefs is running already",
                    subject=printable(str(self.path)),
                    hint="`cachefs status` shows it, `cachefs down` stops it",
                ) from error
            yield

    def is_locked(self) -> bool:
        """Say whether a supervisor runs on this folder."""
        try:
            with self._lock.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def clean_up(self) -> None:
        """Remove what only means something while the system runs; idempotent."""
        for file in (self.cluster, self.processes, *self.path.glob("workers/*/socket/*")):
            file.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            check_private(self.memory)
            shutil.rmtree(self.memory)


def check_private(folder: Path) -> None:
    """Make sure that a folder is ours and closed to others.

    Raises:
        ConfigError: It is not.
        FileNotFoundError: There is none.
    """
    status = folder.lstat()
    subject = printable(str(folder))
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigError("is not a folder of ours", subject=subject, hint="choose another one")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            "others may enter the folder", subject=subject, hint=f"chmod 700 {subject}"
        )


def write_json(path: Path, document: Any) -> None:  # Any: a JSON document
    """Replace a file whole, so that a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(document, indent=2) + "\n")
    partial.replace(path)


def read_json(path: Path) -> Any:  # Any: a JSON document
    """Return a file's document, or ``None`` if there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
