"""``http(s)://``: a single file, or the pages that a web server shows for its folders.

A URL that ends with ``/`` is a folder: its index page is read, and every link below it is followed.
Any other URL is one file. Whether a server takes us for a reader or a browser, sends a page that
says "log in", or forgets what a range is: nothing but the very bytes that were asked for gets
through. An answer to a range must be a 206 with exactly that range of exactly that size, not
encoded, and with the validator that the file was listed with; the request is conditional on it too,
so that a correct server says 412 before it sends anything.

The token of a file is its ETag; a weak one, or a ``Last-Modified`` where there is no ETag, is
compared afterwards only, for HTTP allows no more. A file with neither cannot be told from its
successor, and is refused.

This reader is our own, not fsspec's: the address that was checked must be the one that is connected
to, on every hop (:mod:`cachefs.origins.exchange`), and the bytes go straight into the buffer.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urljoin, urlsplit

from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry
from cachefs.core.names import printable
from cachefs.core.urls import split_url
from cachefs.errors import (
    OriginChangedError,
    OriginNotFoundError,
    OriginProtocolError,
    OriginUnavailableError,
)
from cachefs.origins.exchange import Answer, Exchange, shown
from cachefs.ports import OriginFile

FOLDERS_LIMIT = 10_000
INDEX_BYTES_MAX = 16 * 1024 * 1024

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)


class HttpOrigin:
    """Implements :class:`cachefs.ports.Origin` on a web server."""

    client = "http"
    reason = "our own reader checks each answer and each address"

    def __init__(self, spec: OriginSpec, exchange: Exchange) -> None:
        """Keep the exchange, which is closed with this origin."""
        split_url(spec.url)
        self._spec = spec
        self._url = spec.url.partition("#")[0]
        self._exchange = exchange

    @property
    def _is_folder(self) -> bool:
        return urlsplit(self._url).path.endswith("/") or not urlsplit(self._url).path

    def pin(self) -> OriginSpec:
        """Return the spec: nothing in a URL is known to move."""
        return self._spec

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def list_files(self) -> Iterator[OriginFile]:
        """Yield the file, or every file that the index pages link to."""
        if not self._is_folder:
            name = unquote(PurePosixPath(urlsplit(self._url).path).name)
            yield self._describe(name, self._url)
            return
        empty = True
        for url in self._walk():
            empty = False
            yield self._describe(unquote(urlsplit(url).path[len(urlsplit(self._root).path) :]), url)
        if empty:
            raise OriginNotFoundError("the index links to no file", subject=shown(self._url))

    @property
    def _root(self) -> str:
        return self._url if urlsplit(self._url).path else self._url + "/"

    def _walk(self) -> Iterator[str]:
        """Yield the URL of each file below the root, each once."""
        seen = {self._root}
        folders = [self._root]
        while folders:
            folder = folders.pop()
            for link in self._links(folder):
                if link in seen:
                    continue
                seen.add(link)
                if not link.endswith("/"):
                    yield link
                    continue
                folders.append(link)
                if len(folders) > FOLDERS_LIMIT:
                    raise OriginProtocolError(
                        f"more than {FOLDERS_LIMIT} folders", subject=shown(self._url)
                    )

    def _links(self, folder: str) -> Iterator[str]:
        """Yield what an index page links to, below itself."""
        answer, page = self._exchange.request("GET", folder, {}, body_limit=INDEX_BYTES_MAX)
        if len(page) == INDEX_BYTES_MAX:
            raise OriginProtocolError(
                f"an index page of more than {INDEX_BYTES_MAX} bytes", subject=shown(folder)
            )
        if "html" not in answer.header("Content-Type"):
            raise OriginProtocolError(
                "the folder has no index page",
                subject=shown(folder),
                hint="give the URL of a single file, without a closing slash",
            )
        base = urlsplit(folder)
        parser = _Links()
        parser.feed(page.decode("utf-8", errors="replace"))
        for href in parser.found:
            link = urlsplit(urljoin(answer.url, href))
            below = link.path.removeprefix(base.path)
            same = (link.scheme, link.netloc) == (base.scheme, base.netloc)
            if same and link.path.startswith(base.path) and below and not link.query:
                yield link._replace(fragment="").geturl()

    def _describe(self, path: str, url: str) -> OriginFile:
        answer, _ = self._exchange.request("HEAD", url, {})
        size = _announced_length(answer)
        _refuse_encoding(answer)
        if "html" in answer.header("Content-Type") and not path.endswith((".html", ".htm")):
            raise OriginProtocolError(
                "an HTML page instead of a file",
                subject=shown(url),
                hint="end the URL with / if it is a folder; else the server may want a log-in",
            )
        if size < 0:
            raise OriginProtocolError("the server does not tell the size", subject=shown(url))
        token = _token(answer)
        if not token:
            raise OriginProtocolError(
                "the server sends neither ETag nor Last-Modified",
                subject=shown(url),
                hint="without one of them a changed file cannot be told from the old one",
            )
        return OriginFile(path, size, token, "")

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Read a range, straight into the buffer."""
        if length == 0:
            return memoryview(b"")
        url = self._root + quote(entry.path) if self._is_folder else self._url
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        if entry.token.startswith('"'):
            headers["If-Match"] = entry.token
        elif not entry.token.startswith("W/"):
            headers["If-Unmodified-Since"] = entry.token
        data = room_for(length, buffer)

        def check(answer: Answer) -> None:
            _refuse_encoding(answer)
            check_token(answer, entry)
            check_range(answer, entry, offset, length)

        self._exchange.request("GET", url, headers, data, check)
        return data


def check_token(answer: Answer, entry: FileEntry) -> None:
    """Raise unless the answer is of the content that was listed."""
    subject = printable(entry.path)
    token = _token(answer)
    if token == entry.token:
        return
    if answer.status == 200 and "html" in answer.header("Content-Type"):
        raise OriginProtocolError("an HTML page instead of the file", subject=subject)
    if not token:
        raise OriginProtocolError("the answer has no ETag", subject=subject)
    raise OriginChangedError("the file has changed since it was listed", subject=subject)


def room_for(length: int, buffer: memoryview | None) -> memoryview:
    """Return where a body is received."""
    if buffer is not None and len(buffer) >= length:
        return buffer[:length]
    return memoryview(bytearray(length))


def check_range(answer: Answer, entry: FileEntry, offset: int, length: int) -> None:
    """Raise unless the head of an answer announces exactly the range of a file of that size.

    A 200 will do if the whole file was asked for.
    """
    subject = printable(entry.path)
    _refuse_encoding(answer)
    if answer.status == 206:
        match = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
        if match is None:
            raise OriginProtocolError("a 206 without a usable Content-Range", subject=subject)
        first, last, size = (int(number) for number in match.groups())
        if size != entry.size:
            raise OriginChangedError("the file has another size now", subject=subject)
        if (first, last) != (offset, offset + length - 1):
            raise OriginProtocolError(
                f"the range {first}-{last} was answered for {offset}-{offset + length - 1}",
                subject=subject,
            )
    elif answer.status != 200:
        raise OriginProtocolError(f"the origin answered {answer.status}", subject=subject)
    elif offset != 0 or length != entry.size:
        raise OriginProtocolError(
            "the server does not serve ranges: it answered 200",
            subject=subject,
            hint="use a server that answers 206 to a Range request",
        )
    announced = _announced_length(answer)
    if announced not in (-1, length):
        short = announced < length and answer.status == 206
        raise (OriginUnavailableError if short else OriginProtocolError)(
            f"a body of {announced} bytes for {length} asked", subject=subject
        )


class _Links(HTMLParser):
    """Collects the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of an ``a``."""
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _announced_length(answer: Answer) -> int:
    text = answer.header("Content-Length")
    return int(text) if text.isascii() and text.isdigit() else -1


def _refuse_encoding(answer: Answer) -> None:
    encoding = answer.header("Content-Encoding")
    if encoding not in ("", "identity"):
        raise OriginProtocolError(
            f"the body is encoded ({printable(encoding)}), though we asked for identity",
            subject=shown(answer.url),
        )


def _token(answer: Answer) -> str:
    return answer.header("ETag") or answer.header("Last-Modified")
