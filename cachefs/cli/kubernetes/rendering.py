"""``cachefs k8s render`` and ``cachefs k8s chart``: what would be installed, for other programs to install."""

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cachefs.cli.kubernetes import options

if TYPE_CHECKING:
    from yaml import SafeDumper, ScalarNode


def render(
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
    only: options.Only = None,
) -> None:
    """Print the objects of an installation, for `kubectl apply --server-side -f -`.

    Definitions must be served before objects of their kinds can be made: apply `--only definitions`
    first, or all of it twice.

    None of them holds a secret. The token that all processes share is a secret of yours, in both
    namespaces; `cachefs k8s install` makes it, or else:
    `kubectl -n cachefs create secret generic cachefs-token --from-literal=token=…`.
    """
    from cachefs.k8s.manifests.whole import definitions, namespaces, objects

    wanted = options.requested(
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
    if only is not options.Part.OBJECTS:
        print_documents(definitions(wanted))
    if only is not options.Part.DEFINITIONS:
        print_documents([*namespaces(wanted), *objects(wanted)])


def print_documents(documents: Iterable[Mapping[str, Any]]) -> None:
    """Write objects to the standard output, as ``kubectl`` takes them."""
    import yaml

    for document in documents:
        sys.stdout.write("---\n")
        yaml.dump(document, sys.stdout, Dumper=_dumper(), sort_keys=False, allow_unicode=True)


def _dumper() -> "type[SafeDumper]":
    """Return what writes texts of several lines as a person would, and what is the same twice, twice."""
    from yaml import SafeDumper

    class Dumper(SafeDumper):
        def represent_str(self, data: str) -> "ScalarNode":
            style = "|" if "\n" in data else None
            return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's own signature
            return True

    Dumper.add_representer(str, Dumper.represent_str)
    return Dumper
