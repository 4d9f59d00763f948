"""Values: an installation in a file, the same for ``cachefs k8s render --values`` and for the chart.

One table says what there is. The file's parser, the chart's ``values.yaml`` and ``values.schema.json``, and the
expressions in its templates are made of it, so that none of them can know a value that another does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cachefs.core.nearest import did_you_mean
from cachefs.core.tenants import Tenants
from cachefs.errors import ConfigError
from cachefs.k8s.crds.quantities import parse_quantity
from cachefs.k8s.installation import IMAGE, REMOTE_SOURCES, Installation
from cachefs.k8s.manifests.parts import quantity

Form = Literal["text", "size", "number", "switch", "texts", "labels", "objects"]

SIZE = r"^[1-9][0-9]*(Mi|Gi|Ti)$"
NO_SIZE = r"^([1-9][0-9]*(Mi|Gi|Ti))?$"
NAME = r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$"
FOLDER = r"^(/[A-Za-z0-9_.-]+)+$"
GLOBS = r"^[a-z0-9*,-]*$"
SOURCES = r"^[a-z0-9*-]+=[A-Za-z0-9*._:/-]+(,[a-z0-9*-]+=[A-Za-z0-9*._:/-]+)*$"
DESTINATIONS = r"^([a-z0-9*-]+=[A-Za-z0-9*._:/-]+(,[a-z0-9*-]+=[A-Za-z0-9*._:/-]+)*)?$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value that may be given."""

    path: str
    """Where it is in the file: ``pool.disk``."""
    field: str
    """Which of the installation's fields it is."""
    form: Form
    default: Any  # as the form has it
    what: str
    """For people; above it in ``values.yaml``."""
    pattern: str = ""
    """What a text must match, and each text of several. An empty one must be allowed where it means none."""
    least: int = 0
    """Of a number."""


VALUES: tuple[Value, ...] = (
    Value(
        path="image",
        field="image",
        form="text",
        default="",
        what="The image of all containers, which k8s/image/Dockerfile makes: name it by digest. Needed.",
        pattern=IMAGE,
    ),
    Value(
        path="imagePullSecret",
        field="image_pull_secret",
        form="text",
        default="",
        what="A secret to pull it with, in both namespaces.",
        pattern=NAME,
    ),
    Value(
        path="nodeNamespace",
        field="node_namespace",
        form="text",
        default="cachefs-node",
        what="The namespace of what is privileged: the CSI driver and the mounts.",
        pattern=NAME,
    ),
    Value(
        path="originsSecret",
        field="origins_secret",
        form="text",
        default="",
        what="A secret whose keys become the environment of coordinator and workers: credentials of origins.",
        pattern=NAME,
    ),
    Value(
        path="tenants.trusted",
        field="trusted",
        form="text",
        default="",
        what="Namespaces whose datasets and flows may touch everything, with commas: globs. Empty for none.",
        pattern=GLOBS,
    ),
    Value(
        path="tenants.sources",
        field="sources",
        form="text",
        default=REMOTE_SOURCES,
        what="Origins that the other namespaces may name: NAMESPACE=URL, globs both, with commas.",
        pattern=SOURCES,
    ),
    Value(
        path="tenants.destinations",
        field="destinations",
        form="text",
        default="",
        what="Where flows of the other namespaces may write, as tenants.sources. Empty for nowhere.",
        pattern=DESTINATIONS,
    ),
    Value(
        path="coordinator.storeSecret",
        field="store_secret",
        form="text",
        default="",
        what="A secret with the key url, postgresql://…, for two coordinators; without it one, with SQLite.",
        pattern=NAME,
    ),
    Value(
        path="pool.workers",
        field="workers",
        form="number",
        default=3,
        what="Workers of the default pool.",
    ),
    Value(
        path="pool.disk",
        field="disk_bytes",
        form="size",
        default="100Gi",
        what="Each worker's volume.",
        pattern=SIZE,
    ),
    Value(
        path="pool.memory",
        field="memory_bytes",
        form="size",
        default="",
        what="Each worker's memory tier; empty for none.",
        pattern=NO_SIZE,
    ),
    Value(
        path="pool.storageClass",
        field="storage_class",
        form="text",
        default="",
        what="Of the volumes; empty for the cluster's default. A node's own disks are what a cache wants.",
        pattern=r"^[a-z0-9.-]*$",
    ),
    Value(
        path="pool.zones",
        field="zones",
        form="texts",
        default=(),
        what="Values of topology.kubernetes.io/zone over which the workers are spread.",
        pattern=NAME,
    ),
    Value(
        path="pool.nodeSelector",
        field="node_selector",
        form="labels",
        default={},
        what="Labels of the nodes that workers run on.",
    ),
    Value(
        path="pool.tolerations",
        field="tolerations",
        form="objects",
        default=(),
        what="Of the workers, as in a pod.",
    ),
    Value(
        path="csi.enabled",
        field="csi",
        form="switch",
        default=True,
        what="Volumes of datasets: the driver and the mounts, on each node.",
    ),
    Value(
        path="csi.kubeletFolder",
        field="kubelet_folder",
        form="text",
        default="/var/lib/kubelet",
        what="Where the nodes' kubelet keeps its state; some distributions put it elsewhere.",
        pattern=FOLDER,
    ),
    Value(
        path="webhook.enabled",
        field="webhook",
        form="switch",
        default=True,
        what="Sidecars and affinity, for pods that ask for them by label.",
    ),
    Value(
        path="flows.programs",
        field="programs",
        form="switch",
        default=True,
        what="Flows may run jobs and roll deployments over, in their namespaces. The operator may then do so anywhere.",
    ),
    Value(
        path="observing.enabled",
        field="observing",
        form="switch",
        default=False,
        what="Monitors, alert rules and the dashboard; wants the Prometheus operator's kinds.",
    ),
)


def installation(document: Mapping[str, Any], **given: object) -> Installation:
    """Return what a file of values asks for.

    Args:
        document: The file.
        given: The installation's fields that were said otherwise, and win.

    Raises:
        ConfigError: A value is unknown, or is not what it should be.
    """
    found = fields(document) | given
    if not found.get("image"):
        raise ConfigError("which image?", subject="image", hint="k8s/image/Dockerfile makes it")
    for field in ("sources", "destinations"):
        if found.get(field):
            Tenants((), found[field].split(","))
    for field in ("node_namespace", "kubelet_folder"):
        if field in found and not found[field]:
            raise ConfigError("must not be empty", subject=field)
    return Installation(**found)


def fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the installation's fields that a file of values says; an empty text is the default.

    Raises:
        ConfigError: A value is unknown, or is not what it should be.
    """
    found: dict[str, Any] = {}
    known = {value.path: value for value in VALUES}
    for path, said in _flat(
        document, "", {path.partition(".")[0] for path in known if "." in path}
    ):
        value = known.get(path)
        if value is None:
            raise ConfigError("no such value", subject=path, hint=_nearest(path, known))
        found[value.field] = _FORMS[value.form](path, said)
        if found[value.field] == "":
            found[value.field] = REMOTE_SOURCES if value.field == "sources" else None
    return found


def document_of(wanted: Installation) -> dict[str, Any]:
    """Return a file of values that asks for an installation.

    What is the default is not in it: where a later version's default is narrower, that is what is meant.
    """
    document: dict[str, Any] = {}
    default = Installation(image="default")
    for value in VALUES:
        if told(value, wanted) == told(value, default):
            continue
        group, dot, name = value.path.partition(".")
        said = told(value, wanted)
        if dot:
            document.setdefault(group, {})[name] = said
        else:
            document[group] = said
    return document


def told(value: Value, wanted: Installation) -> Any:  # Any: as the form has it
    """Return one value of an installation as a file has it."""
    said = getattr(wanted, value.field)
    if said is None or (value.form == "size" and not said):
        return ""
    if value.form == "size":
        return quantity(said)
    if value.form == "labels":
        return dict(said)
    return [*said] if value.form in ("texts", "objects") else said


def _nearest(path: str, known: Mapping[str, Value]) -> str:
    return did_you_mean(path, known) or "chart/values.yaml of `cachefs k8s chart` has all"


def _flat(document: object, prefix: str, groups: set[str]) -> list[tuple[str, object]]:
    if not isinstance(document, Mapping):
        raise ConfigError("not a mapping of values", subject=prefix or "the file")
    found: list[tuple[str, object]] = []
    for name, said in document.items():
        if not prefix and name in groups:
            found += _flat(said if said is not None else {}, f"{name}.", groups)
        else:
            found.append((f"{prefix}{name}", said))
    return found


def _text(path: str, said: object) -> str:
    if said is None:
        return ""
    if not isinstance(said, str):
        raise ConfigError("not a text", subject=path, hint="put it in quotes")
    return said


def _size(path: str, said: object) -> int:
    return parse_quantity(said, path) if said not in ("", None) else 0


def _number(path: str, said: object) -> int:
    if not isinstance(said, int) or isinstance(said, bool):
        raise ConfigError("not a number", subject=path)
    return said


def _switch(path: str, said: object) -> bool:
    if not isinstance(said, bool):
        raise ConfigError("neither true nor false", subject=path)
    return said


def _several(path: str, said: object) -> Sequence[Any]:
    if not isinstance(said, list | tuple):
        raise ConfigError("not a list", subject=path)
    return said


def _texts(path: str, said: object) -> tuple[str, ...]:
    return tuple(_text(path, one) for one in _several(path, said))


def _labels(path: str, said: object) -> dict[str, str]:
    if not isinstance(said, Mapping):
        raise ConfigError("not a mapping", subject=path)
    return {_text(path, name): _text(path, text) for name, text in said.items()}


def _objects(path: str, said: object) -> tuple[Mapping[str, Any], ...]:
    for one in _several(path, said):
        if not isinstance(one, Mapping):
            raise ConfigError("not a list of mappings", subject=path)
    return tuple(_several(path, said))


_FORMS: Mapping[Form, Callable[[str, object], Any]] = {
    "text": _text,
    "size": _size,
    "number": _number,
    "switch": _switch,
    "texts": _texts,
    "labels": _labels,
    "objects": _objects,
}
