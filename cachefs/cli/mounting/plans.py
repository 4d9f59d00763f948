"""From what somebody typed to what the processes of a mount are told."""

import os
from dataclasses import replace
from pathlib import Path

from cachefs.cli.mounting.request import ALL_SOURCE, Request
from cachefs.cli.session import Session
from cachefs.client.connecting import cluster_of
from cachefs.config.discovery import TOKEN_FILE, state_folder
from cachefs.config.load import load
from cachefs.config.schema import ClusterConfig, MountConfig, MountPlan, ReaderConfig
from cachefs.core.names import Reference, printable
from cachefs.errors import ConfigError
from cachefs.fuse.engines.choice import Choice, choose, look_around
from cachefs.fuse.mounts.table import locate

_MODE_BITS = 0o777


def draw_up(request: Request) -> tuple[ClusterConfig, MountPlan, Choice]:
    """Return what the processes are told; asks the system whether the dataset exists.

    Raises:
        ConfigError: A flag, a setting or the machine will not do.
        CacheFSError: The system does not run, or does not know the dataset.
    """
    settings = load(file=request.config, environment=os.environ).with_flags(
        {
            "mount.engine": request.engine,
            "mount.read_ahead_bytes": request.read_ahead,
            "mount.recovery": request.recovery,
        }
    )
    config = settings.build("mount", MountConfig)
    machine = look_around()
    choice = choose(config.engine, machine, follow_current=request.follow_current)
    if request.allow_other and not machine.others_allowed:
        raise ConfigError(
            "--allow-other is not allowed to you",
            hint="root can put the line user_allow_other into /etc/fuse.conf",
        )
    session = Session(request.state)
    reference = _find(session, request.reference) if request.reference else None
    plan = MountPlan(
        mountpoint=locate(request.folder),
        source=_source(reference),
        dataset=str(reference.dataset) if reference else "",
        version=(reference.version or "") if reference else "",
        engine=choice.engine,
        engine_reason=choice.reason,
        recovery=config.recovery and choice.recovery,
        uid=os.getuid() if request.uid is None else request.uid,
        gid=os.getgid() if request.gid is None else request.gid,
        umask=_umask(request.umask),
        allow_other=request.allow_other,
        follow_current=request.follow_current,
        state_folder=session.endpoint.state,
        coordinator=session.endpoint.coordinator,
        workers=session.endpoint.workers,
        token_file=_token_file(session),
        settings=config,
        reader=settings.build("reader", ReaderConfig),
    )
    return cluster_of(session.endpoint), plan, choice


def _find(session: Session, text: str) -> Reference:
    reference, resolved = session.resolve(text)
    if reference.path:
        raise ConfigError(
            "names a file",
            subject=printable(text),
            hint=f"mount the dataset {reference.dataset}; the file is in it",
        )
    # A prefix of a version may come to mean another one, or none.
    return replace(reference, version=reference.version and resolved.manifest.id)


def _source(reference: Reference | None) -> str:
    if reference is None:
        return ALL_SOURCE
    at = f"@{reference.version}" if reference.version else ""
    return f"cachefs://{reference.dataset}{at}"


def _token_file(session: Session) -> Path:
    if session.endpoint.state is not None:
        return session.endpoint.state / TOKEN_FILE
    named = os.environ.get("CACHEFS_TOKEN_FILE") or state_folder(os.environ) / TOKEN_FILE
    return Path(named).expanduser().absolute()


def _umask(text: str) -> int:
    try:
        mask = int(text, 8)
    except ValueError:
        mask = -1
    if not 0 <= mask <= _MODE_BITS:
        raise ConfigError(f"not an octal mask: {printable(text)!r}", hint="write it like 022")
    return mask
