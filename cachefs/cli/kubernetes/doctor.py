"""``cachefs k8s doctor``: look at an installation on a cluster, and say what to fix."""

from typing import Annotated

import typer

from cachefs.cli import options as common
from cachefs.cli.kubernetes import options


def doctor(
    *,
    namespace: options.Namespace = "cachefs",
    node_namespace: Annotated[
        str, typer.Option("--node-namespace", help="Where what is privileged on nodes is.")
    ] = "cachefs-node",
    kubeconfig: options.Kubeconfig = None,
    as_json: common.Json = False,
) -> None:
    """Check an installation on a cluster, and say what to fix. Nothing is changed.

    Looks at versions, custom resources, pods, the token, the operator's leader, the webhook's
    certificates and the nodes' CSI drivers. The exit code is 1 if something is wrong.
    """
    cluster = options.connect(kubeconfig)

    from cachefs.cli.doctor import show
    from cachefs.cli.kubernetes.checks import Examination
    from cachefs.transport.runtime import ThreadRuntime

    examination = Examination(
        cluster=cluster,
        runtime=ThreadRuntime(),
        namespace=namespace,
        node_namespace=node_namespace,
    )
    show(list(examination.findings()), as_json=as_json)
