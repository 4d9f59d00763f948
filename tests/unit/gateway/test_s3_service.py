"""The S3 endpoint's answers, without sockets."""

import xml.etree.ElementTree as ET

import pytest

from cachefs.config.secrets import Secret
from cachefs.core.blocks import Range
from cachefs.errors import (
    CapacityError,
    ConfigError,
    DeadlineError,
    OriginChangedError,
    OriginUnavailableError,
)
from cachefs.gateway.credentials import access_key
from cachefs.gateway.s3.service import S3Service
from cachefs.transport.runtime import ThreadRuntime
from tests.unit.gateway.shelves import Shelf, ask, no_body

NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@pytest.fixture
def shelf():
    made = Shelf()
    made.put("m", {"config.json": 7, "sub/a b": 3, "sub/b\n<": 0, "w.bin": 1000})
    made.put("team/n", {"x": 1})
    return made


@pytest.fixture
def get(shelf):
    service = make(shelf)

    def get(target, method="GET", **headers):
        return service.answer(ask(method, target, **headers), no_body)

    return get


def make(shelf, *, anonymous=True):
    return S3Service(
        ThreadRuntime(),
        shelf,
        access_key(Secret("t")),
        domains=("localhost", "s3.example"),
        anonymous=anonymous,
    )


def header(answer, name):
    (value,) = [value for known, value in answer.headers if known == name]
    return value


def parsed(answer):
    return ET.fromstring(answer.body)  # noqa: S314 - it is what we have written


def code(answer):
    return answer.status, parsed(answer).findtext("Code")


def texts(answer, *path):
    return [each.text for each in parsed(answer).findall("/".join(NS + part for part in path))]


def test_namespaces_are_buckets(get):
    assert texts(get("/"), "Buckets", "Bucket", "Name") == ["default", "team"]
    assert get("/team", "HEAD").status == 200
    assert code(get("/none", "HEAD")) == (404, "NoSuchBucket")
    assert b"us-east-2" in get("/default?location").body
    assert get("/default?versioning").status == 200


def test_a_listing_has_keys_and_groups(get):
    answer = get("/default?list-type=2&delimiter=/&prefix=m/")
    assert texts(answer, "Contents", "Key") == ["m/config.json", "m/w.bin"]
    assert texts(answer, "Contents", "Size") == ["7", "1000"]
    assert texts(answer, "Contents", "LastModified") == ["2023-11-14T22:13:20.000Z"] * 2
    assert texts(answer, "CommonPrefixes", "Prefix") == ["m/sub/"]
    assert texts(answer, "KeyCount") == ["3"]
    assert texts(get("/default?list-type=2&delimiter=/"), "CommonPrefixes", "Prefix") == ["m/"]
    assert texts(get("/default?list-type=2&prefix=nothing/"), "Contents") == []


def test_names_are_encoded_when_asked_for(get):
    keys = texts(get("/default?list-type=2&encoding-type=url&prefix=m/sub/"), "Contents", "Key")
    assert keys == ["m/sub/a%20b", "m/sub/b%0A%3C"]
    assert b"m/sub/b&#xa;&lt;" in get("/default?list-type=2&prefix=m/sub/").body


def test_owners_are_shown_by_the_old_listing_and_on_request(get):
    owner = ("Contents", "Owner", "ID")
    assert texts(get("/team"), *owner) == ["cachefs"]
    assert texts(get("/team?list-type=2"), *owner) == []
    assert texts(get("/team?list-type=2&fetch-owner=true"), *owner) == ["cachefs"]


def test_pages_stay_with_the_version_that_they_began_with(shelf, get):
    first = get("/default?list-type=2&prefix=m/&max-keys=2")
    assert texts(first, "IsTruncated") == ["true"]
    (token,) = texts(first, "NextContinuationToken")
    old = shelf.current[next(iter(shelf.current))]
    shelf.put("m", {"zzz": 1})
    second = get(f"/default?list-type=2&prefix=m/&continuation-token={token}")
    assert texts(second, "Contents", "Key") == ["m/sub/b\n<", "m/w.bin"]
    assert texts(get("/default?list-type=2&prefix=m/"), "Contents", "Key") == ["m/zzz"]
    del shelf.versions[old.name, old.version]
    gone = get(f"/default?list-type=2&prefix=m/&continuation-token={token}")
    assert code(gone) == (400, "InvalidArgument"), "a listing that goes on must not end early"


def test_the_old_listing_goes_on_after_its_marker(get):
    first = get("/default?prefix=m/&delimiter=/&max-keys=2")
    assert texts(first, "NextMarker") == ["m/sub/"]
    second = get("/default?prefix=m/&delimiter=/&marker=m/sub/")
    assert texts(second, "Contents", "Key") == ["m/w.bin"]
    assert texts(second, "CommonPrefixes") == []


@pytest.mark.parametrize(
    "query",
    [
        "list-type=3",
        "list-type=2&max-keys=-1",
        "list-type=2&max-keys=x",
        "list-type=2&max-keys=99999999999999999999",
        "list-type=2&encoding-type=xml",
        "list-type=2&continuation-token=nonsense",
        "list-type=2&continuation-token=W10=",
        "list-type=2&continuation-token=WzEsMl0=",
    ],
)
def test_a_listing_that_makes_no_sense_is_refused(get, query):
    assert code(get(f"/default?{query}")) == (400, "InvalidArgument")


def test_no_keys_may_be_asked_for(get):
    answer = get("/default?list-type=2&max-keys=0")
    assert texts(answer, "IsTruncated") == ["false"]
    assert texts(answer, "Contents") == []


def test_an_object_is_found_by_its_path_or_its_host(shelf, get):
    version = shelf.current[next(iter(shelf.current))].version
    for answer in (
        get("/default/m/w.bin"),
        get("/m/w.bin", host="default.localhost:80"),
        get("/m/w.bin", host="Default.S3.example"),
        get(f"/default/m@{version}/w.bin"),
        get(f"/default/m@{version[:6]}/w.bin"),
    ):
        assert answer.status == 200
        assert answer.content.wanted == Range(0, 1000)
        assert header(answer, "x-amz-meta-cachefs-version") == version
        assert header(answer, "Last-Modified") == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert get("/default/m/sub/a%20b").status == 200


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/default/m/none", "NoSuchKey"),
        ("/default/m", "NoSuchKey"),
        ("/default/m/", "NoSuchKey"),
        ("/default/m/sub", "NoSuchKey"),
        ("/default/m/sub/", "NoSuchKey"),
        ("/default/none/x", "NoSuchKey"),
        ("/default/m@0000/w.bin", "NoSuchKey"),
        ("/default/m@xyz/w.bin", "NoSuchKey"),
        ("/none/m/x", "NoSuchBucket"),
        ("/default/../m/w.bin", "NoSuchKey"),
        ("/default/m/../m/w.bin", "NoSuchKey"),
        ("/default/m/%2e%2e/w.bin", "NoSuchKey"),
        ("/default/m%2Fw.bin/..", "NoSuchKey"),
        ("/..%2f..%2fetc/passwd", "NoSuchBucket"),
        ("/default//etc/passwd", "NoSuchKey"),
        ("/default/m/w.bin%00", "NoSuchKey"),
        ("/default/m/w.bin?versionId=1", "NoSuchVersion"),
    ],
)
def test_what_is_not_there_is_not_found(get, target, expected):
    assert code(get(target)) == (404, expected)


@pytest.mark.parametrize(
    "target", ["/default/%", "/default/m/%zz", "/default/m/%ff", "/default?a=1&a=2"]
)
def test_targets_that_nobody_can_read_are_refused(shelf, target):
    service = make(shelf)
    request = ask("GET", target)
    try:
        answer = service.answer(request, no_body)
    except ConfigError as error:  # the loop around it asks the service how to tell it
        answer = service.failure(request, error)
    assert code(answer) == (400, "InvalidRequest")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("target", ["/", "/default", "/default/m/w.bin", "/default?delete"])
def test_nothing_is_written(shelf, method, target):
    for anonymous in (True, False):
        answer = make(shelf, anonymous=anonymous).answer(ask(method, target), no_body)
        assert code(answer) == (405, "MethodNotAllowed")
        assert header(answer, "Allow") == "GET, HEAD"


@pytest.mark.parametrize(
    "target", ["/", "/default", "/none", "/default/m/w.bin", "/default?location", "/default?acl"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_is_shown_to_who_does_not_sign(shelf, method, target):
    answer = make(shelf, anonymous=False).answer(ask(method, target), no_body)
    assert code(answer) == (403, "AccessDenied")
    assert shelf.opened == []


@pytest.mark.parametrize("name", ["acl", "tagging", "policy", "uploads", "versions"])
def test_what_is_not_implemented_says_so(get, name):
    assert code(get(f"/default/m/w.bin?{name}")) == (501, "NotImplemented")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-9", Range(0, 10)),
        ("bytes=990-", Range(990, 10)),
        ("bytes=990-99999999999999999999", Range(990, 10)),
        ("bytes=-5", Range(995, 5)),
        ("bytes=-5000", Range(0, 1000)),
    ],
)
def test_a_range_is_cut_out(get, value, expected):
    answer = get("/default/m/w.bin", range=value)
    assert (answer.status, answer.content.wanted) == (206, expected)
    told = f"bytes {expected.offset}-{expected.end - 1}/1000"
    assert header(answer, "Content-Range") == told


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=99999999999999999999-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(get, value):
    answer = get("/default/m/w.bin", range=value)
    assert code(answer) == (416, "InvalidRange")
    assert header(answer, "Content-Range") == "bytes */1000"


@pytest.mark.parametrize("value", ["bytes=0-1,4-5", "pages=1-2", "bytes=9-1", "bytes=x"])
def test_what_is_not_one_range_is_as_good_as_none(get, value):
    assert get("/default/m/w.bin", range=value).status == 200


def test_an_object_has_one_part(get):
    assert get("/default/m/w.bin?partNumber=1").content.wanted == Range(0, 1000)
    assert code(get("/default/m/w.bin?partNumber=2")) == (416, "InvalidPartNumber")
    assert code(get("/default/m/w.bin?partNumber=0")) == (400, "InvalidArgument")
    assert get("/default/m/sub/b%0A%3C?partNumber=1").content.wanted == Range(0, 0)


def test_conditions_are_held_against_etag_and_time(get):
    etag = header(get("/default/m/w.bin"), "ETag")
    early, late = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    exact = "Tue, 14 Nov 2023 22:13:20 GMT"
    for headers, status in (
        ({"if_match": etag}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": '"x", ' + etag}, 200),
        ({"if_match": '"x"'}, 412),
        ({"if_none_match": etag}, 304),
        ({"if_none_match": "W/" + etag}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_modified_since": early}, 200),
        ({"if_modified_since": exact}, 304),
        ({"if_modified_since": late}, 304),
        ({"if_modified_since": "nonsense"}, 200),
        ({"if_unmodified_since": early}, 412),
        ({"if_unmodified_since": exact}, 200),
        ({"if_match": etag, "if_unmodified_since": early}, 200),
        ({"if_none_match": '"x"', "if_modified_since": late}, 200),
        ({"range": "bytes=0-1", "if_range": etag}, 206),
        ({"range": "bytes=0-1", "if_range": '"x"'}, 200),
    ):
        assert get("/default/m/w.bin", **headers).status == status, headers


def test_an_etag_is_the_contents_and_not_the_versions(shelf, get):
    before = header(get("/default/m/w.bin"), "ETag")
    shelf.put("m", {"other": 1, "w.bin": 1000})
    assert header(get("/default/m/w.bin"), "ETag") == before
    shelf.put("m", {"w.bin": (1000, "2", "")})
    assert header(get("/default/m/w.bin"), "ETag") != before


def test_headers_may_be_chosen_and_nothing_else_be_smuggled_in(get):
    answer = get("/default/m/w.bin?response-content-type=text%2Fplain")
    assert header(answer, "Content-Type") == "text/plain"
    smuggled = get("/default/m/w.bin?response-content-type=x%0D%0ASet-Cookie:%20y")
    assert code(smuggled) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OriginUnavailableError("down"), (503, "SlowDown")),
        (DeadlineError("late"), (503, "SlowDown")),
        (CapacityError("full"), (503, "SlowDown")),
        (OriginChangedError("changed"), (409, "OriginChanged")),
        (None, (500, "InternalError")),
    ],
)
def test_only_what_may_pass_is_worth_another_try(shelf, error, expected):
    assert code(make(shelf).failure(ask("GET", "/"), error)) == expected
