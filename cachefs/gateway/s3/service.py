"""The S3 endpoint: reads, in the words of Amazon's API, and a clear no to everything else.

The mapping has one rule: ``cachefs://NAMESPACE/DATASET[@VERSION]/PATH`` is the key
``DATASET[@VERSION]/PATH`` in the bucket ``NAMESPACE``. Versions are found by name and not listed, so
that a recursive copy of a bucket has each file once. A bucket is in the path, or before one of
the configured domains in the ``Host`` header.

The ETag of an object is its file version: equal ETags are equal bytes, and a dataset that did not
change keeps them. It is not an MD5 of the content, and its 40 digits keep clients from thinking so.
"""

import re
import secrets
from collections.abc import Mapping, Sequence

from cachefs.client.reader import OpenDataset
from cachefs.core.blocks import Range
from cachefs.core.names import DEFAULT_NAMESPACE
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    ConfigError,
    DeadlineError,
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
from cachefs.gateway.credentials import REGION, AccessKey
from cachefs.gateway.datasets import Datasets
from cachefs.gateway.fronts import ReadBody
from cachefs.gateway.s3 import documents
from cachefs.gateway.s3.lists import list_keys, reference_of
from cachefs.gateway.s3.refusals import Refusal, invalid
from cachefs.gateway.s3.signatures import check_signature
from cachefs.gateway.targets import decode, split_target
from cachefs.ports import Runtime
from cachefs.transport.serving.requests import Request, UnsatisfiableRangeError

_WHOLE_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e]{0,1024}")
_OVERRIDES = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}
_SUBRESOURCES = frozenset(
    (
        *("accelerate", "acl", "analytics", "attributes", "cors", "encryption", "inventory"),
        *("intelligent-tiering", "legal-hold", "lifecycle", "logging", "metrics", "notification"),
        *("object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock"),
        *("replication", "requestPayment", "restore", "retention", "select", "tagging", "torrent"),
        *("uploadId", "uploads", "versions", "website"),
    )
)
"""Parameters that ask for something else than an object or a listing."""


class S3Service:
    """Implements :class:`cachefs.gateway.fronts.Front`."""

    def __init__(
        self,
        runtime: Runtime,
        datasets: Datasets,
        key: AccessKey,
        *,
        domains: Sequence[str],
        anonymous: bool,
    ) -> None:
        """Serve datasets to who signs with the key.

        Args:
            runtime: For the wall clock, which signatures are about.
            datasets: What there is.
            key: The only one.
            domains: Host names before which a bucket may stand.
            anonymous: Whether requests need no signature.
        """
        self._runtime = runtime
        self._datasets = datasets
        self._key = key
        self._domains = tuple(domain.lower().strip(".") for domain in domains)
        self._anonymous = anonymous

    def answer(self, request: Request, read_body: ReadBody) -> Answer:
        """Return the answer to a request."""
        del read_body  # nothing that has a body is granted
        try:
            _check_reads(request)
            check_signature(request, self._key, now=self._runtime.wall(), anonymous=self._anonymous)
            return self._read(request)
        except Refusal as refusal:
            return _refused(request, refusal)

    def failure(self, request: Request, error: CacheFSError | None) -> Answer:
        """Return the answer that tells an error."""
        return _refused(request, _refusal_of(error))

    def _read(self, request: Request) -> Answer:
        target = split_target(request.target)
        values = target.only_parameters()
        path = target.path.removeprefix("/")
        bucket = self._bucket_of(request.headers.get("host", ""))
        if bucket is None:
            encoded, _, path = path.partition("/")
            bucket = decode(encoded)
        key = decode(path)
        for name in values:
            if name in _SUBRESOURCES:
                raise Refusal(501, "NotImplemented", f"?{name} is not implemented.")
        if not bucket:
            return _document(documents.buckets(self._namespaces()))
        if key:
            return self._answer_object(request, bucket, key, values)
        self._check_bucket(bucket)
        if request.method == "HEAD":
            return Answer(200, (*_own_headers(), ("x-amz-bucket-region", REGION)))
        if "location" in values:
            return _document(documents.location())
        if "versioning" in values:
            return _document(documents.versioning())
        return _document(list_keys(self._datasets, bucket, values))

    def _bucket_of(self, host: str) -> str | None:
        """Return the bucket in a host name, if there is one."""
        name = host.lower().partition(":")[0]
        for domain in self._domains:
            if name.endswith(f".{domain}"):
                return name.removesuffix(f".{domain}")
        return None

    def _namespaces(self, *, again: bool = False) -> Sequence[str]:
        every = self._datasets.every(again=again)
        return sorted({DEFAULT_NAMESPACE, *(each.name.namespace for each in every)})

    def _check_bucket(self, bucket: str) -> None:
        if bucket not in self._namespaces() and bucket not in self._namespaces(again=True):
            raise Refusal(404, "NoSuchBucket", "There is no namespace of that name.")

    def _answer_object(
        self, request: Request, bucket: str, key: str, values: Mapping[str, str]
    ) -> Answer:
        if values.get("versionId", "null") != "null":
            raise Refusal(404, "NoSuchVersion", "Versions are named in the key: NAME@VERSION/PATH.")
        dataset, path = self._find(bucket, key)
        try:
            entry = dataset.resolved.manifest.find(path)
        except NotKnownError as error:
            raise _no_such_key() from error
        facts = FileFacts(entry.file_version, dataset.resolved.listed_at, entry.size)
        headers: Headers = (
            *_own_headers(),
            *facts.headers(),
            ("x-amz-meta-cachefs-version", dataset.version),
        )
        failed = failed_condition(request.headers, facts)
        if failed == 304:
            return Answer(304, headers)
        if failed:
            raise Refusal(412, "PreconditionFailed", "A condition of the request does not hold.")
        headers += _described(values)
        wanted = _wanted(request, values, facts)
        if wanted is None:
            return Answer(200, headers, content=Content(dataset, entry, Range(0, entry.size)))
        if wanted.length:
            told = f"bytes {wanted.offset}-{wanted.end - 1}/{entry.size}"
            headers += (("Content-Range", told),)
        return Answer(206, headers, content=Content(dataset, entry, wanted))

    def _find(self, bucket: str, key: str) -> tuple[OpenDataset, str]:
        """Return what a key names."""
        name, _, path = key.partition("/")
        reference = reference_of(bucket, name)
        if reference is not None and path:
            try:
                return self._datasets.open(reference.dataset, reference.version), path
            except NotKnownError:
                pass
        self._check_bucket(bucket)
        raise _no_such_key()


def _check_reads(request: Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise Refusal(
            405,
            "MethodNotAllowed",
            "This endpoint is for reading only.",
            {"Allow": "GET, HEAD"},
        )
    if request.body_length:
        raise invalid("A request to read has no body.", "InvalidRequest")


def _wanted(request: Request, values: Mapping[str, str], facts: FileFacts) -> Range | None:
    """Return the range that is asked for; ``None`` for the whole object."""
    part = values.get("partNumber")
    if part is not None:
        if "range" in request.headers:
            raise invalid("Range and partNumber cannot both be given.", "InvalidRequest")
        if not _WHOLE_NUMBER.fullmatch(part) or not int(part):
            raise invalid("partNumber must be a whole number from 1 on.")
        if int(part) > 1:
            raise Refusal(416, "InvalidPartNumber", "Every object has one part.")
        return Range(0, facts.size)
    try:
        return wanted_range(request.headers, facts)
    except UnsatisfiableRangeError as error:
        raise Refusal(
            416,
            "InvalidRange",
            "The range has no byte of the object in it.",
            {"Content-Range": f"bytes */{facts.size}"},
        ) from error


def _described(values: Mapping[str, str]) -> Headers:
    """Return the headers that a request may set in its answer, as presigned URLs do."""
    chosen = {"Content-Type": "application/octet-stream"}
    for name, header in _OVERRIDES.items():
        if name in values:
            if not _HEADER_TEXT.fullmatch(values[name]):
                raise invalid(f"{name} cannot be sent in a header.")
            chosen[header] = values[name]
    return tuple(chosen.items())


def _own_headers() -> Headers:
    return (("x-amz-request-id", secrets.token_hex(8).upper()),)


def _document(body: bytes) -> Answer:
    return Answer(200, (*_own_headers(), ("Content-Type", "application/xml")), body)


def _refused(request: Request, refusal: Refusal) -> Answer:
    own = _own_headers()
    body = documents.error(
        refusal.code,
        refusal.message,
        resource=split_target(request.target).path,
        request_id=own[0][1],
    )
    headers = (*own, ("Content-Type", "application/xml"), *refusal.headers.items())
    return Answer(refusal.status, headers, body)


def _refusal_of(error: CacheFSError | None) -> Refusal:
    """Say an error of ours in S3's words; clients try again after 503, and after nothing else."""
    if error is None:
        return Refusal(500, "InternalError", "The gateway failed; its log says why.")
    if isinstance(error, NotKnownError):
        return _no_such_key()
    if isinstance(error, ConfigError):
        return invalid(f"{error}.", "InvalidRequest")
    if error.retryable or isinstance(error, DeadlineError | CapacityError):
        return Refusal(503, "SlowDown", f"{error}.", {"Retry-After": "1"})
    return Refusal(409, type(error).__name__.removesuffix("Error"), f"{error}.")


def _no_such_key() -> Refusal:
    return Refusal(404, "NoSuchKey", "There is no such dataset, version or file.")
