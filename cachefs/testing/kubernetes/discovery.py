"""What is served: ``/version``, ``/api``, ``/apis`` and the lists of resources below."""

from collections.abc import Iterable
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.kinds import VERBS, Kinds, Resource

VERSION: Final[Document] = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2024-12-11T00:00:00Z",
    "goVersion": "go1.23",
    "compiler": "gc",
    "platform": "linux/amd64",
}
"""Claims the release whose behaviour is followed."""
_OWN_ENTRIES: Final = {
    "eviction": ("policy", "v1", "Eviction"),
    "binding": ("", "v1", "Binding"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "scale": ("autoscaling", "v1", "Scale"),
}
REVIEWS: Final = (
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", False),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False),
)
"""What is asked by creating it and kept nowhere: group, version, plural, kind, namespaced."""


def discovery(path: str, kinds: Kinds) -> Document | None:
    """Return the document at a path of discovery; ``None`` when there is none."""
    match [part for part in path.split("/") if part]:
        case ["version"]:
            found = VERSION
        case ["api"]:
            found = {"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"]}
        case ["api", "v1"]:
            found = _resources("", "v1", kinds)
        case ["apis"]:
            groups = sorted({group for group, _ in _served(kinds) if group})
            listed = [_group(group, kinds) for group in groups]
            found = {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        case ["apis", group] if any(group == each for each, _ in _served(kinds)):
            found = {"apiVersion": "v1", **_group(group, kinds)}
        case ["apis", group, version] if (group, version) in _served(kinds):
            found = _resources(group, version, kinds)
        case _:
            return None
    return found


def _served(kinds: Kinds) -> set[tuple[str, str]]:
    return {(resource.group, resource.version) for resource in kinds} | {
        (group, version) for group, version, *_ in REVIEWS
    }


def _group(group: str, kinds: Kinds) -> Document:
    found = sorted((version for each, version in _served(kinds) if each == group), key=_age)
    versions = [{"groupVersion": f"{group}/{each}", "version": each} for each in found]
    return {
        "kind": "APIGroup",
        "name": group,
        "versions": versions,
        "preferredVersion": versions[0],
    }


def _age(version: str) -> tuple[int, str]:
    """Order versions as Kubernetes prefers them: stable, then beta, then alpha."""
    rank = 2 if "alpha" in version else 1 if "beta" in version else 0
    return rank, version


def _resources(group: str, version: str, kinds: Kinds) -> Document:
    listed: list[Document] = []
    for resource in kinds:
        if (resource.group, resource.version) == (group, version):
            listed.extend(_entries(resource))
    for each_group, each_version, plural, kind, namespaced in REVIEWS:
        if (each_group, each_version) == (group, version):
            entry = {"name": plural, "singularName": kind.lower(), "namespaced": namespaced}
            listed.append({**entry, "kind": kind, "verbs": ["create"]})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": listed,
    }


def _entries(resource: Resource) -> Iterable[Document]:
    entry: Document = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["create"] if resource.plural == "bindings" else list(VERBS),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    yield entry
    names = list(resource.subresources)
    names += ["status"] if resource.has_status else []
    names += ["scale"] if resource.scaling is not None else []
    for name in names:
        inner: Document = {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": ["create"]
            if name in ("eviction", "binding", "token")
            else ["get", "patch", "update"],
        }
        if name in _OWN_ENTRIES:
            own_group, own_version, kind = _OWN_ENTRIES[name]
            inner.update({"group": own_group, "version": own_version, "kind": kind})
        yield inner
