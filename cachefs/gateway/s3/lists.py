"""Lists: ListObjectsV2 and its predecessor, from the request's parameters to the document.

A listing within one dataset is of one version, however many pages it takes: the continuation token
names the version, next to the last key. A listing of a whole bucket takes each dataset as it
is when the listing comes to it.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from cachefs.core.names import DatasetName, Reference, parse_reference
from cachefs.errors import ConfigError, NotKnownError
from cachefs.gateway.datasets import Datasets
from cachefs.gateway.s3 import documents
from cachefs.gateway.s3.listing import DatasetKeys, NamespaceKeys, Page, list_names, list_page
from cachefs.gateway.s3.refusals import invalid

KEYS_MAX = 1000
"""Keys and groups of one page, as S3."""
_NOTHING = Page((), (), "")
_WHOLE_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


class _Question(NamedTuple):
    """What of a bucket is to be listed."""

    bucket: str
    prefix: str
    delimiter: str
    after: str
    limit: int
    version: str
    """The version that the listing began with; empty if it begins now."""


def list_keys(datasets: Datasets, bucket: str, values: Mapping[str, str]) -> bytes:
    """Return the document that answers a listing.

    Args:
        datasets: What there is.
        bucket: One that exists.
        values: The request's parameters.

    Raises:
        Refusal: They make no sense.
    """
    if values.get("list-type", "2") != "2":
        raise invalid("The list-type must be 2.")
    if values.get("encoding-type", "url") != "url":
        raise invalid("The encoding-type must be url.")
    limit = values.get("max-keys", str(KEYS_MAX))
    if not _WHOLE_NUMBER.fullmatch(limit):
        raise invalid("max-keys must be a whole number.")
    newer = "list-type" in values
    after, version = values.get("start-after" if newer else "marker", ""), ""
    if newer and "continuation-token" in values:
        after, version = _decode_token(values["continuation-token"])
    question = _Question(
        bucket,
        values.get("prefix", ""),
        values.get("delimiter", ""),
        after,
        min(int(limit), KEYS_MAX),
        version,
    )
    page, version = _page(datasets, question) if question.limit else (_NOTHING, "")
    asked = {
        "Name": bucket,
        "Prefix": question.prefix,
        "MaxKeys": str(question.limit),
        **({"Delimiter": question.delimiter} if question.delimiter else {}),
        **({"EncodingType": "url"} if "encoding-type" in values else {}),
        "IsTruncated": "true" if page.following else "false",
    }
    asked |= _newer(values, page, version) if newer else _older(values, page)
    return documents.listing(
        asked,
        page,
        url_encoded="encoding-type" in values,
        with_owner=not newer or values.get("fetch-owner") == "true",
    )


def reference_of(bucket: str, name: str) -> Reference | None:
    """Return what ``name[@version]`` in a bucket means; ``None`` if it can mean nothing."""
    try:
        DatasetName.parse(f"{bucket}/{name.partition('@')[0]}")
        readings = parse_reference(f"{bucket}/{name}")
    except ConfigError:
        return None
    wanted = (reading for reading in readings if reading.dataset.namespace == bucket)
    return next((reading for reading in wanted if not reading.path), None)


def _newer(values: Mapping[str, str], page: Page, version: str) -> dict[str, str]:
    """Return the elements that only ListObjectsV2 has."""
    told = {"KeyCount": str(len(page.keys) + len(page.groups))}
    if "continuation-token" in values:
        told["ContinuationToken"] = values["continuation-token"]
    if page.following:
        told["NextContinuationToken"] = _encode_token(page.following, version)
    if "start-after" in values:
        told["StartAfter"] = values["start-after"]
    return told


def _older(values: Mapping[str, str], page: Page) -> dict[str, str]:
    """Return the elements that only ListObjects has."""
    told = {"Marker": values.get("marker", "")}
    if page.following:
        told["NextMarker"] = page.following
    return told


def _page(datasets: Datasets, question: _Question) -> tuple[Page, str]:
    """Return a page, and the version that its next page must be of, if it is of one."""
    name, slash, _ = question.prefix.partition("/")
    if slash:
        return _page_of_dataset(datasets, question, name)
    names = [each.name.name for each in datasets.every() if each.name.namespace == question.bucket]
    if question.delimiter == "/":
        page = list_names(names, prefix=question.prefix, after=question.after, limit=question.limit)
        return page, ""
    keys = NamespaceKeys(
        [each for each in names if f"{each}/".startswith(question.prefix)],
        lambda each: datasets.open(DatasetName(question.bucket, each), None),
    )
    page = list_page(
        keys,
        prefix=question.prefix,
        delimiter=question.delimiter,
        after=question.after,
        limit=question.limit,
    )
    return page, ""


def _page_of_dataset(datasets: Datasets, question: _Question, name: str) -> tuple[Page, str]:
    reference = reference_of(question.bucket, name)
    if reference is None:
        return _NOTHING, ""
    try:
        dataset = datasets.open(reference.dataset, question.version or reference.version)
    except NotKnownError as error:
        if question.version:
            raise invalid("The version of this listing is gone; list again.") from error
        return _NOTHING, ""
    page = list_page(
        DatasetKeys(dataset, f"{name}/"),
        prefix=question.prefix,
        delimiter=question.delimiter,
        after=question.after,
        limit=question.limit,
    )
    return page, dataset.version


def _encode_token(after: str, version: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([after, version]).encode()).decode()


def _decode_token(token: str) -> tuple[str, str]:
    try:
        after, version = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise invalid("The continuation token is not one of ours.") from error
    if not isinstance(after, str) or not isinstance(version, str):
        raise invalid("The continuation token is not one of ours.")
    return after, version
