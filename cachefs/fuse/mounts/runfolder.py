"""The run folder: what the processes of a mount leave for commands to read.

Below :func:`cachefs.config.discovery.run_folder` is a folder for each mount, closed to others:

==============  ===================================================================================
``plan.json``   what the processes were told
``mount.json``  who they are and how they are (:class:`MountRecord`), replaced whole by the keeper
``log``         what they said, and ``log.1`` what they said before
``versions/``   manifests of what was shown, for a successor that finds nobody to ask
==============  ===================================================================================

The keeper removes the folder when the mount has ended well. One that stays behind belongs to a mount
that died: ``cachefs umount`` and ``cachefs doctor --fix`` remove it.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cachefs.config.files import from_document, read_process_config, write_process_config
from cachefs.config.schema import ClusterConfig, MountPlan
from cachefs.core.names import printable
from cachefs.errors import CacheFSError, ConfigError, ConflictError
from cachefs.ports import Runtime
from cachefs.transport.processes import ProcessRecord

_SECTION = "mount"
_POLL_SECONDS = 0.02
_LOG_BYTES_MAX = 1024 * 1024
"""Of ``log`` and of ``log.1`` each; a run folder may be in memory."""


@dataclass(frozen=True, slots=True)
class MountRecord:
    """What is known of a mount, by its keeper."""

    mountpoint: Path
    source: str
    engine: str
    engine_reason: str
    recovery: bool
    since: float
    """Seconds since 1970."""
    device: str = ""
    """``major:minor`` in the mount table; empty before it is mounted."""
    state: str = ""
    """The state folder of the system, or the coordinator's address."""
    log: str = ""
    """Where the processes log, if not to a terminal."""
    keeper: ProcessRecord | None = None
    server: ProcessRecord | None = None
    restarts: int = 0
    """How often another process took over, upgrades included."""
    failure: str = ""
    """Why it has ended, if it has not ended well."""

    @property
    def processes(self) -> tuple[ProcessRecord, ...]:
        """Those that were running when the record was written."""
        return tuple(each for each in (self.keeper, self.server) if each is not None)

    @property
    def alive(self) -> bool:
        """Whether one of its processes runs."""
        return any(process.alive for process in self.processes)


class RunFolder:
    """The folder of one mount."""

    def __init__(self, path: Path) -> None:
        """Name a folder; nothing is touched."""
        self.path = path
        self.plan = path / "plan.json"
        self.log = path / "log"
        self.versions = path / "versions"
        self._record = path / "mount.json"

    def write_plan(self, cluster: ClusterConfig, plan: MountPlan) -> None:
        """Write what the processes are told; nothing in it is secret."""
        write_process_config(self.plan, _SECTION, cluster, plan)

    def read_plan(self) -> tuple[ClusterConfig, MountPlan]:
        """Read what the processes are told.

        Raises:
            ConfigError: It is not there or does not fit.
        """
        return read_process_config(self.plan, _SECTION, MountPlan)

    def write(self, record: MountRecord) -> None:
        """Replace the record whole, so that nobody reads half of it."""
        partial = self._record.with_suffix(".partial")
        document = {**asdict(record), "mountpoint": str(record.mountpoint)}
        partial.write_text(json.dumps(document, indent=2) + "\n")
        partial.replace(self._record)

    def read(self) -> MountRecord | None:
        """Return the record; ``None`` if there is none, or not one of ours."""
        try:
            document = json.loads(self._record.read_text())
            keeper, server = _process(document.pop("keeper")), _process(document.pop("server"))
            record = from_document(MountRecord, document)
            return replace(record, keeper=keeper, server=server)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, CacheFSError):
            return None

    def bound_log(self) -> None:
        """Begin the log anew once it is too large.

        Its writers append, so they go on at its new beginning; what one of them writes between the
        copy and the cut is lost.
        """
        with suppress(OSError):
            if self.log.stat().st_size > _LOG_BYTES_MAX:
                shutil.copyfile(self.log, self.log.with_suffix(".1"))
                os.truncate(self.log, 0)

    def remove(self) -> None:
        """Remove the folder and all that is in it; idempotent."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path)


class RunFolders:
    """The run folders of one user's mounts."""

    def __init__(self, path: Path) -> None:
        """Name the folder above them; nothing is touched."""
        self.path = path

    def create(self, mountpoint: Path) -> RunFolder:
        """Make a new folder for a mount.

        Raises:
            ConfigError: It cannot be made, is not ours, or others may enter it.
        """
        self._prepare()
        digest = hashlib.blake2b(os.fsencode(mountpoint), digest_size=6).hexdigest()
        # Two mount namespaces may have the same path, and a mount that died may have left a folder.
        folder = self.path / f"{digest}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        return RunFolder(folder)

    def all(self) -> Iterator[tuple[RunFolder, MountRecord]]:
        """Yield every mount's folder and record."""
        with suppress(FileNotFoundError):
            for path in sorted(self.path.iterdir()):
                folder = RunFolder(path)
                record = folder.read()
                if record is not None:
                    yield folder, record

    @contextmanager
    def locked(self, runtime: Runtime, *, seconds: float) -> Iterator[None]:
        """Hold what only one mount command of this user may do at a time.

        Raises:
            ConflictError: Another one holds it for longer than ``seconds``.
        """
        self._prepare()
        give_up = runtime.monotonic() + seconds
        with (self.path / "lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if runtime.monotonic() > give_up:
                        raise ConflictError("another mount is being made just now") from error
                runtime.sleep(_POLL_SECONDS)
            yield

    def _prepare(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.path.lstat()
        except OSError as error:
            raise ConfigError(
                "cannot make the run folder",
                subject=printable(str(self.path)),
                hint=f"{error.strerror}; CACHEFS_RUN names another one",
            ) from error
        closed = not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        if not (stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and closed):
            raise ConfigError(
                "is not a folder that is ours and closed to others",
                subject=printable(str(self.path)),
                hint="chmod 700 it, or name another one with CACHEFS_RUN",
            )


def _process(document: Any) -> ProcessRecord | None:  # Any: what the file holds
    return None if document is None else ProcessRecord.read([document])[0]
