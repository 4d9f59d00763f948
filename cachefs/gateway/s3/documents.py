"""Documents: the XML of S3's answers, written element by element.

Text is escaped here and nowhere else. XML 1.0 has no place for most control characters; S3 writes
them as character references all the same, and asks clients to want ``encoding-type=url``, which
all of them do.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from cachefs.gateway.credentials import REGION
from cachefs.gateway.s3.listing import Listed, Page

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"} | {
    number: f"&#x{number:x};" for number in (*range(0x20), 0x7F)
}
OWNER = "cachefs"
"""Whom everything belongs to."""
ENCODED = frozenset({"Prefix", "Delimiter", "StartAfter", "Marker", "NextMarker"})
"""What ``encoding-type=url`` is about, besides the keys."""


def text(value: object) -> str:
    """Return a value as text that can stand between tags."""
    return str(value).translate(_ESCAPES)


def element(name: str, content: str | Iterable[str], attributes: str = "") -> str:
    """Return an element whose content is written already."""
    inner = content if isinstance(content, str) else "".join(content)
    return f"<{name}{attributes}>{inner}</{name}>"


def document(name: str, content: str | Iterable[str]) -> bytes:
    """Return a whole document."""
    return (_DECLARATION + element(name, content, f' xmlns="{_NAMESPACE}"')).encode(
        "utf-8", "replace"
    )


def error(code: str, message: str, *, resource: str, request_id: str) -> bytes:
    """Return the document that a failure is told with."""
    fields = {"Code": code, "Message": message, "Resource": resource, "RequestId": request_id}
    inner = "".join(element(name, text(value)) for name, value in fields.items())
    return (_DECLARATION + element("Error", inner)).encode("utf-8", "replace")


def moment(seconds: float) -> str:
    """Return a time as S3 writes it in documents."""
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def buckets(names: Iterable[str]) -> bytes:
    """Return the list of buckets."""
    each = (
        element("Bucket", (element("Name", text(name)), element("CreationDate", moment(0))))
        for name in names
    )
    return document("ListAllMyBucketsResult", (_owner(), element("Buckets", each)))


def location() -> bytes:
    """Say where a bucket is."""
    return document("LocationConstraint", text(REGION))


def versioning() -> bytes:
    """Say that a bucket has no object versions, in S3's sense."""
    return document("VersioningConfiguration", "")


def listing(asked: Mapping[str, str], page: Page, *, url_encoded: bool, with_owner: bool) -> bytes:
    """Return one page of a listing.

    Args:
        asked: Elements that repeat or describe the request; those in :data:`ENCODED` are encoded.
        page: What was found.
        url_encoded: Percent-encode names, so that any character can be told.
        with_owner: Name the owner with every key.
    """

    def name(value: str) -> str:
        return text(quote(value, safe="/-._~") if url_encoded else value)

    fields = (
        element(field, name(value) if field in ENCODED else text(value))
        for field, value in asked.items()
    )
    contents = (_contents(each, name(each.key), with_owner=with_owner) for each in page.keys)
    groups = (element("CommonPrefixes", element("Prefix", name(each))) for each in page.groups)
    return document("ListBucketResult", (*fields, *contents, *groups))


def _contents(listed: Listed, key: str, *, with_owner: bool) -> str:
    return element(
        "Contents",
        (
            element("Key", key),
            element("LastModified", moment(listed.listed_at)),
            element("ETag", f"&quot;{listed.entry.file_version}&quot;"),
            element("Size", str(listed.entry.size)),
            _owner() if with_owner else "",
            element("StorageClass", "STANDARD"),
        ),
    )


def _owner() -> str:
    return element("Owner", (element("ID", OWNER), element("DisplayName", OWNER)))
