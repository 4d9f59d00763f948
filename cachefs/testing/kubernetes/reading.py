"""Get, list and watch.

A list is taken from one version of the store, and its pages from the same one: the token to continue says
which, and where. A watch begins after a version (or with what is there, when it gives none) and goes on
until its time is up, the client has gone, or a fault ends it.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from cachefs.ports import Runtime
from cachefs.testing.kubernetes.conversion import shown
from cachefs.testing.kubernetes.documents import Document, Key
from cachefs.testing.kubernetes.failures import (
    Cause,
    Refusal,
    bad_request,
    expired,
    invalid,
    not_found,
)
from cachefs.testing.kubernetes.requests import Reply, Request, is_true
from cachefs.testing.kubernetes.selectors import Selector, fields, labels
from cachefs.testing.kubernetes.store import Change, CompactedError, Store

WATCH_SECONDS = 1800.0
"""How long a watch lasts that does not say: the API server takes 30 to 60 minutes."""
_PAUSE_SECONDS = 0.5
"""How often a quiet watch looks whether its client is still there."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Answers what changes nothing."""

    store: Store
    runtime: Runtime
    bookmark_seconds: float
    """How often a watch that asked for bookmarks gets one; the API server takes a minute."""
    dropped: Callable[[], int]
    """A number that grows when all watches shall end."""

    def get(self, request: Request) -> Document:
        """Return one object.

        Raises:
            Refusal: it is not there.
        """
        found = self.store.get(request.key)
        if found is None:
            resource = request.resource
            raise not_found(resource.group, resource.plural, request.name)
        return shown(found, request.resource)

    def list(self, request: Request) -> Document:
        """Return a list, or a page of one.

        Raises:
            Refusal: the selectors or the token make no sense, or the version is gone.
        """
        selector = self._selector(request)
        limit = int(request.query.get("limit", "0") or 0)
        version, after = self._from(request)
        try:
            version, objects = self.store.objects(version)
        except CompactedError:
            if request.query.get("continue"):
                raise expired(
                    "The provided continue parameter is too old to display a consistent list result."
                ) from None
            raise expired(f"too old resource version: {version}") from None
        keys = sorted(key for key in objects if self._holds(request, key) and key > after)
        items: list[Document] = []
        metadata: Document = {"resourceVersion": str(version)}
        for index, key in enumerate(keys):
            if limit and len(items) == limit:
                metadata["continue"] = _token(version, keys[index - 1])
                if selector is None:
                    metadata["remainingItemCount"] = len(keys) - index
                break
            if selector is None or selector(objects[key]):
                items.append(shown(objects[key], request.resource))
        return {
            "kind": f"{request.resource.kind}List",
            "apiVersion": request.resource.api_version,
            "metadata": metadata,
            "items": items,
        }

    def _from(self, request: Request) -> tuple[int | None, Key]:
        """Return the version that a list shall be of, and the key it goes on after."""
        nowhere = ("", "", "", "")
        token = request.query.get("continue", "")
        text = request.query.get("resourceVersion", "")
        match = request.query.get("resourceVersionMatch", "")
        if token:
            if text not in ("", "0"):
                raise bad_request("specifying resource version is not allowed when using continue")
            return _read_token(token)
        if match and not text:
            cause = Cause(
                "FieldValueForbidden",
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
                "resourceVersionMatch",
            )
            raise invalid("meta.k8s.io", "ListOptions", "", [cause])
        version = _number(text)
        if version > self.store.version:
            raise _too_large(version, self.store.version)
        paged = bool(int(request.query.get("limit", "0") or 0))
        exact = match == "Exact" or (not match and paged and version > 0)
        return (version if exact else None), nowhere

    def watch(self, request: Request) -> Reply:
        """Return the changes of a collection, as they come.

        Raises:
            Refusal: the selectors make no sense.
        """
        selector = self._selector(request)
        text = request.query.get("resourceVersion", "")
        since = _number(text)
        asked = request.query.get("sendInitialEvents")
        initial = is_true(asked) if asked is not None else since == 0
        if asked is not None and initial:
            _check_initial(request)
        seconds = float(request.query.get("timeoutSeconds", "0") or 0) or WATCH_SECONDS
        since = since or self.store.version
        lines = self._lines(request, selector, since=since, initial=initial, seconds=seconds)
        return Reply(200, lines=lines)

    def _lines(
        self,
        request: Request,
        selector: Selector | None,
        *,
        since: int,
        initial: bool,
        seconds: float,
    ) -> Iterator[Document | None]:
        bookmarks = is_true(request.query.get("allowWatchBookmarks", "false"))
        dropped = self.dropped()
        deadline = self.runtime.monotonic() + seconds
        marked = self.runtime.monotonic()
        if initial:
            since, objects = self.store.objects()
            yield from self._initial(request, selector, objects)
            if bookmarks and request.query.get("sendInitialEvents"):
                yield _bookmark(request, since, {"k8s.io/initial-events-end": "true"})
        while not self.store.closed and self.dropped() == dropped:
            try:
                changes = self.store.changes(since)
            except CompactedError:
                status = expired(f"too old resource version: {since}").status()
                yield {"type": "ERROR", "object": status}
                return
            yield from filter(None, (self._event(request, selector, each) for each in changes))
            since = changes[-1].version if changes else since
            now = self.runtime.monotonic()
            if bookmarks and (now >= deadline or now >= marked + self.bookmark_seconds):
                marked = now
                yield _bookmark(request, since, {})
            if now >= deadline:
                return
            pause = min(_PAUSE_SECONDS, deadline - now, self.bookmark_seconds)
            if not self.store.wait(since, pause, until=partial(self._awake, since, dropped)):
                yield None

    def _awake(self, since: int, dropped: int) -> bool:
        return self.store.version > since or self.dropped() != dropped

    def _initial(
        self, request: Request, selector: Selector | None, objects: Mapping[Key, Document]
    ) -> Iterator[Document]:
        for key in sorted(objects):
            found = objects[key]
            if self._holds(request, key) and (selector is None or selector(found)):
                yield {"type": "ADDED", "object": shown(found, request.resource)}

    def _event(
        self, request: Request, selector: Selector | None, change: Change
    ) -> Document | None:
        if not self._holds(request, change.key):
            return None

        def fits(document: Document | None) -> bool:
            return document is not None and (selector is None or selector(document))

        was, is_now = fits(change.before), fits(change.after)
        if not was and not is_now:
            return None
        kind = "MODIFIED" if was and is_now else "ADDED" if is_now else "DELETED"
        return {"type": kind, "object": shown(change.last, request.resource)}

    def _holds(self, request: Request, key: Key) -> bool:
        group, plural, namespace, name = key
        return (
            (group, plural) == request.resource.stored
            and request.namespace in ("", namespace)
            and request.name in ("", name)
        )

    def _selector(self, request: Request) -> Selector | None:
        by_label = request.query.get("labelSelector", "")
        by_field = request.query.get("fieldSelector", "")
        if not by_label and not by_field:
            return None
        first = labels(by_label)
        second = fields(by_field, request.resource.stored, request.resource.selectable)
        return lambda document: first(document) and second(document)


def _check_initial(request: Request) -> None:
    match = request.query.get("resourceVersionMatch", "")
    if match != "NotOlderThan":
        cause = Cause(
            "FieldValueForbidden",
            "Forbidden: resourceVersionMatch must be set to NotOlderThan with sendInitialEvents",
            "resourceVersionMatch",
        )
        raise invalid("meta.k8s.io", "ListOptions", "", [cause])


def _bookmark(request: Request, version: int, annotations: Document) -> Document:
    metadata: Document = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = annotations
    head = {"kind": request.resource.kind, "apiVersion": request.resource.api_version}
    return {"type": "BOOKMARK", "object": {**head, "metadata": metadata}}


def _number(text: str) -> int:
    if text and not text.isdecimal():
        cause = Cause(
            "FieldValueInvalid", f'Invalid value: "{text}": strconv.ParseUint', "resourceVersion"
        )
        raise invalid("meta.k8s.io", "ListOptions", "", [cause])
    return int(text or 0)


def _too_large(version: int, current: int) -> Refusal:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return Refusal(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {version}, current: {current}",
        details={"causes": causes},
        retry_after_seconds=1,
    )


def _token(version: int, last: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, last]).encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, Key]:
    try:
        version, last = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        group, plural, namespace, name = last
    except ValueError as error:
        raise bad_request(f"continue key is not valid: {error}") from error
    return int(version), (group, plural, namespace, name)
