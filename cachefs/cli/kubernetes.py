"""``cachefs k8s``: the same processes as pods of a cluster."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cachefs.config.units import parse_size
from cachefs.errors import ConfigError

if TYPE_CHECKING:
    from yaml import SafeDumper, ScalarNode

app = typer.Typer(name="k8s", help="Kubernetes: the same processes as pods.", no_args_is_help=True)


@app.callback()
def kubernetes() -> None:
    """Kubernetes: the same processes as pods."""


@app.command("render")
def render(
    *,
    image: Annotated[
        str,
        typer.Option(
            "--image", help="The image of all containers; `k8s/image/Dockerfile` makes it."
        ),
    ],
    namespace: Annotated[str, typer.Option("--namespace")] = "cachefs",
    workers: Annotated[int, typer.Option("--workers", min=0)] = 3,
    disk: Annotated[
        str, typer.Option("--disk", metavar="SIZE", help="Each worker's volume.")
    ] = "100GiB",
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="Each worker's memory tier; 0 for none.")
    ] = "0",
    storage_class: Annotated[
        str | None,
        typer.Option("--storage-class", help="Of the volumes; the cluster's default if not given."),
    ] = None,
    node_selector: Annotated[
        list[str] | None,
        typer.Option("--node-selector", metavar="KEY=VALUE", help="Of the nodes with workers."),
    ] = None,
    store_secret: Annotated[
        str | None,
        typer.Option(
            "--store-secret", help="A secret with `url`, postgresql://…: two coordinators share it."
        ),
    ] = None,
    origins_secret: Annotated[
        str | None,
        typer.Option("--origins-secret", help="A secret whose keys are the origins' environment."),
    ] = None,
) -> None:
    """Print the objects of an installation, for `kubectl apply -f -`.

    None of them is secret, and none has a right in the cluster. The token that all processes share is a
    secret of yours: `kubectl -n cachefs create secret generic cachefs-token --from-literal=token=…`.
    """
    import yaml

    from cachefs.k8s.installation import Installation
    from cachefs.k8s.manifests import documents

    wanted = Installation(
        image=image,
        namespace=namespace,
        workers=workers,
        disk_bytes=parse_size(disk),
        memory_bytes=parse_size(memory),
        storage_class=storage_class,
        node_selector=dict(_pair(each) for each in node_selector or ()),
        store_secret=store_secret,
        origins_secret=origins_secret,
    )
    yaml.dump_all(documents(wanted), sys.stdout, Dumper=_dumper(), sort_keys=False)


def _dumper() -> "type[SafeDumper]":
    """Return what writes texts of several lines as a person would."""
    from yaml import SafeDumper

    class Dumper(SafeDumper):
        def represent_str(self, data: str) -> "ScalarNode":
            style = "|" if "\n" in data else None
            return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, Dumper.represent_str)
    return Dumper


def _pair(text: str) -> tuple[str, str]:
    key, is_pair, value = text.partition("=")
    if not is_pair or not key:
        raise ConfigError("not KEY=VALUE", subject=text)
    return key, value
