"""Custom resources: what a definition, once stored, makes the server serve.

A definition is accepted at once: its conditions ``NamesAccepted`` and ``Established`` are set in the moment it
is stored. Its finalizer holds it, when it is deleted, until its objects are gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.kinds import DEFINITIONS, Kinds, Resource, Scaling
from cachefs.testing.kubernetes.shapes import Shape
from cachefs.testing.kubernetes.store import Change, StaleError, Store
from cachefs.testing.kubernetes.strategies import Strategy

CLEAN_UP: Final = "customresourcecleanup.apiextensions.k8s.io"


@dataclass(frozen=True, slots=True)
class Customs:
    """Keeps what is served in step with the definitions that are stored."""

    store: Store
    kinds: Kinds
    strategy: Strategy

    def written(self, change: Change) -> None:
        """See a write."""
        if change.key[:2] != DEFINITIONS:
            return
        definition = change.after or change.before or {}
        spec = definition["spec"]
        group, plural = spec["group"], spec["names"]["plural"]
        if change.after is None:
            self.kinds.remove(group, plural)
            return
        if change.before is None or change.before["spec"] != spec:
            self.kinds.remove(group, plural)
            for resource in _resources(spec):
                self.kinds.add(resource)
        self._establish(change)

    def _establish(self, change: Change) -> None:
        definition = change.after or {}
        spec, metadata = definition["spec"], definition["metadata"]
        if metadata.get("deletionTimestamp"):
            return
        old = definition.get("status") or {}
        stored = next(each["name"] for each in spec["versions"] if each.get("storage"))
        versions = list(old.get("storedVersions") or ())
        status = {
            **old,
            "acceptedNames": spec["names"],
            "storedVersions": versions if stored in versions else [*versions, stored],
            "conditions": old.get("conditions") or list(self._conditions()),
        }
        finalizers = list(metadata.get("finalizers") or ())
        wanted = finalizers if CLEAN_UP in finalizers else [*finalizers, CLEAN_UP]
        if status == old and wanted == finalizers:
            return
        settled = {**definition, "metadata": {**metadata, "finalizers": wanted}, "status": status}
        try:
            self.store.write(change.key, definition, settled)
        except StaleError:
            return  # whoever has written meanwhile has brought us here again

    def _conditions(self) -> Iterator[Document]:
        said = {"NamesAccepted": "NoConflicts", "Established": "InitialNamesAccepted"}
        texts = {
            "NoConflicts": "no conflicts found",
            "InitialNamesAccepted": "the initial names have been accepted",
        }
        for kind, reason in said.items():
            yield {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": texts[reason],
                "lastTransitionTime": self.strategy.now(),
            }


def _resources(spec: Document) -> Iterator[Resource]:
    """Go through the resources of a definition: one for each version that is served."""
    names = spec["names"]
    for version in spec["versions"]:
        if not version.get("served", True):
            continue
        subresources = version.get("subresources") or {}
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        columns = version.get("additionalPrinterColumns") or ()
        yield Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            singular=names.get("singular") or names["kind"].lower(),
            namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            has_status="status" in subresources,
            scaling=_scaling(subresources.get("scale")),
            shape=Shape(schema, root=True),
            custom=True,
            columns=tuple(columns),
            selectable=tuple(
                field["jsonPath"].lstrip(".") for field in version.get("selectableFields") or ()
            ),
        )


def _scaling(scale: Document | None) -> Scaling | None:
    if scale is None:
        return None
    return Scaling(
        spec=scale["specReplicasPath"],
        status=scale["statusReplicasPath"],
        selector=scale.get("labelSelectorPath", ""),
    )
