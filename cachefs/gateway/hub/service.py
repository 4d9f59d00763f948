"""The Hub endpoint: what ``huggingface_hub`` asks for when it reads, and nothing that writes.

============================================================  =====================================
``GET /api/KIND``                                              the datasets, one short object each
``GET /api/KIND/REPO[/revision/REV]``                          a repository: commit and files
``GET /api/KIND/REPO/tree/REV[/PATH]``                         files and folders, in pages
``POST /api/KIND/REPO/paths-info/REV``                         some of them
``GET /api/KIND/REPO/refs``                                    one branch, ``main``
``GET /api/KIND/REPO/auth-check``                              nothing, if it exists
``GET /api/whoami-v2``                                         who the token is for
``HEAD``, ``GET [/datasets|/spaces]/REPO/resolve/REV/PATH``    a file
============================================================  =====================================

``KIND`` is ``models``, ``datasets`` or ``spaces``. A file's answer carries the commit that it is of; a
client that asked for a branch goes on with that commit, and so reads one version.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote

from cachefs.config.secrets import Secret
from cachefs.core.blocks import Range
from cachefs.core.names import printable
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ConfigError,
    DeadlineError,
    DeniedError,
    NotKnownError,
)
from cachefs.gateway.answers import (
    Answer,
    Content,
    FileFacts,
    Headers,
    failed_condition,
    wanted_range,
)
from cachefs.gateway.fronts import ReadBody
from cachefs.gateway.hub.repositories import (
    KINDS,
    MAIN,
    Found,
    NoRepositoryError,
    NoRevisionError,
    Repositories,
    sha256_of,
)
from cachefs.gateway.hub.trees import (
    PAGE_ITEMS,
    describe_path,
    describe_sibling,
    moment,
    tree_page,
)
from cachefs.gateway.targets import Target, decode, split_target
from cachefs.transport.serving.requests import Request, UnsatisfiableRangeError

_LIMIT = re.compile(r"[1-9]\d{0,4}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}", re.ASCII)
_PATHS_LIMIT = 10_000
_ACTIONS = frozenset({"revision", "tree", "paths-info", "refs", "auth-check"})


class _NotAllowedError(ConfigError):
    """A method that writes, or that makes no sense here."""


_LATER: Headers = (("Retry-After", "1"),)
_TOLD: Mapping[type[CacheFSError], tuple[int, str, Headers]] = {
    DeniedError: (401, "", (("WWW-Authenticate", "Bearer"),)),
    NoRepositoryError: (404, "RepoNotFound", ()),
    NoRevisionError: (404, "RevisionNotFound", ()),
    NotKnownError: (404, "EntryNotFound", ()),
    _NotAllowedError: (405, "", (("Allow", "GET, HEAD"),)),
    ConfigError: (400, "", ()),
    DeadlineError: (503, "", _LATER),
    CapacityError: (503, "", _LATER),
}
"""Status, the Hub's own word and headers by error; the first that fits counts."""


class HubService:
    """Implements :class:`cachefs.gateway.fronts.Front`."""

    def __init__(
        self, repositories: Repositories, tokens: Sequence[Secret], *, anonymous: bool
    ) -> None:
        """Serve repositories to who shows one of the tokens.

        Args:
            repositories: What there is.
            tokens: Any of them will do.
            anonymous: Whether requests need none.
        """
        self._repositories = repositories
        self._tokens = tuple(tokens)
        self._anonymous = anonymous
        self._actions: Mapping[str, Callable[[Request, Target, Found, Sequence[str]], Answer]] = {
            "revision": self._answer_info,
            "tree": self._answer_tree,
            "refs": self._answer_refs,
            "auth-check": lambda *_: _json({}),
        }

    def answer(self, request: Request, read_body: ReadBody) -> Answer:
        """Return the answer to a request."""
        if request.method not in ("GET", "HEAD", "POST"):
            raise _NotAllowedError("this endpoint is for reading only")
        self._check_token(request)
        target = split_target(request.target)
        segments = [decode(each) for each in target.path.removeprefix("/").split("/")]
        if segments[0] == "api":
            return self._answer_api(request, target, segments[1:], read_body)
        if request.method == "POST":
            raise _NotAllowedError("this endpoint is for reading only")
        if request.body_length:
            raise ConfigError("a request to read has no body")
        return self._answer_file(request, segments)

    def failure(self, request: Request, error: CacheFSError | None) -> Answer:
        """Return the answer that tells an error."""
        del request
        status, code, extra = _told(error)
        message = "the gateway failed; its log says why" if error is None else str(error)
        safe = printable(message).encode("ascii", "backslashreplace").decode()
        headers: Headers = (("X-Error-Message", safe[:1000]), *extra)
        if code:
            headers += (("X-Error-Code", code),)
        return _json({"error": message}, status=status, headers=headers)

    def _check_token(self, request: Request) -> None:
        authorization = request.headers.get("authorization")
        if authorization is None and self._anonymous:
            return
        scheme, _, value = (authorization or "").partition(" ")
        right = [token.matches(value.strip()) for token in self._tokens]
        if scheme.lower() != "bearer" or not any(right):
            # huggingface_hub takes other words for a repository that does not exist.
            raise DeniedError("Invalid credentials in Authorization header")

    def _answer_api(
        self, request: Request, target: Target, segments: list[str], read_body: ReadBody
    ) -> Answer:
        if segments == ["whoami-v2"]:
            return _json({"type": "user", "id": "cachefs", "name": "cachefs", "orgs": []})
        kind, rest = segments[0] if segments else "", segments[1:]
        if kind not in KINDS:
            raise NotKnownError("no such path")
        if not rest:
            return self._answer_list(target)
        repository, action, arguments = _split(rest)
        if action == "paths-info":
            if request.method != "POST":
                raise _NotAllowedError("paths-info is asked for by POST")
            found = self._repositories.find(kind, repository, "/".join(arguments) or MAIN)
            return _answer_paths(request, found, read_body())
        if request.method == "POST":
            raise _NotAllowedError("this endpoint is for reading only")
        revision = MAIN
        if action in ("revision", "tree"):
            revision = (arguments or [MAIN])[0]
        found = self._repositories.find(kind, repository, revision)
        return self._actions[action](request, target, found, [kind, *arguments])

    def _answer_list(self, target: Target) -> Answer:
        wanted = dict(target.parameters()).get("search", "").lower()
        names = [name for name in self._repositories.every() if wanted in name.lower()]
        return _json(
            [{"id": name, "modelId": name, "private": False, "tags": []} for name in names]
        )

    def _answer_info(
        self, request: Request, target: Target, found: Found, _arguments: Sequence[str]
    ) -> Answer:
        del request
        blobs = dict(target.parameters()).get("blobs", "").lower() in ("true", "1")
        dataset = found.dataset
        return _json(
            {
                "_id": dataset.version[:24],
                "id": found.repository,
                "modelId": found.repository,
                "sha": dataset.version,
                "lastModified": moment(dataset.resolved.listed_at),
                "private": False,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [
                    describe_sibling(found, entry, blobs=blobs) for entry in dataset.files
                ],
            }
        )

    def _answer_tree(
        self, request: Request, target: Target, found: Found, arguments: Sequence[str]
    ) -> Answer:
        values = dict(target.parameters())
        recursive, expanded = (
            values.get(name, "").lower() in ("true", "1") for name in ("recursive", "expand")
        )
        limit = values.get("limit", str(PAGE_ITEMS))
        if not _LIMIT.fullmatch(limit):
            raise ConfigError("limit must be a whole number from 1 on")
        kind, *path = arguments
        folder = "/".join(path[1:]).strip("/")
        page = tree_page(
            found,
            folder,
            recursive=recursive,
            expanded=expanded,
            after=values.get("cursor", ""),
            limit=min(int(limit), PAGE_ITEMS),
        )
        headers: Headers = ()
        if page.following:
            # The next page is of this version, whatever the branch means by then.
            below = f"/{quote(folder, safe='/')}" if folder else ""
            repository = quote(found.repository)
            link = (
                f"http://{_host(request)}/api/{kind}/{repository}/tree/{found.dataset.version}{below}"
                f"?recursive={recursive}&expand={expanded}&limit={limit}"
                f"&cursor={quote(page.following, safe='')}"
            )
            headers = (("Link", f'<{link}>; rel="next"'),)
        return _json(page.items, headers=headers)

    def _answer_refs(
        self, request: Request, target: Target, found: Found, _arguments: Sequence[str]
    ) -> Answer:
        del request, target
        commit = found.dataset.version
        branch = {"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": commit}
        return _json({"branches": [branch], "converts": [], "tags": []})

    def _answer_file(self, request: Request, segments: list[str]) -> Answer:
        kind = segments.pop(0) if segments[0] in KINDS[1:] and len(segments) > 3 else KINDS[0]
        at = next((at for at in (1, 2) if segments[at : at + 1] in (["resolve"], ["raw"])), 0)
        if not at or len(segments) < at + 3:
            raise NotKnownError("no such path")
        repository, revision = "/".join(segments[:at]), segments[at + 1]
        path = "/".join(segments[at + 2 :])
        found = self._repositories.find(kind, repository, revision)
        commit = ("X-Repo-Commit", found.dataset.version)
        try:
            entry = found.dataset.resolved.manifest.find(path)
        except NotKnownError as error:
            # Clients remember that this commit has no such file.
            answer = self.failure(request, error)
            return Answer(404, (*answer.headers, commit), answer.body)
        facts = FileFacts(found.etag(entry), found.dataset.resolved.listed_at, entry.size)
        headers: Headers = (*facts.headers(), commit, ("Content-Type", "application/octet-stream"))
        if sha256_of(entry):
            headers += (("X-Linked-Size", str(entry.size)), ("X-Linked-Etag", f'"{facts.etag}"'))
        failed = failed_condition(request.headers, facts)
        if failed:
            return Answer(failed, headers)
        try:
            wanted = wanted_range(request.headers, facts)
        except UnsatisfiableRangeError as error:
            answer = _json({"error": error.message}, status=416)
            told = ("Content-Range", f"bytes */{entry.size}")
            return Answer(416, (*answer.headers, commit, told), answer.body)
        if wanted is None:
            return Answer(200, headers, content=Content(found.dataset, entry, Range(0, entry.size)))
        told = ("Content-Range", f"bytes {wanted.offset}-{wanted.end - 1}/{entry.size}")
        return Answer(206, (*headers, told), content=Content(found.dataset, entry, wanted))


def _split(segments: list[str]) -> tuple[str, str, list[str]]:
    """Return repository, action and the rest of an API path."""
    for at in (2, 1):
        if len(segments) > at and segments[at] in _ACTIONS:
            return "/".join(segments[:at]), segments[at], segments[at + 1 :]
    if len(segments) > 2:
        raise NotKnownError("no such path")
    return "/".join(segments), "revision", []


def _answer_paths(request: Request, found: Found, body: bytes) -> Answer:
    """Return what is at some paths, given as a form or as JSON."""
    expanded = False
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            document = json.loads(body)
            paths, expanded = document["paths"], bool(document.get("expand", False))
        else:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_PATHS_LIMIT)
            paths = [value for name, value in fields if name == "paths"]
            expanded = dict(fields).get("expand", "").lower() in ("true", "1")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError("the body does not say which paths") from error
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ConfigError("paths must be a list of texts")
    if len(paths) > _PATHS_LIMIT:
        raise ConfigError("too many paths")
    items = (describe_path(found, path, expanded=expanded) for path in paths)
    return _json([item for item in items if item is not None])


def _told(error: CacheFSError | None) -> tuple[int, str, Headers]:
    """Return status, the Hub's own word, and headers that tell an error."""
    if error is None:
        return 500, "", ()
    for kind, told in _TOLD.items():
        if isinstance(error, kind):
            return told
    if error.retryable:
        return 503, "", _LATER
    return 409, "", ()


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise ConfigError("a Host header that names no host")
    return host


def _json(document: Any, *, status: int = 200, headers: Headers = ()) -> Answer:
    body = json.dumps(document).encode()
    return Answer(status, (*headers, ("Content-Type", "application/json")), body)
