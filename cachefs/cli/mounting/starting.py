"""From a request to a mount: everything that could be wrong is looked at before anything starts.

Then the mount's run folder is written, and its keeper started, which says on a pipe when the mount is
there or why not. In the foreground, this process becomes the keeper.
"""

import os
import select
import signal
import subprocess
from contextlib import suppress

from cachefs.cli.mounting.listing import run_folders, system_of
from cachefs.cli.mounting.places import free_folder, prune
from cachefs.cli.mounting.plans import draw_up
from cachefs.cli.mounting.request import Request
from cachefs.cli.rendering import say
from cachefs.config.schema import MountPlan
from cachefs.errors import CacheFSError, ClusterError
from cachefs.fuse.engines.choice import Choice
from cachefs.fuse.keeping.servers import CODE, module_command
from cachefs.fuse.mounts.runfolder import MountRecord, RunFolder
from cachefs.transport.processes import ProcessRecord
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire import failures

_WAIT_SECONDS = 15.0
"""For the keeper's own part of a start, besides the server's."""


def make_mount(request: Request) -> None:
    """Mount, and return when the mount is there; in the foreground, never.

    Raises:
        ConfigError: The folder, a flag or the machine will not do.
        ConflictError: Something of ours is mounted there.
        NotKnownError: There is no such dataset or version.
        CoordinatorUnavailableError: The system does not run.
        CacheFSError: The mount failed.
    """
    runtime, folders = ThreadRuntime(), run_folders()
    cluster, plan, choice = draw_up(request)
    if free_folder(runtime, folders, plan, nonempty=request.nonempty):
        say(f"{plan.source} is mounted on {plan.mountpoint} already")
        return
    with folders.locked(runtime, seconds=_WAIT_SECONDS):
        prune(folders)
        folder = folders.create(plan.mountpoint)
        record = MountRecord(
            mountpoint=plan.mountpoint,
            source=plan.source,
            engine=plan.engine,
            engine_reason=plan.engine_reason,
            recovery=plan.recovery,
            since=runtime.wall(),
            state=system_of(plan.state_folder, plan.coordinator),
            log="" if request.foreground else os.fspath(folder.log),
            # Until the keeper writes itself down: nobody shall take the folder for a dead mount's.
            keeper=ProcessRecord.of("keeper", os.getpid()),
        )
        folder.write(record)
    try:
        folder.write_plan(cluster, plan)
        if request.foreground:
            _become_keeper(folder)
        _start_keeper(folder, plan)
    except BaseException:
        folder.remove()
        raise
    recovery = "with recovery" if plan.recovery else f"without recovery ({_why_not(choice)})"
    say(f"{plan.source} is mounted on {plan.mountpoint}: {plan.engine}, {recovery}")


def _why_not(choice: Choice) -> str:
    return choice.recovery_reason or "switched off"


def _become_keeper(folder: RunFolder) -> None:
    os.chdir(CODE)
    command = module_command("cachefs.fuse.keeping", "--folder", os.fspath(folder.path))
    os.execv(command[0], command)  # noqa: S606 - our own arguments, and no shell


def _start_keeper(folder: RunFolder, plan: MountPlan) -> None:
    """Start the keeper in the background and wait until it says how it went."""
    reading, writing = os.pipe()
    words = ["--folder", os.fspath(folder.path), "--ready-descriptor", str(writing)]
    with folder.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own arguments, and no shell
            module_command("cachefs.fuse.keeping", *words),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=CODE,
            start_new_session=True,
            pass_fds=[writing],
        )
    os.close(writing)
    seconds = plan.settings.start_seconds + _WAIT_SECONDS
    with os.fdopen(reading) as pipe:
        try:
            said = pipe.readline() if select.select([pipe], [], [], seconds)[0] else ""
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            process.wait(seconds)
            raise
    word, _, rest = said.strip().partition(" ")
    if word == "ready":
        return
    process.terminate()
    process.wait(seconds)
    raise _failure(folder, rest)


def _failure(folder: RunFolder, text: str) -> CacheFSError:
    if text:
        return failures.decode(text.encode())
    last_words = ""
    with suppress(OSError):
        last_words = folder.log.read_text(errors="replace").strip().rpartition("\n")[2]
    return ClusterError("the keeper ended without a word", hint=last_words)
