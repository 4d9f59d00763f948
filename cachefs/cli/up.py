"""``cachefs up`` and ``cachefs down``: one machine's coordinator, workers and endpoints.

``up`` is the supervisor itself. With ``--detach`` it starts the same command again in a session of
its own, waits until that one says ``ready`` (or why not) on a pipe, and ends; so both ways run the
same code.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cachefs.cli import options
from cachefs.cli.rendering import say
from cachefs.cli.system.statefolder import StateFolder
from cachefs.errors import CacheFSError, ClusterError

_READY_SECONDS = 60.0
_DOWN_SECONDS = 30.0
_Gateway = Annotated[
    bool | None,
    typer.Option(
        "--gateway/--no-gateway",
        help="Endpoints for programs that know S3 or the Hugging Face Hub. (default: on)",
        show_default=False,
    ),
]


def up(
    *,
    state: options.State = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Worker processes. (default: 1)")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="Memory tier of all workers together, on /dev/shm: 4GiB. "
            "(default: none; the kernel keeps what is read from disk in memory anyway)",
        ),
    ] = None,
    disk: Annotated[
        str | None,
        typer.Option(
            "--disk",
            metavar="SIZE",
            help="Disk tier of all workers together: 50GiB. "
            "(default: half of what is free, at most 50GiB)",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="The coordinator's store: postgresql://… (default: SQLite in the state folder)",
        ),
    ] = None,
    gateway: _Gateway = None,
    config: options.Config = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once everything runs in the background.")
    ] = False,
    ready_descriptor: Annotated[int | None, typer.Option("--ready-descriptor", hidden=True)] = None,
) -> None:
    """Start a coordinator, workers and endpoints on this machine, and keep them running.

    What is not given is as it was at the last start with the same state folder. `cachefs down`, or
    Ctrl-C without --detach, stops everything; datasets and blocks on disk stay, and so do workers
    that were there before: `cachefs scale` takes some away.
    """
    from cachefs.config.discovery import state_folder
    from cachefs.config.units import parse_size

    folder = StateFolder(state_folder(os.environ, state))
    flags: dict[str, int | str | None] = {
        "workers": workers,
        "memory_bytes": None if memory is None else parse_size(memory),
        "disk_bytes": None if disk is None else parse_size(disk),
        "store_url": store,
        "gateway": gateway,
    }
    if detach:
        given = {"--workers": workers, "--memory": memory, "--disk": disk, "--config": config}
        words = [str(word) for flag in given.items() if flag[1] is not None for word in flag]
        if gateway is not None:
            words.append("--gateway" if gateway else "--no-gateway")
        _detach(folder, words, store)
        return
    from cachefs.cli.system.local import run_system

    # The detached parent hands the store's URL over by environment: it may hold a password, and
    # arguments can be read by everyone on the machine.
    flags["store_url"] = store or os.environ.pop("CACHEFS_STORE_URL", None)
    run_system(folder, flags, config=config, ready_descriptor=ready_descriptor)


def _detach(folder: StateFolder, words: Sequence[str], store: str | None) -> None:
    """Start the supervisor in the background and wait until it says how it went."""
    folder.prepare()
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "cachefs.cli", "up", "--state", str(folder.path), *words]
    environment = dict(os.environ) | ({"CACHEFS_STORE_URL": store} if store else {})
    with (folder.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command, and no shell
            [*command, "--ready-descriptor", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            pass_fds=[writing],
        )
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            word, _, rest = pipe.readline().partition(" ")
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    if word == "ready":
        for line in json.loads(rest):
            say(line)
        return
    process.wait()
    raise _failure(rest, folder.logs / "supervisor.log")


def _failure(text: str, log: Path) -> CacheFSError:
    from cachefs.wire import failures

    try:
        return failures.from_document(json.loads(text))
    except ValueError:
        return ClusterError("the supervisor ended without a word", hint=f"see {log}")


def down(state: options.State = None) -> None:
    """Stop what `cachefs up` started here. Datasets and blocks on disk stay.

    Mounts of it are unmounted first; one that is in use stays, and you are told by whom.
    """
    from cachefs.cli.mounting.listing import unmount_idle
    from cachefs.cli.system.local import stop_system
    from cachefs.config.discovery import state_folder

    folder = StateFolder(state_folder(os.environ, state))
    unmount_idle(folder.path)
    if stop_system(folder, seconds=_DOWN_SECONDS):
        say("stopped")
    else:
        say(f"cachefs is not running on {folder.path}")
