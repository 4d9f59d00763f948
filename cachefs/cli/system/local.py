"""The local system: what ``up`` runs until it is told to stop, and how ``down`` tells it.

``down`` asks the supervisor, waits, and only then kills: the supervisor, then every process that it
had started, each only if it is still the very process that was written down. Whoever ends it, and
however, the next ``up`` goes on with the state folder.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cachefs.cli.endpoints import named
from cachefs.cli.rendering import say
from cachefs.cli.system.following import Following
from cachefs.cli.system.manning import man
from cachefs.cli.system.plan import Blueprint, make_plan, save_plan
from cachefs.cli.system.providing import LocalProvider
from cachefs.cli.system.statefolder import StateFolder, read_json, write_json
from cachefs.cli.system.supervision import Supervisor
from cachefs.config.load import load
from cachefs.config.secrets import read_token
from cachefs.config.units import format_size
from cachefs.core.pools import workers
from cachefs.dataflow.steps.programs.rooms import stop_all
from cachefs.errors import CacheFSError
from cachefs.gateway.credentials import write_keys
from cachefs.transport.api import Api
from cachefs.transport.processes import ProcessRecord
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire import failures

Report = Callable[[str, Any], None]
"""Told once how the start went: ``ready`` with lines for a person, or ``error`` with a failure."""

_START_SECONDS = 60.0
_POLL_SECONDS = 0.05


def run_system(
    folder: StateFolder,
    flags: Mapping[str, int | str | None],
    *,
    config: Path | None,
    ready_descriptor: int | None,
) -> None:
    """Start everything and keep it running until a signal comes.

    Args:
        folder: The state folder.
        flags: What was given on the command line.
        config: A file of settings.
        ready_descriptor: Where a waiting parent reads one line: ``ready …`` or ``error …``.
    """
    report = _reporter(ready_descriptor)
    try:
        os.umask(0o077)
        folder.prepare()
        with folder.locked():
            _run_locked(folder, flags, config, report)
    except CacheFSError as error:
        report("error", failures.to_document(error))
        raise


def _run_locked(
    folder: StateFolder,
    flags: Mapping[str, int | str | None],
    config: Path | None,
    report: Report,
) -> None:
    settings = load(file=config, environment=os.environ)
    plan = make_plan(folder, **flags)
    blueprint = Blueprint(folder, plan, settings)
    plan.check(folder, blueprint.cluster)
    save_plan(folder, plan)
    runtime = ThreadRuntime()
    own = ProcessRecord.of("supervisor", os.getpid())
    supervisor = Supervisor(
        runtime,
        environment=os.environ
        | {"CACHEFS_TOKEN_FILE": str(folder.token), "CACHEFS_STATE": str(folder.path)},
        on_change=lambda children: _record(folder, [own, *children]),
        on_message=say,
    )
    token = read_token(folder.token)
    provider = LocalProvider(blueprint, supervisor, on_change=blueprint.publish)

    def open_api() -> Api:
        return Api(blueprint.addresses[blueprint.coordinator.name]["http"], token)

    following = Following(runtime, provider, open_api, say=say)
    with closing(supervisor), supervisor.signals():
        try:
            deadline = runtime.monotonic() + _START_SECONDS
            supervisor.start([blueprint.coordinator], deadline=deadline)
            man(blueprint, open_api(), workers=flags["workers"])
            supervisor.start([*blueprint.workers, *blueprint.gateways], deadline=deadline)
            write_keys(folder.endpoints, token)
            blueprint.publish()
            following.start()
            report("ready", _summary(blueprint))
            supervisor.supervise()
            say("stopping …")
        finally:
            following.close()
            # Workers first: they say goodbye to a coordinator that still listens.
            supervisor.stop([worker.name for worker in blueprint.workers])
            supervisor.stop()
            _stop_programs(folder)
            folder.clean_up()


def _stop_programs(folder: StateFolder) -> None:
    """End what flows have started here: they outlive coordinators, but not the system."""
    count = stop_all(ThreadRuntime(), folder.programs)
    if count:
        say(f"stopped {count} {'program' if count == 1 else 'programs'} of flows")


def _record(folder: StateFolder, processes: Sequence[ProcessRecord]) -> None:
    write_json(folder.processes, [asdict(process) for process in processes])


def _summary(blueprint: Blueprint) -> list[str]:
    folder = blueprint.folder
    count = len(blueprint.workers)
    tiers = ", ".join(
        f"{format_size(size * count)} of {medium}" for medium, size in blueprint.share()
    )
    number = f"{workers(count)} with {tiers}" if count else "no worker: `cachefs scale` starts some"
    lines = [
        f"cachefs is up: a coordinator and {number}",
        f"  state        {folder.path}",
        f"  coordinator  http://{blueprint.addresses['coordinator']['http']}",
    ]
    if blueprint.gateways:
        lines.append(f"  endpoints    {named(blueprint.addresses['gateway'])}")
    return [*lines, f"  logs         {folder.logs}"]


def _reporter(descriptor: int | None) -> Report:
    """Return what tells a waiting parent, or else a person, how the start went."""

    def to_person(word: str, document: Any) -> None:  # Any: a JSON document
        if word == "ready":
            for line in (*document, "Ctrl-C stops it."):
                say(line)

    def to_parent(word: str, document: Any) -> None:  # Any: a JSON document
        nonlocal descriptor
        if descriptor is not None:
            os.write(descriptor, f"{word} {json.dumps(document)}\n".encode())
            os.close(descriptor)
            descriptor = None

    return to_person if descriptor is None else to_parent


def stop_system(folder: StateFolder, *, seconds: float) -> bool:
    """Stop what runs on a state folder, and clean up; ``False`` if nothing ran.

    Args:
        folder: The state folder.
        seconds: How long the supervisor may take before it and its children are killed.
    """
    runtime = ThreadRuntime()
    records = ProcessRecord.read(read_json(folder.processes))
    running = folder.is_locked() or any(record.alive for record in records)
    supervisors = [record for record in records if record.name == "supervisor"]
    if any(supervisor.send(signal.SIGTERM) for supervisor in supervisors):
        give_up = runtime.monotonic() + seconds
        while any(record.alive for record in supervisors) and runtime.monotonic() < give_up:
            runtime.sleep(_POLL_SECONDS)
    for record in (*supervisors, *records):
        if record.send(signal.SIGKILL):
            say(f"killed {record.name}, which did not stop by itself")
    if not folder.is_locked():
        _stop_programs(folder)
        folder.clean_up()
    return running
