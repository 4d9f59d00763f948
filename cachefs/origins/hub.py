"""``hf://``: models, datasets and spaces of the Hugging Face Hub, or of a server that speaks like it.

``hf://org/model[@revision][/folder]``, ``hf://datasets/org/name[@revision][/folder]``. A branch or a
tag moves; so the origin of a version is *pinned* to the commit that it was listed at, and every read
names the commit. The token of a file is its blob id, and the Hub's SHA-256 of a large file becomes
the manifest's digest, so that the content is proven whoever delivers it.

Listings and bytes both come through our own exchange, and not through ``huggingface_hub``: the Hub
redirects to its storage, so each hop is checked and the token stays with the Hub; an answer that is
not the range is refused; and every wait ends, where that library's listings have no time limit. It
is asked for one thing, if it is installed: the token of the user's log-in.
"""

import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urljoin

from cachefs.config.schema import OriginConfig
from cachefs.config.secrets import Secret
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry
from cachefs.core.names import printable
from cachefs.core.urls import split_url
from cachefs.errors import (
    ConfigError,
    OriginChangedError,
    OriginNotFoundError,
    OriginProtocolError,
)
from cachefs.origins.addresses import Addresses
from cachefs.origins.credentials import check_plain
from cachefs.origins.exchange import Answer, Exchange
from cachefs.origins.http import check_range
from cachefs.ports import OriginFile, Runtime

DEFAULT_ENDPOINT = "https://huggingface.co"

PAGE_BYTES_MAX = 16 * 1024 * 1024
PAGES_LIMIT = 10_000
_NEXT_PAGE = re.compile(r'<([^>]+)>;\s*rel="next"')
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_URL = re.compile(
    r"hf://(?:(?P<kind>models|datasets|spaces)/)?(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[\w.-]+|[^/@]+))?(?:/(?P<folder>.*))?",
    re.ASCII | re.DOTALL,
)


class HubOrigin:
    """Implements :class:`cachefs.ports.Origin` on a repository of the Hub."""

    client = "hub"
    reason = "our own reader checks each answer and each address"

    def __init__(
        self,
        spec: OriginSpec,
        config: OriginConfig,
        runtime: Runtime,
        addresses: Addresses,
        token: Secret | None,
    ) -> None:
        """Take the URL apart; asks nothing yet.

        Raises:
            ConfigError: It names no repository.
            OriginDeniedError: The Hub's host may not be contacted.
        """
        match = _URL.fullmatch(spec.url)
        if match is None:
            raise ConfigError(
                f"not a Hub URL: {printable(spec.url)!r}",
                hint="write it like hf://org/model@main or hf://datasets/org/name",
            )
        split_url(spec.url)
        self._spec = spec
        self._kind = match["kind"] or "models"
        self._repo = match["repo"]
        self._revision = unquote(match["revision"] or "main")
        self._folder = (match["folder"] or "").strip("/")
        endpoint = spec.options.get("endpoint_url") or os.environ.get("HF_ENDPOINT")
        self._endpoint = (endpoint or DEFAULT_ENDPOINT).rstrip("/")
        addresses.check_endpoint(self._endpoint)
        if token is None and spec.options.get("anon") != "true":
            token = _logged_in()
            if token is not None:
                check_plain(spec.options)
        self._exchange = Exchange(
            config,
            runtime,
            addresses=addresses,
            bearer=token.reveal() if token is not None else "",
        )
        self._lock = threading.Lock()
        self._listed: dict[str, OriginFile] | None = None
        """The files of the commit, where the spec does not name one."""
        self._moves = _COMMIT.fullmatch(self._revision) is None
        """Whether the spec names a branch, so that an entry may be of another commit than ours."""
        self._at = "" if self._moves else self._revision

    def pin(self) -> OriginSpec:
        """Return the spec at the commit that its branch or tag names now, and stay at that commit."""
        if not self._moves:
            return self._spec
        commit = self._resolve()
        with self._lock:
            self._at = commit
            self._listed = None
        kind = "" if self._kind == "models" else f"{self._kind}/"
        folder = f"/{self._folder}" if self._folder else ""
        return replace(self._spec, url=f"hf://{kind}{self._repo}@{commit}{folder}")

    def _commit(self) -> str:
        """Return the commit of all answers until the next :meth:`pin`."""
        # Two threads may ask at once, and be told different commits; the first to be here decides.
        commit = self._at or self._resolve()
        with self._lock:
            self._at = self._at or commit
            return self._at

    def _resolve(self) -> str:
        answer = self._ask(f"revision/{quote(self._revision, safe='')}")[0]
        found = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(found, str) or not _COMMIT.fullmatch(found):
            raise OriginProtocolError("the Hub names no commit", subject=self._spec.url)
        return found

    def _ask(self, path: str) -> tuple[Any, str]:  # Any: JSON
        """Return what the Hub's API answers, and the URL of the next page or nothing."""
        url = path
        if "://" not in path:
            url = f"{self._endpoint}/api/{self._kind}/{self._repo}/{path}"
        answer, body = self._exchange.request("GET", url, {}, body_limit=PAGE_BYTES_MAX)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise OriginProtocolError(
                "the Hub's answer is not JSON", subject=printable(self._spec.url)
            ) from error
        more = _NEXT_PAGE.search(answer.header("Link"))
        return document, urljoin(url, more[1]) if more is not None else ""

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def list_files(self) -> Iterator[OriginFile]:
        """Yield every file of the commit below the folder."""
        files = self._list()
        if not files:
            raise OriginNotFoundError("no file there", subject=printable(self._spec.url))
        yield from files.values()

    def _list(self) -> dict[str, OriginFile]:
        tree = f"tree/{self._commit()}"
        below = f"{self._folder}/" if self._folder else ""
        try:
            folder = f"/{quote(self._folder)}" if below else ""
            return self._collect(f"{tree}{folder}?recursive=true", below)
        except OriginNotFoundError:
            if not below:
                raise
        # The URL may name one file: it is then in the listing of the folder above.
        above, slash, name = self._folder.rpartition("/")
        files = self._collect(f"{tree}/{quote(above)}" if slash else tree, above + slash)
        return {name: files[name]} if name in files else {}

    def _collect(self, page: str, below: str) -> dict[str, OriginFile]:
        """Return the files of a listing by their path below a folder, all pages of it."""
        files: dict[str, OriginFile] = {}
        for _ in range(PAGES_LIMIT):
            items, page = self._ask(page)
            try:
                for item in items:
                    if item["type"] == "file" and item["path"].startswith(below):
                        path = item["path"][len(below) :]
                        files[path] = _describe(path, item)
            except (KeyError, TypeError, AttributeError) as error:
                raise OriginProtocolError(
                    "the Hub's listing cannot be used", subject=printable(self._spec.url)
                ) from error
            if not page:
                return files
        raise OriginProtocolError("a listing without an end", subject=printable(self._spec.url))

    def read_range(
        self,
        entry: FileEntry,
        offset: int,
        length: int,
        buffer: memoryview | None = None,  # noqa: ARG002 - the library has memory of its own
    ) -> memoryview:
        """Read a range of the file at the commit."""
        if length == 0:
            return memoryview(b"")
        commit = self._commit()
        if self._moves:
            self._expect(entry)
        path = f"{self._folder}/{entry.path}" if self._folder else entry.path
        data = memoryview(bytearray(length))
        try:
            self._exchange.request(
                "GET", self._url(commit, path), *_asked(entry, offset, length, data)
            )
        except OriginNotFoundError:
            if not self._folder or entry.path != self._folder.rpartition("/")[2]:
                raise
            self._exchange.request(
                "GET", self._url(commit, self._folder), *_asked(entry, offset, length, data)
            )
        return data

    def _url(self, commit: str, path: str) -> str:
        kind = "" if self._kind == "models" else f"{self._kind}/"
        return f"{self._endpoint}/{kind}{self._repo}/resolve/{commit}/{quote(path)}"

    def _expect(self, entry: FileEntry) -> None:
        """Refuse an entry that is not of the commit that our branch named when we asked."""
        if self._listed is None:
            self._listed = self._list()
        file = self._listed.get(entry.path)
        if file is None:
            raise OriginNotFoundError("no such file", subject=printable(entry.path))
        if (file.token, file.size) != (entry.token, entry.size):
            raise OriginChangedError(
                "the file has changed since it was listed", subject=printable(entry.path)
            )


def _asked(entry: FileEntry, offset: int, length: int, data: memoryview) -> tuple[Any, ...]:
    """Return headers, buffer and check of a ranged request."""

    def check(answer: Answer) -> None:
        check_range(answer, entry, offset, length)

    return {"Range": f"bytes={offset}-{offset + length - 1}"}, data, check


def _describe(path: str, item: dict[str, Any]) -> OriginFile:
    large = item.get("lfs")
    if large is None:
        return OriginFile(path, int(item["size"]), str(item["oid"]), "")
    return OriginFile(path, int(large["size"]), str(item["oid"]), f"sha256:{large['oid']}")


def _logged_in() -> Secret | None:
    """Return the token of the environment or of the user's log-in."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        found = os.environ.get("HF_TOKEN")
    else:
        found = get_token()
    return Secret(found) if found else None
