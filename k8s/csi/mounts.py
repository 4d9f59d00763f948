"""``python -m cachefs.k8s.csi.mounts``: the node's mount of all datasets, as its daemon set runs it.

It finds the system, writes down what the mount's processes are told, and becomes the keeper
(:mod:`cachefs.fuse.keeping`), which takes over what the driver's shelf has, or mounts. What is dead is cleared away
before; what somebody holds is left alone. While the coordinator is down, what was written down the last time is used
again, so that a mount is taken over all the same.
"""

import argparse
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from cachefs.client.connecting import cluster_of
from cachefs.config.discovery import Endpoint, discover
from cachefs.config.load import load
from cachefs.config.schema import ClusterConfig, MountConfig, MountPlan, ReaderConfig
from cachefs.errors import CacheFSError, ConfigError, CoordinatorUnavailableError
from cachefs.fuse.engines.choice import NATIVE, choose, look_around
from cachefs.fuse.keeping.deposit import ask
from cachefs.fuse.keeping.servers import CODE, module_command
from cachefs.fuse.mounts.mount import DEAD, FROZEN, find_mount_at, unmount
from cachefs.fuse.mounts.runfolder import MountRecord, RunFolder, RunFolders
from cachefs.fuse.mounts.table import find_mount
from cachefs.k8s.csi.places import Places, add_arguments, places_of, prepare_run_folder
from cachefs.ports import Runtime
from cachefs.telemetry import logs
from cachefs.transport.api import Api
from cachefs.transport.processes import ProcessRecord
from cachefs.transport.runtime import ThreadRuntime

SOURCE = "cachefs"
_RETRY_SECONDS = 2.0
_SHELF_SECONDS = 30.0
"""How long a driver that starts may take until its shelf answers, if somebody holds the mount."""
_ALL = 0

_log = logging.getLogger("cachefs.csi")


def draw_up(places: Places) -> tuple[ClusterConfig, MountPlan]:
    """Return what the mount's processes are told.

    Raises:
        ConfigError: A setting or the machine will not do.
        CacheFSError: The coordinator does not answer.
    """
    settings = load(file=None, environment=os.environ)
    config = settings.build("mount", MountConfig)
    choice = choose(NATIVE, look_around(), follow_current=True)
    endpoint = discover(os.environ)
    cluster = cluster_of(endpoint)
    return cluster, MountPlan(
        mountpoint=places.mount,
        source=SOURCE,
        dataset="",
        version="",
        engine=choice.engine,
        engine_reason=choice.reason,
        recovery=config.recovery and choice.recovery,
        uid=_ALL,
        gid=_ALL,
        umask=0,
        allow_other=True,
        follow_current=True,
        state_folder=None,
        coordinator=endpoint.coordinator,
        workers=_workers(endpoint),
        token_file=_token_file(),
        settings=config,
        reader=settings.build("reader", ReaderConfig),
    )


def prepare(runtime: Runtime, places: Places) -> list[str]:
    """Make everything ready; return the command of the keeper.

    Raises:
        ConfigError: It will never do.
        CacheFSError: It does not do just now.
    """
    prepare_run_folder(places)
    folder = RunFolder(places.mount_run)
    folder.path.mkdir(mode=0o700, exist_ok=True)
    try:
        cluster, plan = draw_up(places)
    except CoordinatorUnavailableError:
        cluster, plan = folder.read_plan()
        _log.warning("the coordinator does not answer: going on with what it said the last time")
    _clear_away(runtime, places)
    if find_mount(places.mount) is None:  # Else it must not be touched: nobody may serve it.
        places.mount.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = folder.read()
    folder.write_plan(cluster, plan)
    folder.write(
        MountRecord(
            mountpoint=plan.mountpoint,
            source=plan.source,
            engine=plan.engine,
            engine_reason=plan.engine_reason,
            recovery=plan.recovery,
            since=runtime.wall() if before is None else before.since,
            state=plan.coordinator,
            keeper=ProcessRecord.of("keeper", os.getpid()),
            restarts=0 if before is None else before.restarts,
        )
    )
    words = ["--folder", folder.path, "--shelf", places.shelf, "--sign", places.sign]
    return module_command("cachefs.fuse.keeping", *map(str, words))


def _clear_away(runtime: Runtime, places: Places) -> None:
    """Remove a mount that nobody can take over."""
    folders = RunFolders(places.run)
    until = runtime.monotonic() + _SHELF_SECONDS
    while True:
        said = ask(places.shelf)
        if said is not None and said["holds"]:
            return
        try:
            found = find_mount_at(folders, places.mount)
        except CacheFSError:
            return
        # A shelf that has just begun gets its copies within a second, if somebody serves.
        if found.state == DEAD or runtime.monotonic() > until:
            _log.warning("clearing away a mount that nobody holds", extra={"state": found.state})
            unmount(runtime, found, force=found.state == FROZEN, lazily=found.state != FROZEN)
            return
        runtime.sleep(_RETRY_SECONDS)


def _workers(endpoint: Endpoint) -> tuple[str, ...]:
    with suppress(CacheFSError, LookupError):
        members = Api(endpoint.coordinator, endpoint.token).get("/v1/view")["members"]
        return tuple(str(member["data_address"]) for member in members)
    return ()


def _token_file() -> Path:
    named = os.environ.get("CACHEFS_TOKEN_FILE")
    if not named:
        raise ConfigError("CACHEFS_TOKEN_FILE does not name the token's file")
    return Path(named)


def main() -> int:
    """Become the keeper; return only if that will never be."""
    parser = argparse.ArgumentParser(prog="python -m cachefs.k8s.csi.mounts")
    add_arguments(parser)
    places = places_of(parser.parse_args())
    logs.configure("mounts", as_json=True)
    runtime = ThreadRuntime()
    while True:
        try:
            command = prepare(runtime, places)
        except CoordinatorUnavailableError as error:
            _log.warning("waiting for the coordinator", extra={"failure": str(error)})
        except (CacheFSError, OSError) as error:
            sys.stderr.write(f"{' '.join(str(error).split())}\n")
            return 1
        else:
            os.chdir(CODE)
            os.execv(command[0], command)  # noqa: S606 - our own arguments, and no shell
        runtime.sleep(_RETRY_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
