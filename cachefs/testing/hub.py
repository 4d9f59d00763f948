"""A server that speaks as much of the Hugging Face Hub as listing and reading need.

It has one model repository, whose branch ``main`` moves by one commit with each change; every commit
stays readable. Files of ``LARGE_BYTES`` and more are "LFS": they have a SHA-256 in the listing, and
reading them is redirected to a storage path. The tests hold it to the real ``huggingface_hub``.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

from cachefs.testing.loopback import LoopbackHandler, LoopbackServer

LARGE_BYTES = 1024
PAGE_ITEMS = 3
"""Small, so that tests have more than one page."""


class FakeHub(LoopbackServer):
    """The server; ``url`` is what ``HF_ENDPOINT`` must be."""

    def __init__(self, repository: str, files: Mapping[str, bytes], *, token: str = "") -> None:
        """Make the first commit. With a token, the repository is private."""
        super().__init__(_Handler)
        self.repository = repository
        self.token = token
        self.commits: dict[str, dict[str, bytes]] = {}
        self.head = ""
        self.authorizations: list[tuple[str, str]] = []
        """Path and Authorization header of every request."""
        self.commit(files)

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Move ``main`` to a commit with these files, and return the commit."""
        text = f"{self.head}{sorted((path, blob_id(data)) for path, data in files.items())}"
        self.head = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[self.head] = dict(files)
        return self.head

    def find(self, revision: str) -> dict[str, bytes] | None:
        """Return the files of a branch or commit."""
        return self.commits.get(self.head if revision == "main" else revision)


def blob_id(content: bytes) -> str:
    """Return git's name for a content."""
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


class _Handler(LoopbackHandler):
    """One connection."""

    def answer(self) -> None:
        """Serve the API, a file, or the storage."""
        hub = cast("FakeHub", self.owner)
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        sent = self.headers.get("Authorization", "")
        hub.authorizations.append((path, sent))
        api = f"/api/models/{hub.repository}"
        resolve = f"/{hub.repository}/resolve/"
        if path.startswith("/storage/"):
            _, _, revision, name = path.split("/", 3)
            self._serve(hub.commits[revision][name])
        elif hub.token and sent != f"Bearer {hub.token}":
            self._send(401, b"")
        elif path.startswith(f"{api}/revision/"):
            self._revision(hub, path.removeprefix(f"{api}/revision/"))
        elif path == api:
            self._revision(hub, "main")
        elif path.startswith(f"{api}/tree/"):
            self._tree(hub, path.removeprefix(f"{api}/tree/"), parse_qs(parts.query))
        elif path.startswith(resolve):
            revision, _, name = path.removeprefix(resolve).partition("/")
            self._resolve(hub, revision, name)
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _revision(self, hub: FakeHub, revision: str) -> None:
        files = hub.find(revision)
        if files is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        sha = hub.head if revision == "main" else revision
        self._json({"id": hub.repository, "sha": sha, "siblings": []})

    def _tree(self, hub: FakeHub, path: str, query: Mapping[str, list[str]]) -> None:
        revision, _, folder = path.partition("/")
        below = folder + "/" if folder else ""
        files = hub.find(revision)
        found = {name: data for name, data in (files or {}).items() if name.startswith(below)}
        if files is None or not found:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        recursive = query.get("recursive", ["false"])[0].lower() == "true"
        items: list[dict[str, Any]] = []  # Any: JSON
        for name, data in sorted(found.items()):
            inside = name[len(below) :]
            if "/" in inside:
                parent = {"type": "directory", "path": below + inside.partition("/")[0]}
                if {**parent, "oid": "0" * 40, "size": 0} not in items:
                    items.append({**parent, "oid": "0" * 40, "size": 0})
            if recursive or "/" not in inside:
                items.append(_item(name, data))
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE_ITEMS < len(items):
            more = f"{hub.url}{quote(urlsplit(self.path).path, safe='/%')}"
            words = f"recursive={recursive}&cursor={start + PAGE_ITEMS}"
            headers["Link"] = f'<{more}?{words}>; rel="next"'
        self._json(items[start : start + PAGE_ITEMS], headers)

    def _resolve(self, hub: FakeHub, revision: str, name: str) -> None:
        files = hub.find(revision)
        if files is None or name not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif len(files[name]) >= LARGE_BYTES:
            commit = hub.head if revision == "main" else revision
            self._send(302, b"", {"Location": f"{hub.url}/storage/{commit}/{quote(name)}"})
        else:
            self._serve(files[name])

    def _serve(self, content: bytes) -> None:
        headers = {"ETag": f'"{blob_id(content)}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        if not asked:
            self._send(200, content, headers)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last) + 1 if last else len(content), len(content))
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
        self._send(206, content[int(first) : end], headers)

    def _json(self, document: object, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self._send(200, body, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _item(path: str, content: bytes) -> dict[str, Any]:
    item: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": blob_id(content),
    }
    if len(content) >= LARGE_BYTES:
        sha256 = hashlib.sha256(content).hexdigest()
        item["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
    return item
