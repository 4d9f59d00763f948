"""A request as the rest of the server sees it, and what is answered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from cachefs.testing.kubernetes.documents import Document, Json, Key
from cachefs.testing.kubernetes.failures import Refusal, bad_request, nothing_there
from cachefs.testing.kubernetes.kinds import Kinds, Resource

ADMIN_GROUP: Final = "system:masters"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


ADMIN: Final = User("kubernetes-admin", (ADMIN_GROUP, "system:authenticated"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a resource."""

    verb: str
    resource: Resource
    namespace: str
    name: str
    subresource: str
    query: Mapping[str, str]
    content_type: str
    body: Json
    user: User
    agent: str = ""
    as_table: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """Where the object is kept."""
        return (*self.resource.stored, self.namespace, self.name)

    @property
    def dry_run(self) -> bool:
        """Whether nothing shall be stored."""
        asked = self.query.get("dryRun", "")
        options = self.body if self.verb in ("delete", "deletecollection") else None
        if not asked and isinstance(options, dict) and options.get("dryRun"):
            asked = ",".join(options["dryRun"])
        if asked not in ("", "All"):
            raise bad_request(f'dryRun: Unsupported value: {asked!r}: supported values: "All"')
        return bool(asked)

    @property
    def field_manager(self) -> str:
        """Who is said to set fields: as asked for, else the program's name."""
        return self.query.get("fieldManager", "") or self.agent.partition("/")[0] or "unknown"

    def named(self, name: str) -> "Request":
        """Return the request about another object."""
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: one document, or lines without an end."""

    code: int
    document: Json = None
    lines: Iterator[Document | None] | None = None
    """Of a watch; ``None`` says that nothing has happened for a while."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """What a path means."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def place(path: str, kinds: Kinds) -> Place:
    """Return what ``/api/v1/namespaces/default/pods/p/status`` and its like lead to.

    Raises:
        Refusal: nowhere.
    """
    parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise nothing_there(path)
    namespace = ""
    own = rest[0] == "namespaces" and len(rest) > 2 and rest[2] in ("status", "finalize")
    if rest[0] == "namespaces" and len(rest) > 2 and not own:
        namespace, rest = rest[1], rest[2:]
    resource = kinds.find(group, version, rest[0])
    if resource is None or len(rest) > 3 or (namespace and not resource.namespaced):
        raise nothing_there(path)
    name, subresource = (*rest[1:], "", "")[:2]
    if subresource and subresource not in _subresources(resource):
        raise nothing_there(path)
    if name and resource.namespaced and not namespace:
        raise nothing_there(path)
    return Place(resource, namespace, name, subresource)


def _subresources(resource: Resource) -> tuple[str, ...]:
    status = ("status",) if resource.has_status else ()
    scale = ("scale",) if resource.scaling is not None else ()
    return (*status, *scale, *resource.subresources)


def query_of(path: str) -> dict[str, str]:
    """Return a path's query; of several values for one name, all, joined by commas."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(urlsplit(path).query, keep_blank_values=True):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def is_true(text: str) -> bool:
    """Say what a boolean in a query means: ``1``, ``true``, and a bare name are true."""
    return text.lower() not in ("0", "false")


def verb_of(method: str, place: Place, query: Mapping[str, str]) -> str:
    """Return Kubernetes' verb for a request, as its roles name it.

    Raises:
        Refusal: the method means nothing here.
    """
    watching = "watch" in query and is_true(query["watch"])
    verbs = {
        ("GET", True): "get",
        ("HEAD", True): "get",
        ("PUT", True): "update",
        ("PATCH", True): "patch",
        ("DELETE", True): "delete",
        ("GET", False): "watch" if watching else "list",
        ("POST", False): "create",
        ("DELETE", False): "deletecollection",
    }
    if method == "POST" and place.subresource in ("eviction", "binding", "token"):
        return "create"
    verb = verbs.get((method, bool(place.name)))
    if verb is None or (verb == "create" and place.resource.namespaced and not place.namespace):
        message = "the server does not allow this method on the requested resource"
        raise Refusal(405, "MethodNotAllowed", message)
    return verb
