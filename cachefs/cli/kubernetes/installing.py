"""``cachefs k8s install`` and ``cachefs k8s uninstall``."""

from collections.abc import Iterable
from typing import Annotated

import typer

from cachefs.cli.kubernetes import options
from cachefs.cli.rendering import say
from cachefs.config.units import parse_duration

Wait = Annotated[
    str, typer.Option("--wait", metavar="TIME", help="How long to wait for pods; 0 does not.")
]


def install(
    *,
    values: options.Values = None,
    image: options.Image = None,
    namespace: options.Namespace = "cachefs",
    plain: options.Plain = None,
    workers: options.Workers = None,
    disk: options.Disk = None,
    memory: options.Memory = None,
    storage_class: options.StorageClass = None,
    zones: options.Zones = None,
    node_selector: options.NodeSelector = None,
    store_secret: options.StoreSecret = None,
    origins_secret: options.OriginsSecret = None,
    trust: options.Trust = None,
    source: options.Sources = None,
    csi: options.Csi = None,
    webhook: options.Webhook = None,
    programs: options.Programs = None,
    observing: options.Observing = None,
    kubeconfig: options.Kubeconfig = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be made, changed and removed.")
    ] = False,
    wait: Wait = "5m",
) -> None:
    """Install on a cluster, or change what is installed: what `cachefs k8s render` prints, and the token.

    What is not said is as it was installed last, so `--image` alone is an upgrade; a flag's default, or
    '' where it is a text, goes back to that. A pool keeps the number of workers that it was scaled to,
    unless --workers is given. What the cluster refuses is refused before anything is changed.
    """
    cluster = options.connect(kubeconfig)

    from cachefs.k8s.installing import remembering
    from cachefs.k8s.installing.applying import Installer
    from cachefs.transport.runtime import ThreadRuntime

    given = options.said(
        values,
        image=image,
        namespace=namespace,
        plain=plain,
        workers=workers,
        disk=disk,
        memory=memory,
        storage_class=storage_class,
        zones=zones,
        node_selector=node_selector,
        store_secret=store_secret,
        origins_secret=origins_secret,
        trusted=options.joined(trust),
        sources=options.joined(source),
        csi=csi,
        webhook=webhook,
        programs=programs,
        observing=observing,
    )
    seconds = parse_duration(wait)
    wanted, kept = remembering.continued(cluster, given)
    if kept:
        say(f"goes on with {', '.join(kept)}")
    installer = Installer(cluster=cluster, runtime=ThreadRuntime(), say=say)
    resizes = workers is not None
    if dry_run:
        _show(installer.plan(wanted, resizes=resizes))
    else:
        installer.install(wanted, resizes=resizes, wait_seconds=seconds)


def _show(plan: Iterable[str]) -> None:
    from cachefs.k8s.installing.applying import NOTHING_TO_CHANGE

    line = ""
    for line in plan:
        say(line)  # at once: what is refused is raised after what can be told
    if not line:
        say(NOTHING_TO_CHANGE)


def uninstall(
    *,
    namespace: options.Namespace = "cachefs",
    node_namespace: Annotated[
        str, typer.Option("--node-namespace", help="Where what is privileged on nodes is.")
    ] = "cachefs-node",
    kubeconfig: options.Kubeconfig = None,
    delete_data: Annotated[
        bool,
        typer.Option(
            "--delete-data",
            help="Also all declared datasets, pools and flows, all volumes, the token, the namespaces.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if pods have volumes of datasets.")
    ] = False,
    wait: Wait = "4m",  # the driver and the mounts take up to two and a half to let go of each other
) -> None:
    """Remove what `cachefs k8s install` made; what holds data stays.

    Declared objects, the volumes of workers and of the coordinator, the token and the namespaces are
    kept, and an installation that is made again goes on with them.
    """
    cluster = options.connect(kubeconfig)

    from cachefs.k8s.installing.removing import Remover
    from cachefs.transport.runtime import ThreadRuntime

    remover = Remover(
        cluster=cluster,
        runtime=ThreadRuntime(),
        say=say,
        namespace=namespace,
        node_namespace=node_namespace,
    )
    remover.remove(force=force, with_data=delete_data, wait_seconds=parse_duration(wait))
