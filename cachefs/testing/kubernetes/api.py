"""The API without its transport: one request in, one answer out.

Who asks is found by token, what is meant by path; then the request goes to reading, writing, deleting, or to one of the
subresources. Everything that refuses does it by raising :class:`Refusal`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import yaml

from cachefs.ports import Runtime
from cachefs.testing.kubernetes.admission import Webhooks
from cachefs.testing.kubernetes.collecting import Collector
from cachefs.testing.kubernetes.customs import Customs
from cachefs.testing.kubernetes.deletions import Deletions
from cachefs.testing.kubernetes.discovery import REVIEWS, discovery
from cachefs.testing.kubernetes.documents import Document, Json
from cachefs.testing.kubernetes.evicting import evict
from cachefs.testing.kubernetes.failures import Refusal, bad_request, forbidden, nothing_there
from cachefs.testing.kubernetes.faults import DroppedError, Fault, Faults
from cachefs.testing.kubernetes.kinds import Kinds
from cachefs.testing.kubernetes.openapi import open_api
from cachefs.testing.kubernetes.permissions import Attributes, Permissions, attributes
from cachefs.testing.kubernetes.reading import Reader
from cachefs.testing.kubernetes.requests import (
    ADMIN,
    Reply,
    Request,
    User,
    place,
    query_of,
    verb_of,
)
from cachefs.testing.kubernetes.reviews import Reviews
from cachefs.testing.kubernetes.scaling import rescaled, scale_of
from cachefs.testing.kubernetes.store import Store
from cachefs.testing.kubernetes.strategies import Strategy
from cachefs.testing.kubernetes.tables import is_table_wanted, table
from cachefs.testing.kubernetes.tokens import Tokens
from cachefs.testing.kubernetes.writing import APPLY_PATCH, Writer

_OWN: Final = ("scale", "eviction", "binding", "finalize", "token")
"""Subresources that are not the object."""
_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as it came."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes = b""


class Api:
    """The API server's logic."""

    def __init__(self, runtime: Runtime, *, bookmark_seconds: float, authorizing: bool) -> None:
        """Make one with the namespaces that every cluster has."""
        self.runtime = runtime
        self.kinds = Kinds()
        self.store = Store(runtime)
        self.strategy = Strategy(runtime)
        self.deletions = Deletions(self.store, self.strategy)
        self.webhooks = Webhooks(self.store, runtime)
        self.permissions = Permissions(self.store)
        self.tokens = Tokens(runtime, authorizing)
        self.reviews = Reviews(self.permissions, self.tokens, authorizing)
        self.faults = Faults()
        self.writer = Writer(self.store, self.strategy, self.webhooks, self.deletions)
        self.drops = 0
        """How often all watches were ended."""
        self.reader = Reader(self.store, runtime, bookmark_seconds, lambda: self.drops)
        self.collector = Collector(self.store, self.kinds, self.deletions, runtime)
        self.store.listener = Customs(self.store, self.kinds, self.strategy).written
        for name in _NAMESPACES:
            self.submit({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def submit(self, document: Document) -> Document:
        """Create an object as the administrator.

        Raises:
            Refusal: as a client would get it.
        """
        resource = self.kinds.of_kind(document["apiVersion"], document["kind"])
        if resource is None:
            raise nothing_there(f"{document['apiVersion']} {document['kind']}")
        namespace = document.get("metadata", {}).get("namespace", "default")
        group = f"apis/{resource.group}" if resource.group else "api"
        inside = f"namespaces/{namespace}/" if resource.namespaced else ""
        call = Call(
            method="POST",
            path=f"/{group}/{resource.version}/{inside}{resource.plural}",
            headers={"content-type": "application/json", "user-agent": "submit"},
            body=json.dumps(document).encode(),
        )
        found: Document = self.answer(call, ADMIN, []).document
        return found

    def answer(self, call: Call, user: User, warnings: list[str]) -> Reply:
        """Answer a request.

        Raises:
            Refusal: with the answer's code and status.
        """
        path = urlsplit(call.path).path
        found = self._plain(call.method, path)
        if found is not None:
            if self.tokens.authorizing and not self.permissions.allows_path(user, "get", path):
                raise forbidden("", f'User "{user.name}" cannot get path "{path}"')
            return Reply(200, found)
        review = self._review(call, path, user)
        if review is not None:
            return Reply(201, review)
        request = self._request(call, user, warnings)
        if self.tokens.authorizing:
            self._authorize(request)
        fault = self.faults.take(request.verb, attributes(request).resource, request.name)
        if fault is None:
            return self._dispatch(request)
        return self._faulty(fault, request)

    def _plain(self, method: str, path: str) -> Document | str | None:
        """Return what is at a path that is no resource."""
        if method not in ("GET", "HEAD"):
            return None
        if path in ("/healthz", "/livez", "/readyz"):
            return "ok"
        if path.startswith("/openapi/v3"):
            return open_api(path, self.kinds)
        return discovery(path, self.kinds)

    def _review(self, call: Call, path: str, user: User) -> Document | None:
        """Return the answer to a review."""
        if call.method != "POST":
            return None
        body = _body(call.headers.get("content-type", "").partition(";")[0], call.body)
        parts = path.strip("/").split("/")
        for group, version, plural, kind, _ in REVIEWS:
            if parts[:3] == ["apis", group, version] and parts[-1] == plural:
                if self.tokens.authorizing:
                    wanted = Attributes(verb="create", group=group, resource=plural)
                    if not plural.startswith("self"):
                        self.permissions.check(user, wanted)
                head = {"kind": kind, "apiVersion": f"{group}/{version}"}
                namespace = parts[4] if len(parts) > 4 else ""
                return self.reviews.answer(plural, {**body, **head}, user, namespace)
        return None

    def _authorize(self, request: Request) -> None:
        wanted = attributes(request)
        self.permissions.check(request.user, wanted)
        is_missing = self.store.get(request.key) is None
        if request.verb in ("patch", "update") and is_missing and not request.subresource:
            self.permissions.check(request.user, replace(wanted, verb="create"))

    def _faulty(self, fault: Fault, request: Request) -> Reply:
        if fault.delay_seconds:
            self.runtime.sleep(fault.delay_seconds)
        reply = self._dispatch(request) if fault.after else None
        if fault.drop:
            raise DroppedError
        if fault.code:
            raise fault.refusal()
        return reply or self._dispatch(request)

    def _request(self, call: Call, user: User, warnings: list[str]) -> Request:
        at = place(call.path, self.kinds)
        query = query_of(call.path)
        content_type = call.headers.get("content-type", "").partition(";")[0].strip()
        return Request(
            verb=verb_of(call.method, at, query),
            resource=at.resource,
            namespace=at.namespace,
            name=at.name,
            subresource=at.subresource,
            query=query,
            content_type=content_type,
            body=_body(content_type, call.body),
            user=user,
            agent=call.headers.get("user-agent", ""),
            as_table=is_table_wanted(call.headers.get("accept", "")),
            warnings=warnings,
        )

    def _dispatch(self, request: Request) -> Reply:
        if request.subresource in _OWN:
            return self._subresource(request)
        if request.verb == "delete":
            self.webhooks.validate(request, self.store.get(request.key), None)
        verbs: dict[str, Callable[[Request], Reply]] = {
            "get": lambda one: Reply(200, self._shown(one, self.reader.get(one))),
            "list": lambda one: Reply(200, self._shown(one, self.reader.list(one))),
            "watch": self._watch,
            "create": self.writer.create,
            "update": self.writer.update,
            "patch": self.writer.patch,
            "delete": self.deletions.delete,
            "deletecollection": self._delete_collection,
        }
        return verbs[request.verb](request)

    def _shown(self, request: Request, document: Document) -> Document:
        if not request.as_table:
            return document
        now = datetime.fromtimestamp(self.runtime.wall(), UTC)
        return table(document, request.resource, now)

    def _watch(self, request: Request) -> Reply:
        reply = self.reader.watch(request)
        if not request.as_table or reply.lines is None:
            return reply
        return Reply(200, lines=(self._tabled(request, line) for line in reply.lines))

    def _tabled(self, request: Request, line: Document | None) -> Document | None:
        if line is None or line["type"] in ("ERROR", "BOOKMARK"):
            return line
        return {**line, "object": self._shown(request, line["object"])}

    def _subresource(self, request: Request) -> Reply:
        if request.subresource == "eviction":
            return evict(request, self.store, self.deletions)
        if request.subresource == "binding":
            return self.writer.bind(request)
        if request.subresource == "finalize":
            return self.writer.update(request)
        if request.subresource == "token":
            review = self.reviews.token_request(request.body or {}, request.namespace, request.name)
            return Reply(201, review)
        main = replace(request, subresource="")
        if request.verb == "get":
            return Reply(200, scale_of(self.reader.get(main), request.resource))
        if request.verb == "update":
            changer = rescaled(lambda _: dict(request.body or {}), request.resource)
        else:
            changer = rescaled(self.writer.patcher(request), request.resource)
        changed = self.writer.change(request, changer, again=request.verb == "patch")
        return Reply(200, scale_of(changed, request.resource))

    def _delete_collection(self, request: Request) -> Reply:
        found = self.reader.list(request)
        for item in found["items"]:
            metadata = item["metadata"]
            one = replace(
                request,
                verb="delete",
                namespace=metadata.get("namespace", ""),
                name=metadata["name"],
            )
            try:
                self.deletions.delete(one)
            except Refusal as refusal:
                if refusal.reason != "NotFound":
                    raise
        return Reply(200, found)


def _body(content_type: str, body: bytes) -> Json:
    if not body:
        return None
    try:
        if content_type in (APPLY_PATCH, "application/yaml"):
            return yaml.safe_load(body)
        if content_type not in ("", "application/json") and not content_type.endswith("+json"):
            raise Refusal(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json, application/yaml",
            )
        return json.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"the object provided is unrecognized: {error}") from error
