"""The checks of ``cachefs doctor``: one function for each thing that can be wrong."""

import importlib.util
import os
import platform
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cachefs.cli.findings import Finding, Level
from cachefs.cli.mounting.checks import check_engine, check_mounts
from cachefs.cli.session import Session
from cachefs.cli.system.statefolder import SHARED_MEMORY, StateFolder, check_private, read_json
from cachefs.cli.worker import lacking_bytes
from cachefs.config.discovery import run_folder, state_folder
from cachefs.config.secrets import read_token
from cachefs.config.units import format_duration, format_size
from cachefs.errors import CacheFSError, ConfigError, CoordinatorUnavailableError
from cachefs.fuse.mounts.runfolder import RunFolders
from cachefs.transport.processes import ProcessRecord

_PYTHON_LEAST = (3, 11)
_KERNEL_LEAST = (4, 18)
"""Older kernels cannot mount FUSE without privilege and miss system calls that we use."""
_FILES_LEAST = 4096
_FREE_SHARE_LEAST = 0.05
_SKEW_SECONDS = 2.0
_CONNECT_SECONDS = 1.0
_LIBRARIES = ("grpc", "fsspec", "s3fs", "obstore", "fastapi", "sqlalchemy", "xxhash")


def examine(environment: Mapping[str, str], state: Path | None) -> Iterator[Finding]:
    """Run all checks, those of the running system only if one can be found."""
    folder = StateFolder(state_folder(environment, state))
    mounts = RunFolders(run_folder(environment, os.getuid()))
    by_address = state is None and "CACHEFS_COORDINATOR" in environment
    local: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("versions", _versions),
        ("mounting", check_engine),
        ("mounts", lambda: check_mounts(mounts)),
        ("open files", _open_files),
        ("memory", _shared_memory),
    ]
    if not by_address:
        local += [
            ("state folder", lambda: _state_folder(folder)),
            ("disk", lambda: _disk(folder)),
            ("processes", lambda: _processes(folder)),
        ]
    for name, check in local:
        yield from _guarded(name, check)
    try:
        session = Session(state)
        session.api.get("/v1/view")
    except CoordinatorUnavailableError as error:
        yield Finding("system", "note", f"not running: {error.message}", error.hint)
        return
    except CacheFSError as error:
        yield Finding("system", "problem", str(error), error.hint)
        return
    yield Finding("system", "ok", f"the coordinator at {session.endpoint.coordinator} answers")
    running: list[tuple[str, Callable[[Session], Iterator[Finding]]]] = [
        ("ports", _ports),
        ("clocks", _clocks),
        ("capacity", _capacity),
    ]
    for name, look in running:
        yield from _guarded(name, lambda look=look: look(session))  # type: ignore[misc]  # a default binds the loop's value


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except (CacheFSError, OSError) as error:
        yield Finding(name, "problem", f"cannot look: {error}")


def _versions() -> Iterator[Finding]:
    python = sys.version_info[:2]
    level: Level = "ok" if python >= _PYTHON_LEAST else "problem"
    yield Finding(
        "python",
        level,
        platform.python_version(),
        "" if level == "ok" else "use Python 3.11 or newer",
    )
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    old = numbers < _KERNEL_LEAST
    yield Finding(
        "kernel", "note" if old else "ok", release, "use Linux 4.18 or newer" if old else ""
    )
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding(
            "libraries",
            "problem",
            f"missing: {', '.join(missing)}",
            "install cachefs-ai again, with its dependencies",
        )
    else:
        yield Finding("libraries", "ok", f"all {len(_LIBRARIES)} that the processes need")


def _open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _FILES_LEAST:
        yield Finding("open files", "ok", f"{soft:,} at once")
        return
    advice = f"ulimit -n {min(hard, 65536)}, before `cachefs up`"
    if hard < _FILES_LEAST:
        advice = f"raise the hard limit, which is {hard:,}: LimitNOFILE=, or limits.conf"
    yield Finding("open files", "problem", f"only {soft:,} at once", advice)


def _shared_memory() -> Iterator[Finding]:
    if not SHARED_MEMORY.is_dir():
        yield Finding(
            "memory",
            "note",
            f"no {SHARED_MEMORY}: there can be no memory tier",
            "mount a tmpfs there",
        )
        return
    usage = shutil.disk_usage(SHARED_MEMORY)
    yield Finding(
        "memory",
        "ok",
        f"{SHARED_MEMORY} has {format_size(usage.free)} free of {format_size(usage.total)}",
    )


def _state_folder(folder: StateFolder) -> Iterator[Finding]:
    if not folder.path.exists():
        yield Finding("state folder", "note", f"{folder.path} does not exist yet")
        return
    try:
        check_private(folder.path)
        if folder.token.exists():
            read_token(folder.token)
    except ConfigError as error:
        yield Finding("state folder", "problem", f"{error.subject}: {error.message}", error.hint)
    else:
        yield Finding("state folder", "ok", f"{folder.path}, closed to others")


def _disk(folder: StateFolder) -> Iterator[Finding]:
    there = next(path for path in (folder.path, *folder.path.parents) if path.exists())
    usage = shutil.disk_usage(there)
    text = f"{format_size(usage.free)} free of {format_size(usage.total)} at {there}"
    if usage.free < usage.total * _FREE_SHARE_LEAST:
        yield Finding("disk", "problem", text, "make room, or use another --state folder")
    else:
        yield Finding("disk", "ok", text)


def _processes(folder: StateFolder) -> Iterator[Finding]:
    records = ProcessRecord.read(read_json(folder.processes))
    dead = [record.name for record in records if not record.alive]
    running = folder.is_locked()
    if running and not dead:
        yield Finding("processes", "ok", f"{len(records)} run, supervisor included")
    elif running:
        yield Finding(
            "processes",
            "problem",
            f"not running: {', '.join(dead)}",
            f"they are being started again; if that goes on, see {folder.logs}",
        )
    elif records or folder.memory.exists():
        yield Finding(
            "processes",
            "problem",
            "the last run was killed and has left things behind",
            "`cachefs down` cleans up; `cachefs up` goes on from there",
        )


def _ports(session: Session) -> Iterator[Finding]:
    members = session.api.get("/v1/members")["members"]
    if not members:
        yield Finding(
            "ports", "problem", "no worker is a member", "start some, or see the workers' logs"
        )
    for member in members:
        for purpose in ("data_address", "control_address"):
            address = member[purpose]
            if failure := _connect(address):
                yield Finding(
                    "ports",
                    "problem",
                    f"{member['worker']} cannot be reached at {address}: {failure}",
                    "is a firewall between here and there? does the worker run?",
                )
                break
        else:
            yield Finding("ports", "ok", f"{member['worker']} answers at {member['data_address']}")


def _connect(address: str) -> str:
    """Return why an address does not take connections; empty if it does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _clocks(session: Session) -> Iterator[Finding]:
    here = session.runtime.wall()
    there = float(session.api.get("/v1/cluster")["now"])
    skew = abs(there - (here + session.runtime.wall()) / 2)
    if skew > _SKEW_SECONDS:
        yield Finding(
            "clocks",
            "problem",
            f"the coordinator's differs from ours by {format_duration(skew)}",
            "leases and deadlines do not depend on it, but times in logs do: run an NTP client",
        )
    else:
        yield Finding("clocks", "ok", f"{format_duration(skew)} from the coordinator's")


def _capacity(session: Session) -> Iterator[Finding]:
    pools: dict[str, float] = {}
    for member in session.api.get("/v1/members")["members"]:
        lacking = lacking_bytes(member)
        if lacking:
            yield Finding(
                "capacity",
                "problem",
                f"{format_size(lacking)} of worker {member['worker']} do not fit on its full disk",
                "delete something else there: the worker takes the room as it becomes free",
            )
        usable = member["weight"] - lacking
        pools[member["pool"]] = pools.get(member["pool"], 0.0) + usable
    wanted: dict[str, float] = dict.fromkeys(pools, 0.0)
    for dataset in session.datasets():
        size = _current_size(session, dataset) * dataset["replicas"]
        pool = dataset["pool"]
        wanted[pool] = wanted.get(pool, 0.0) + size
        if size > pools.get(pool, 0.0):
            yield Finding(
                "capacity",
                "problem",
                f"{dataset['name']} needs {format_size(size)}, and its pool {pool} has "
                f"{format_size(pools.get(pool, 0.0))}",
                "more workers, a larger --disk, fewer replicas, or --exclude what nobody reads",
            )
    for pool, size in sorted(wanted.items()):
        text = (
            f"datasets of {format_size(size)} in pool {pool} of {format_size(pools.get(pool, 0))}"
        )
        if size > pools.get(pool, 0.0):
            yield Finding("capacity", "note", f"{text}: not all at once", "blocks will be evicted")
        else:
            yield Finding("capacity", "ok", text)


def _current_size(session: Session, dataset: dict[str, Any]) -> float:  # Any: a JSON document
    from cachefs.cli.session import dataset_path
    from cachefs.core.names import DatasetName

    path = dataset_path(DatasetName.parse(dataset["name"]))
    for version in session.api.get(f"{path}/versions")["versions"]:
        if version["id"] == dataset["current"]:
            return float(version["size"])
    return 0.0
