"""``cachefs mount`` and ``cachefs umount``: datasets as files, for any program.

``mount`` looks at everything that could be wrong before anything is started, writes the mount's run
folder, and starts its keeper, which says on a pipe when the mount is there or why not. With
``--foreground`` this process becomes the keeper. ``mount list`` shares the word ``mount`` with
datasets: a dataset that is called ``list`` is ``default/list``.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json, print_table, say
from cachefs.errors import CacheFSError, ClusterError, ConfigError, ConflictError

if TYPE_CHECKING:
    from cachefs.config.discovery import Endpoint
    from cachefs.config.schema import MountPlan
    from cachefs.fuse.engines.choice import Choice
    from cachefs.fuse.mounts.mount import Mount
    from cachefs.fuse.mounts.runfolder import RunFolder, RunFolders

LIST = "list"
ALL_SOURCE = "cachefs"
"""What the mount table shows as the source of a mount of all datasets."""
_WAIT_SECONDS = 15.0
"""For the keeper's own part of a start, besides the server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What shall be mounted, and how; ``None`` and empty where nothing was said."""

    reference: str
    """Empty for all datasets."""
    folder: str
    state: Path | None = None
    config: Path | None = None
    engine: str | None = None
    read_ahead: str | None = None
    recovery: bool | None = None
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: str = "0"
    follow_current: bool = False
    nonempty: bool = False
    foreground: bool = False


Words = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME[@VERSION] DIR",
        help="A dataset, and the folder where its files shall be; or `list`.",
    ),
]
ShowAll = Annotated[
    bool, typer.Option("--all", help="Mount all datasets, as DIR/NAMESPACE/NAME; give only DIR.")
]
Foreground = Annotated[bool, typer.Option("--foreground", "-f", help="Stay; Ctrl-C unmounts.")]
FollowCurrent = Annotated[
    bool,
    typer.Option(
        "--follow-current", help="New opens see a dataset's new version; open files keep theirs."
    ),
]
AllowOther = Annotated[
    bool, typer.Option("--allow-other", help="Let other users read too, by owner and mode.")
]
Uid = Annotated[int | None, typer.Option("--uid", help="Owner of all files. (default: you)")]
Gid = Annotated[int | None, typer.Option("--gid", help="Group of all files. (default: yours)")]
Umask = Annotated[
    str,
    typer.Option("--umask", metavar="OCTAL", help="Taken from 0444 of files, 0555 of folders."),
]
ReadAhead = Annotated[
    str | None,
    typer.Option("--read-ahead", metavar="SIZE", help="The kernel's readahead. (default: 4MiB)"),
]
Engine = Annotated[
    str | None,
    typer.Option("--engine", metavar="auto|native|libfuse", help="Who speaks with the kernel."),
]
NoRecovery = Annotated[
    bool,
    typer.Option("--no-recovery", help="If the serving process dies, so does the mount, at once."),
]
NonEmpty = Annotated[
    bool, typer.Option("--nonempty", help="Hide what is in DIR while it is mounted on.")
]


def mount(
    words: Words,
    *,
    show_all: ShowAll = False,
    foreground: Foreground = False,
    follow_current: FollowCurrent = False,
    allow_other: AllowOther = False,
    uid: Uid = None,
    gid: Gid = None,
    umask: Umask = "0",
    read_ahead: ReadAhead = None,
    engine: Engine = None,
    no_recovery: NoRecovery = False,
    nonempty: NonEmpty = False,
    state: options.State = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show a dataset as files below a folder, or all datasets; or `cachefs mount list`.

    Files are read-only and stay at the version that was mounted. A mount survives the death of the
    process that serves it; `cachefs umount DIR` ends it. A dataset that is called "list" is
    "default/list".
    """
    if words == [LIST] and not show_all:
        show_list(as_json=as_json)
        return
    if as_json:
        raise ConfigError("--json goes with `cachefs mount list`")
    wanted = 1 if show_all else 2
    if len(words) != wanted:
        expected = "--all DIR" if show_all else "NAME[@VERSION] DIR"
        raise ConfigError(f"expected `cachefs mount {expected}`, or `cachefs mount list`")
    if words[0] == LIST and not show_all:
        raise ConfigError(
            "`cachefs mount list` lists mounts",
            hint="the dataset of that name is default/list: `cachefs mount default/list DIR`",
        )
    make_mount(
        Request(
            reference="" if show_all else words[0],
            folder=words[-1],
            state=state,
            config=config,
            engine=engine,
            read_ahead=read_ahead,
            recovery=False if no_recovery else None,
            allow_other=allow_other,
            uid=uid,
            gid=gid,
            umask=umask,
            follow_current=follow_current,
            nonempty=nonempty,
            foreground=foreground,
        )
    )


def umount(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where it is mounted.")],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Even if it is in use: who uses it gets errors.")
    ] = False,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Even if it is in use: open files may be read on.")
    ] = False,
) -> None:
    """Unmount what `cachefs mount` mounted. Never takes longer than some seconds.

    Works on mounts whose processes are dead or frozen, too. If the mount is in use, says by whom,
    and leaves it alone unless told otherwise.
    """
    from cachefs.fuse.mounts.mount import find_mount_at, unmount
    from cachefs.transport.runtime import ThreadRuntime

    if force and lazy:
        raise ConfigError("--force and --lazy exclude each other")
    found = find_mount_at(run_folders(), folder)
    note = unmount(ThreadRuntime(), found, lazily=lazy, force=force)
    say(f"unmounted {found.mountpoint}" + (f"; {note}" if note else ""))


def show_list(*, as_json: bool) -> None:
    """Print the mounts of this machine that this user may know of."""
    from cachefs.fuse.mounts.mount import GONE, list_mounts

    mounts = [each for each in list_mounts(run_folders()) if each.state != GONE]
    if as_json:
        print_json([document_of(each) for each in mounts])
        return
    headings = ("MOUNTPOINT", "SOURCE", "STATE", "ENGINE", "RECOVERY", "RESTARTS>", "PID>")
    print_table(headings, [_row(each) for each in mounts])


def document_of(found: "Mount") -> dict[str, Any]:  # Any: a JSON document
    """Return what ``mount list --json`` says of a mount."""
    record = found.record
    keeper, server = (record.keeper, record.server) if record else (None, None)
    return {
        "mountpoint": os.fspath(found.mountpoint),
        "source": found.source,
        "state": found.state,
        "device": found.entry.device if found.entry else None,
        "engine": record.engine if record else None,
        "engine_reason": record.engine_reason if record else None,
        "recovery": record.recovery if record else None,
        "since": record.since if record else None,
        "restarts": record.restarts if record else None,
        "keeper": keeper.pid if keeper and keeper.alive else None,
        "server": server.pid if server and server.alive else None,
        "system": record.state if record else None,
        "log": record.log if record else None,
        "failure": record.failure if record else "",
    }


def _row(found: "Mount") -> Sequence[object]:
    document = document_of(found)
    recovery = {True: "on", False: "off", None: "-"}[document["recovery"]]
    state = f"{found.state}: {document['failure']}" if document["failure"] else found.state
    numbers = (
        each if each is not None else "-" for each in (document["restarts"], document["server"])
    )
    return (found.mountpoint, found.source, state, document["engine"] or "-", recovery, *numbers)


def run_folders() -> "RunFolders":
    """Return where this user's mounts have their run folders."""
    from cachefs.config.discovery import run_folder
    from cachefs.fuse.mounts.runfolder import RunFolders

    return RunFolders(run_folder(os.environ, os.getuid()))


def mounts_of(endpoint: "Endpoint") -> "list[Mount]":
    """Return the mounts on this machine that read from a system."""
    from cachefs.fuse.mounts.mount import GONE, list_mounts

    name = _system_of(endpoint.state, endpoint.coordinator)
    return [each for each in list_mounts(run_folders(), system=name) if each.state != GONE]


def unmount_idle(state: Path) -> None:
    """Unmount the mounts of a system that stops, but for those in use, of which a person is told."""
    from cachefs.fuse.mounts.mount import list_mounts, unmount
    from cachefs.transport.runtime import ThreadRuntime

    for mount in list_mounts(run_folders(), system=_system_of(state, "")):
        if mount.entry is None:
            continue
        try:
            unmount(ThreadRuntime(), mount)
            say(f"unmounted {mount.mountpoint}")
        except ConflictError as error:
            say(
                f"{error.subject} {error.message}; what is not cached there fails until `cachefs up`"
            )
        except CacheFSError as error:
            say(f"{error.subject}: {error.message}")


def _system_of(state: Path | None, coordinator: str) -> str:
    return coordinator if state is None else os.fspath(state)


def make_mount(request: Request) -> None:
    """Mount, and return when the mount is there; in the foreground, never.

    Raises:
        ConfigError: The folder, a flag or the machine will not do.
        ConflictError: Something of ours is mounted there.
        NotKnownError: There is no such dataset or version.
        CoordinatorUnavailableError: The system does not run.
        CacheFSError: The mount failed.
    """
    from cachefs.cli.mountplans import draw_up
    from cachefs.cli.mountpoints import free_folder, prune
    from cachefs.fuse.mounts.runfolder import MountRecord
    from cachefs.transport.processes import ProcessRecord
    from cachefs.transport.runtime import ThreadRuntime

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
            state=_system_of(plan.state_folder, plan.coordinator),
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


def _why_not(choice: "Choice") -> str:
    return choice.recovery_reason or "switched off"


def _become_keeper(folder: "RunFolder") -> None:
    from cachefs.fuse.keeping.servers import CODE, module_command

    os.chdir(CODE)
    command = module_command("cachefs.fuse.keeping", "--folder", os.fspath(folder.path))
    os.execv(command[0], command)  # noqa: S606 - our own arguments, and no shell


def _start_keeper(folder: "RunFolder", plan: "MountPlan") -> None:
    """Start the keeper in the background and wait until it says how it went."""
    import select

    from cachefs.fuse.keeping.servers import CODE, module_command

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


def _failure(folder: "RunFolder", text: str) -> CacheFSError:
    from cachefs.wire import failures

    if text:
        return failures.decode(text.encode())
    last_words = ""
    with suppress(OSError):
        last_words = folder.log.read_text(errors="replace").strip().rpartition("\n")[2]
    return ClusterError("the keeper ended without a word", hint=last_words)
