"""Role-based access control: whether the stored roles and bindings allow a request."""

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cachefs.testing.kubernetes.documents import Document
from cachefs.testing.kubernetes.failures import Refusal, forbidden
from cachefs.testing.kubernetes.requests import ADMIN_GROUP, Request, User
from cachefs.testing.kubernetes.selectors import object_selector
from cachefs.testing.kubernetes.store import Store

AUTHENTICATED: Final = "system:authenticated"
ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))
_GROUP: Final = "rbac.authorization.k8s.io"
_OPEN_TO_ALL: Final = ("/healthz", "/livez", "/readyz", "/version")
_OPEN_TO_KNOWN: Final = ("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a request wants, as roles speak of it."""

    verb: str
    group: str
    resource: str
    """With the subresource: ``pods/eviction``."""
    namespace: str = ""
    name: str = ""


def attributes(request: Request) -> Attributes:
    """Return what a request wants; a list of one object by its name is about that object."""
    name = request.name
    selected = request.query.get("fieldSelector", "")
    if not name and selected.startswith("metadata.name=") and "," not in selected:
        name = selected.rpartition("=")[2]
    inner = f"/{request.subresource}" if request.subresource else ""
    return Attributes(
        verb=request.verb,
        group=request.resource.group,
        resource=request.resource.plural + inner,
        namespace=request.namespace,
        name=name,
    )


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the store's roles allow."""

    store: Store

    def check(self, user: User, wanted: Attributes) -> None:
        """Let a request pass.

        Raises:
            Refusal: 403, no role allows it.
        """
        if not self.allows(user, wanted):
            raise denied(user, wanted)

    def allows(self, user: User, wanted: Attributes) -> bool:
        """Say whether a user may."""
        if ADMIN_GROUP in user.groups:
            return True
        if wanted.group == "authorization.k8s.io" and wanted.resource.startswith("selfsubject"):
            return AUTHENTICATED in user.groups
        return any(_covers(rule, wanted) for rule in self.rules(user, wanted.namespace))

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        """Say whether a user may ask for a path that is no resource."""
        if ADMIN_GROUP in user.groups or path in _OPEN_TO_ALL:
            return True
        if AUTHENTICATED in user.groups and any(
            fnmatch.fnmatchcase(path, each) for each in _OPEN_TO_KNOWN
        ):
            return True
        return any(
            _has(rule.get("verbs"), verb)
            and any(fnmatch.fnmatchcase(path, each) for each in rule.get("nonResourceURLs") or ())
            for rule in self.rules(user, "")
        )

    def rules(self, user: User, namespace: str) -> Iterator[Document]:
        """Go through the rules that a user has in a namespace; without one, on the cluster's level."""
        _, objects = self.store.objects()
        for (group, plural, inside, _), binding in objects.items():
            everywhere = plural == "clusterrolebindings"
            here = plural == "rolebindings" and bool(namespace) and inside == namespace
            if group != _GROUP or not (everywhere or here):
                continue
            if any(_is(subject, user, inside) for subject in binding.get("subjects") or ()):
                yield from self._role(binding["roleRef"], inside)

    def _role(self, reference: Document, namespace: str) -> Iterator[Document]:
        is_cluster_role = reference["kind"] == "ClusterRole"
        plural, where = ("clusterroles", "") if is_cluster_role else ("roles", namespace)
        role = self.store.get((_GROUP, plural, where, reference["name"]))
        if role is None:
            return
        yield from role.get("rules") or ()
        for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
            _, objects = self.store.objects()
            for key, other in objects.items():
                if key[:2] == (_GROUP, "clusterroles") and object_selector(selector)(other):
                    yield from other.get("rules") or ()


def denied(user: User, wanted: Attributes) -> Refusal:
    """Return the refusal of what no role allows."""
    where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    plural = wanted.resource.partition("/")[0]
    qualified = f"{plural}.{wanted.group}" if wanted.group else plural
    about = f'{qualified} "{wanted.name}"' if wanted.name else qualified
    why = (
        f'User "{user.name}" cannot {wanted.verb} resource "{wanted.resource}" '
        f'in API group "{wanted.group}" {where}'
    )
    details = {"kind": plural, "group": wanted.group, "name": wanted.name}
    return forbidden(about, why, details={key: value for key, value in details.items() if value})


def _is(subject: Document, user: User, namespace: str) -> bool:
    if subject["kind"] == "Group":
        return subject["name"] in user.groups
    if subject["kind"] == "ServiceAccount":
        space = subject.get("namespace") or namespace
        return user.name == f"system:serviceaccount:{space}:{subject['name']}"
    return bool(subject["name"] == user.name)


def _covers(rule: Document, wanted: Attributes) -> bool:
    plural, slash, inner = wanted.resource.partition("/")
    resources = rule.get("resources") or ()
    fits = _has(resources, wanted.resource) or bool(slash and f"*/{inner}" in resources)
    names = rule.get("resourceNames") or ()
    return (
        bool(plural)
        and _has(rule.get("verbs"), wanted.verb)
        and _has(rule.get("apiGroups"), wanted.group)
        and fits
        and (not names or wanted.name in names)
    )


def _has(listed: Iterable[str] | None, wanted: str) -> bool:
    return any(each in ("*", wanted) for each in listed or ())
