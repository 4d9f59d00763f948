"""What is to be installed, as the commands of ``cachefs k8s`` are told it: a file of values, and flags over it."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cachefs.config.units import parse_size
from cachefs.errors import ConfigError

if TYPE_CHECKING:
    from cachefs.k8s.cluster import Cluster
    from cachefs.k8s.installation import Installation


class Part(StrEnum):
    """A part of what is rendered."""

    DEFINITIONS = "definitions"
    OBJECTS = "objects"


Only = Annotated[
    Part | None,
    typer.Option("--only", help="Only the custom resources' definitions, or only the rest."),
]
Values = Annotated[
    Path | None,
    typer.Option("--values", metavar="FILE", help="A YAML file of values, as the chart takes it."),
]
Image = Annotated[
    str | None,
    typer.Option("--image", help="The image of all containers; `k8s/image/Dockerfile` makes it."),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Where it is, but for what is privileged on nodes.")
]
Plain = Annotated[
    bool | None,
    typer.Option(
        "--plain/--no-plain",
        help="Coordinator and workers only: no custom resource, no operator, no right. (default: no)",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="How many the default pool has. (default: 3)"),
]
Disk = Annotated[
    str | None,
    typer.Option("--disk", metavar="SIZE", help="Each worker's volume. (default: 100GiB)"),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Each worker's memory tier. (default: none)"),
]
StorageClass = Annotated[
    str | None,
    typer.Option("--storage-class", help="The volumes' storage class. (default: the cluster's)"),
]
NodeSelector = Annotated[
    list[str] | None,
    typer.Option(
        "--node-selector", metavar="KEY=VALUE", help="Run workers on nodes with this label."
    ),
]
Zones = Annotated[
    list[str] | None,
    typer.Option("--zone", metavar="ZONE", help="Spread the workers evenly over these zones."),
]
StoreSecret = Annotated[
    str | None,
    typer.Option(
        "--store-secret", help="A secret with `url`, postgresql://…: two coordinators share it."
    ),
]
OriginsSecret = Annotated[
    str | None,
    typer.Option("--origins-secret", help="A secret whose keys are the origins' environment."),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="NAMESPACE",
        help="Let this namespace's datasets and flows touch everything: others', pools, any origin.",
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="NAMESPACE=URL",
        help="Origins that other namespaces may name, as team-a=s3://team-a-*. (default: any remote)",
    ),
]
Csi = Annotated[
    bool | None, typer.Option("--csi/--no-csi", help="Volumes of datasets. (default: yes)")
]
Webhook = Annotated[
    bool | None,
    typer.Option("--webhook/--no-webhook", help="Sidecars and affinity by label. (default: yes)"),
]
Programs = Annotated[
    bool | None,
    typer.Option(
        "--programs/--no-programs",
        help="Flows may run jobs and roll deployments over. (default: yes)",
    ),
]
Observing = Annotated[
    bool | None,
    typer.Option("--observing/--no-observing", help="Monitors and alert rules. (default: no)"),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", metavar="FILE", help="Which cluster; else as kubectl has it."),
]


def requested(values: Path | None, **flags: Any) -> "Installation":  # Any: each flag has its type
    """Return what the file and the flags ask for together; ``None`` is a flag that was not given."""
    from cachefs.k8s.values import installation

    return installation({}, **said(values, **flags))


def said(values: Path | None, **flags: Any) -> dict[str, Any]:  # Any: each flag has its type
    """Return the installation's fields that the file and the flags say; an empty text is the default."""
    from cachefs.k8s.installation import REMOTE_SOURCES
    from cachefs.k8s.values import fields

    given = {name: flag for name, flag in flags.items() if flag is not None}
    for field, name in (("disk_bytes", "disk"), ("memory_bytes", "memory")):
        if name in given:
            given[field] = parse_size(given.pop(name))
    if "node_selector" in given:
        given["node_selector"] = dict(_pair(each) for each in given["node_selector"] if each)
    if "zones" in given:
        given["zones"] = tuple(each for each in given["zones"] if each)
    for name in ("storage_class", "store_secret", "origins_secret", "trusted", "sources"):
        if given.get(name) == "":
            given[name] = REMOTE_SOURCES if name == "sources" else None
    return (fields(_read(values)) if values is not None else {}) | given


def connect(kubeconfig: Path | None) -> "Cluster":
    """Return the cluster that is meant.

    Raises:
        ConfigError: None can be told, or what speaks with one is not installed.
    """
    try:
        from cachefs.k8s.cluster import open_cluster
    except ImportError as error:
        raise ConfigError(
            f"a package is missing: {error}", hint='pip install "cachefs-ai[kubernetes]"'
        ) from error
    return open_cluster(kubeconfig)


def joined(texts: list[str] | None) -> str | None:
    """Return texts as one value has them; ``None`` if there are none."""
    return ",".join(texts) if texts else None


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        document: Mapping[str, Any] = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ConfigError(f"cannot read the file: {reason.lower()}", subject=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        subject = f"{path}:{mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(f"not YAML: {reason}", subject=subject) from error
    return document


def _pair(text: str) -> tuple[str, str]:
    key, is_pair, value = text.partition("=")
    if not is_pair or not key:
        raise ConfigError("not KEY=VALUE", subject=text)
    return key, value
