"""The ``scale`` subresource: how many there shall be, without knowing the kind."""

from cachefs.testing.kubernetes.documents import Document, set_at, value_at
from cachefs.testing.kubernetes.failures import bad_request
from cachefs.testing.kubernetes.kinds import Resource, Scaling
from cachefs.testing.kubernetes.writing import Changer


def scale_of(document: Document, resource: Resource) -> Document:
    """Return an object's ``autoscaling/v1`` ``Scale``."""
    paths = resource.scaling or Scaling()
    metadata = document["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Document = {"replicas": value_at(document, paths.status) or 0}
    selector = _text(value_at(document, paths.selector)) if paths.selector else ""
    if selector:
        status["selector"] = selector
    replicas = value_at(document, paths.spec)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": replicas} if replicas is not None else {},
        "status": status,
    }


def rescaled(change: Changer, resource: Resource) -> Changer:
    """Return what a change of a ``Scale`` does to the object.

    Raises:
        Refusal: when the change leaves no number that can be.
    """
    paths = resource.scaling or Scaling()

    def changed(document: Document) -> Document:
        scale = change(scale_of(document, resource))
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            raise bad_request(f"spec.replicas: Invalid value: {replicas!r}")
        set_at(document, paths.spec, replicas)
        version = (scale.get("metadata") or {}).get("resourceVersion")
        if version:
            document["metadata"]["resourceVersion"] = version
        return document

    return changed


def _text(selector: object) -> str:
    if isinstance(selector, dict):
        inner = selector.get("matchLabels", selector)
        return ",".join(f"{key}={value}" for key, value in sorted(inner.items()))
    return str(selector or "")
