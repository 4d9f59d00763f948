"""Places: where the programs of steps have their rooms, and what they are given."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from cachefs.core.names import printable
from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.spec.references import looks_secret
from cachefs.dataflow.steps.programs.rooms import MountFor, Program, Rooms, tail
from cachefs.dataflow.steps.programs.runner import mounted
from cachefs.errors import ConfigError
from cachefs.ports import Runtime

_SECRET_BYTES_MAX = 64 * 1024
_TRIM_SECONDS = 3600.0
_OWN = "CACHEFS_"
_PASSED = ("CACHEFS_RUN",)
"""Where mounts are known: those of programs are listed with all others."""
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSettings:
    """How this coordinator runs programs."""

    folder: Path | None
    """Where rooms are; ``None``: nowhere, and no program is run."""
    allowed: bool
    """Whether flows may run programs at all."""
    environment: Mapping[str, str]
    """The coordinator's own. Programs get it without what is called like a secret."""
    state: Path | None
    """The state folder, so that the SDK and the command work in programs as they are."""
    log_bytes: int
    kept_seconds: float
    """Rooms of runs are removed when nothing happened in them for so long."""
    tethered: bool
    """Whether programs end with this process: where another machine may go on with its runs."""
    mounting: tuple[str, ...] = ()
    """The command that mounts ``DATASET FOLDER`` and serves it; none where nothing can be mounted."""
    code: Path = Path("/")
    """Where that command is run."""


class StepLog(NamedTuple):
    """What a program of a step wrote."""

    attempt: int
    text: str
    """Its end, from a line's beginning."""


class Places:
    """The rooms of one coordinator. Safe from any thread."""

    def __init__(self, rooms: Rooms, runtime: Runtime, settings: ProgramSettings) -> None:
        """Use a folder."""
        self.rooms = rooms
        self.tethered = settings.tethered
        self._runtime = runtime
        self._settings = settings
        self._trimmed_at = runtime.monotonic()

    def room(self, context: StepContext) -> Path:
        """Return the room of an attempt.

        Raises:
            ConfigError: No program may be run here.
        """
        return self.folder() / "runs" / context.key / str(context.attempt)

    def earlier(self, context: StepContext) -> list[Path]:
        """Return the rooms of the attempts before this one."""
        mine = self.room(context)
        try:
            names = [one.name for one in mine.parent.iterdir()]
        except FileNotFoundError:
            return []
        return [
            mine.parent / name for name in names if name.isdecimal() and int(name) < context.attempt
        ]

    def log(self, key: str, attempt: int | None, size: int) -> StepLog | None:
        """Return the end of what the program of a step wrote; ``None`` if there is none here."""
        if not self._settings.allowed or self._settings.folder is None:
            return None
        folder = self.folder() / "runs" / key
        try:
            known = [int(one.name) for one in folder.iterdir() if one.name.isdecimal()]
        except FileNotFoundError:
            return None
        chosen = max(known, default=0) if attempt is None else attempt
        return StepLog(chosen, tail(folder / str(chosen), size)) if chosen in known else None

    def target(self, namespace: str, name: str) -> Path:
        """Return the folder of a rollout's target.

        Raises:
            ConfigError: As for :meth:`room`.
        """
        return self.folder() / "targets" / namespace / name

    def folder(self) -> Path:
        """Return the folder of all rooms.

        Raises:
            ConfigError: No program may be run here.
        """
        if not self._settings.allowed:
            raise ConfigError(
                "this coordinator runs no programs",
                hint="coordinator.flows.processes is false, or handed_out is true",
            )
        if self._settings.folder is None:
            raise ConfigError(
                "this coordinator has no folder for programs",
                hint="start it with `cachefs up`, or set CACHEFS_STATE",
            )
        return self._settings.folder

    def program(
        self,
        context: StepContext,
        command: tuple[str, ...],
        *,
        workdir: Path,
        variables: Mapping[str, str],
        ready_line: str = "",
        ready_after: float = 0.0,
        mounts: Mapping[str, str] = _NOTHING,
    ) -> Program:
        """Return a program with all that it is given.

        Args:
            context: Of the step that it is for.
            command: The program and its arguments.
            workdir: Where it runs.
            variables: Its own, over those that all have.
            ready_line: What it writes when it is ready; empty if it says nothing.
            ready_after: Seconds that it lives until it is ready, then.
            mounts: Folder → dataset that is mounted on it.
        """
        return Program(
            command=command,
            workdir=os.fspath(workdir),
            environment={
                **self._inherited(),
                "CACHEFS_RUN_ID": context.run,
                "CACHEFS_STEP": context.step,
                "CACHEFS_ATTEMPT": str(context.attempt),
                "CACHEFS_NAMESPACE": context.namespace,
                **variables,
            },
            ready_line=ready_line,
            ready_after=ready_after,
            log_bytes=self._settings.log_bytes,
            tethered=self.tethered,
            mounts=tuple(self._mount_for(path, dataset) for path, dataset in mounts.items()),
        )

    def _mount_for(self, path: str, dataset: str) -> MountFor:
        if not self._settings.mounting:
            raise ConfigError(
                "nothing can be mounted for programs here",
                hint="programs can use the SDK, or what `cachefs mount` has mounted before",
            )
        command = (*self._settings.mounting, dataset, path)
        return MountFor(path, command, os.fspath(self._settings.code))

    def revealed(self, reference: str) -> str:
        """Return the secret that a reference leads to on this machine.

        Raises:
            ConfigError: There is none.
        """
        return reveal(reference, self._settings.environment)

    def trim(self) -> None:
        """Now and then, remove the rooms of runs in which nothing has happened for long."""
        now = self._runtime.monotonic()
        if now - self._trimmed_at < _TRIM_SECONDS:
            return
        self._trimmed_at = now
        before = self._runtime.wall() - self._settings.kept_seconds
        elsewhere = mounted()
        for run in (self.folder() / "runs").iterdir():
            if any(path.startswith(f"{run}/") for path in elsewhere):
                continue  # it lives, or has left what must be taken off first
            newest = max((file.lstat().st_mtime for file in run.rglob("*")), default=0.0)
            if newest < before:
                shutil.rmtree(run, ignore_errors=True)

    def _inherited(self) -> dict[str, str]:
        given = {
            name: value
            for name, value in self._settings.environment.items()
            if (not name.startswith(_OWN) or name in _PASSED) and not looks_secret(name)
        }
        if self._settings.state is not None:
            given["CACHEFS_STATE"] = os.fspath(self._settings.state)
        return given


def reveal(reference: str, environment: Mapping[str, str]) -> str:
    """Return the secret that ``env:NAME`` or ``file:/PATH`` leads to.

    Raises:
        ConfigError: There is none, or it is not one line.
    """
    kind, _, name = reference.partition(":")
    if kind == "secret":
        raise ConfigError(
            "only a cluster has such secrets",
            subject=reference,
            hint="write env:NAME or file:/PATH",
        )
    if kind == "env":
        value = environment.get(name, "")
    else:
        try:
            with Path(name).open(encoding="utf-8") as file:
                value = file.read(_SECRET_BYTES_MAX)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "a secret cannot be read", subject=printable(name), hint=type(error).__name__
            ) from error
    value = value.strip()
    if not value or any(not character.isprintable() for character in value):
        raise ConfigError("there is no such secret, or not one line", subject=reference)
    return value
