"""``cachefs status``: is it running, and how is it?"""

import os
from typing import Any

from cachefs.cli import options
from cachefs.cli.rendering import print_facts, print_json
from cachefs.config.discovery import Endpoint


def status(state: options.State = None, as_json: options.Json = False) -> None:
    """Show the running system: processes, members, datasets, warm-ups, mounts, endpoints."""
    from cachefs.cli.mounting.listing import document_of, mounts_of
    from cachefs.cli.session import Session
    from cachefs.cli.worker import local_processes, print_workers

    session = Session(state)
    api = session.api
    view = api.get("/v1/view")
    members = api.get("/v1/members")["members"]
    datasets = session.datasets()
    jobs = [job for job in api.get("/v1/warm")["jobs"] if job["state"] in ("waiting", "running")]
    processes = local_processes(session)
    mounts = mounts_of(session.endpoint)
    if as_json:
        print_json(
            {
                "coordinator": session.endpoint.coordinator,
                "state": None
                if session.endpoint.state is None
                else os.fspath(session.endpoint.state),
                "epoch": view["epoch"],
                "members": members,
                "datasets": [row["name"] for row in datasets],
                "warm": jobs,
                "processes": [
                    {"name": process.name, "pid": process.pid, "alive": process.alive}
                    for process in processes
                ],
                "mounts": [document_of(mount) for mount in mounts],
                "endpoints": {
                    name: f"http://{address}" for name, address in session.endpoint.gateway.items()
                },
            }
        )
        return
    _show(session.endpoint, view["epoch"], datasets, jobs)
    print_facts(("mount", f"{mount.mountpoint}: {mount.source}, {mount.state}") for mount in mounts)
    print_workers(members, processes)


def _show(endpoint: Endpoint, epoch: int, datasets: list[Any], jobs: list[Any]) -> None:
    # Any: JSON documents
    from cachefs.cli.endpoints import named
    from cachefs.config.units import format_size

    facts = [
        ("coordinator", f"http://{endpoint.coordinator}"),
        ("epoch", epoch),
        ("datasets", len(datasets)),
    ]
    if endpoint.gateway:
        facts.append(("endpoints", named(endpoint.gateway)))
    facts += [
        (
            f"warm-up {job['id']}",
            (
                f"{job['dataset']}: {format_size(job['bytes_done'])} of "
                f"{format_size(job['bytes_total'])}, {job['state']}"
            ),
        )
        for job in jobs
    ]
    print_facts(facts)
    print()
