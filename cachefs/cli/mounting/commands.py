"""``cachefs mount`` and ``cachefs umount``: datasets as files, for any program.

``mount list`` shares the word ``mount`` with datasets: a dataset that is called ``list`` is
``default/list``.
"""

from typing import Annotated

import typer

from cachefs.cli import options
from cachefs.cli.mounting.listing import run_folders, show_list
from cachefs.cli.rendering import say
from cachefs.errors import ConfigError

LIST = "list"

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
    from cachefs.cli.mounting.request import Request
    from cachefs.cli.mounting.starting import make_mount

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
