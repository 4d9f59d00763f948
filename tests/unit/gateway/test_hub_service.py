"""The Hub endpoint's answers, without sockets."""

import json

import pytest

from cachefs.config.secrets import Secret
from cachefs.core.blocks import Range
from cachefs.errors import CacheFSError, OriginChangedError, OriginUnavailableError
from cachefs.gateway.hub.repositories import Repositories
from cachefs.gateway.hub.service import HubService
from tests.unit.gateway.shelves import Shelf, ask

SHA = "ab" * 32
BLOB = "12" * 20
COMMIT = "cd" * 20


@pytest.fixture
def shelf():
    made = Shelf()
    made.put("m", {"config.json": 7, "sub/x": 3, "w.bin": (1000, "1", f"sha256:{SHA}")})
    made.put("team/n", {"x": 1})
    made.put(
        "qwen",
        {"config.json": (7, BLOB, "")},
        url=f"hf://Qwen/Qwen3-0.6B@{COMMIT}",
        declared="hf://Qwen/Qwen3-0.6B",
    )
    return made


@pytest.fixture
def get(shelf):
    return asker(HubService(Repositories(shelf), (Secret("t1"), Secret("t2")), anonymous=True))


def asker(service):
    def get(target, method="GET", body=b"", **headers):
        request = ask(method, target, **headers)
        try:
            return service.answer(request, lambda: body)
        except CacheFSError as error:
            return service.failure(request, error)

    return get


def header(answer, name):
    return next((value for known, value in answer.headers if known == name), None)


def code(answer):
    return answer.status, header(answer, "X-Error-Code")


def test_a_repository_is_described(shelf, get):
    version = shelf.current[next(iter(shelf.current))].version
    for target in ("/api/models/m", "/api/models/default/m", "/api/datasets/m/revision/main"):
        document = json.loads(get(target).body)
        assert document["sha"] == version
        assert [each["rfilename"] for each in document["siblings"]] == [
            "config.json",
            "sub/x",
            "w.bin",
        ]
    blobs = json.loads(get(f"/api/models/m/revision/{version[:8]}?blobs=true").body)["siblings"]
    assert blobs[2]["lfs"]["sha256"] == SHA
    assert blobs[0]["size"] == 7


def test_a_file_has_the_headers_that_clients_rest_upon(shelf, get):
    version = shelf.current[next(iter(shelf.current))].version
    answer = get("/m/resolve/main/w.bin", "HEAD")
    assert answer.content.wanted == Range(0, 1000)
    assert header(answer, "ETag") == header(answer, "X-Linked-Etag") == f'"{SHA}"'
    assert header(answer, "X-Repo-Commit") == version
    assert header(answer, "X-Linked-Size") == "1000"
    assert header(answer, "Accept-Ranges") == "bytes"
    small = get("/default/m/resolve/main/config.json")
    assert header(small, "X-Linked-Etag") is None
    assert header(get("/qwen/resolve/main/config.json"), "ETag") == f'"{BLOB}"'
    part = get("/datasets/team/n/resolve/main/x", range="bytes=0-0")
    assert (part.status, part.content.wanted) == (206, Range(0, 1))
    assert get("/m/resolve/main/w.bin", range="bytes=1000-").status == 416
    assert get("/m/resolve/main/w.bin", if_none_match=f'"{SHA}"').status == 304
    assert get("/m/raw/main/config.json").status == 200


def test_a_model_is_found_by_the_name_that_the_hub_has_for_it(shelf, get):
    names = [f"Qwen/Qwen3-0.6B/resolve/{each}/config.json" for each in ("main", COMMIT)]
    assert [get(f"/{name}").status for name in names] == [200, 200]
    assert json.loads(get("/api/models/Qwen/Qwen3-0.6B").body)["id"] == "Qwen/Qwen3-0.6B"
    assert code(get("/api/datasets/Qwen/Qwen3-0.6B")) == (404, "RepoNotFound")
    assert code(get("/api/models/qwen/qwen3-0.6b")) == (404, "RepoNotFound")
    shelf.put("tagged", {"x": 1}, url="hf://Qwen/Qwen3-0.6B@v1")
    assert get("/Qwen/Qwen3-0.6B/resolve/v1/x").status == 200
    assert code(get("/Qwen/Qwen3-0.6B/resolve/main/x")) == (404, "EntryNotFound")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/none/resolve/main/x", "RepoNotFound"),
        ("/api/models/none", "RepoNotFound"),
        ("/api/models/No/Such_Thing/tree/main", "RepoNotFound"),
        ("/m/resolve/v9/x", "RevisionNotFound"),
        ("/m/resolve/00000000/x", "RevisionNotFound"),
        ("/api/models/m/revision/refs%2Fpr%2F1", "RevisionNotFound"),
        ("/m/resolve/main/none", "EntryNotFound"),
        ("/m/resolve/main/../../etc/passwd", "EntryNotFound"),
        ("/m/resolve/main/%2e%2e/x", "EntryNotFound"),
        ("/m/resolve/main/sub", "EntryNotFound"),
        ("/api/models/m/tree/main/none", "EntryNotFound"),
        ("/api/models/m/tree/main/config.json", "EntryNotFound"),
        ("/", "EntryNotFound"),
        ("/m", "EntryNotFound"),
        ("/api", "EntryNotFound"),
        ("/api/users/x", "EntryNotFound"),
    ],
)
def test_what_is_not_there_is_not_found_in_the_hubs_words(get, target, expected):
    assert code(get(target)) == (404, expected)


def test_a_missing_file_is_told_with_its_commit(shelf, get):
    version = shelf.current[next(iter(shelf.current))].version
    assert header(get("/m/resolve/main/none"), "X-Repo-Commit") == version


def test_a_tree_goes_on_at_the_same_version(shelf, get):
    version = shelf.current[next(iter(shelf.current))].version
    first = get("/api/models/m/tree/main?recursive=True&limit=2", host="h:1")
    assert [each["path"] for each in json.loads(first.body)] == ["config.json", "sub"]
    link = header(first, "Link")
    assert link.startswith(f"<http://h:1/api/models/m/tree/{version}?")
    shelf.put("m", {"zzz": 1})
    second = get(link[len("<http://h:1") : link.index(">")])
    assert [each["path"] for each in json.loads(second.body)] == ["sub/x", "w.bin"]
    assert header(second, "Link") is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"paths=sub&paths=w.bin&paths=none&expand=False"),
        ("application/json", b'{"paths": ["sub", "w.bin", "none"], "expand": false}'),
    ],
)
def test_some_paths_are_described(get, kind, body):
    answer = get("/api/models/m/paths-info/main", "POST", body, content_type=kind)
    assert [(each["type"], each["path"]) for each in json.loads(answer.body)] == [
        ("directory", "sub"),
        ("file", "w.bin"),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"paths": 3}', b'{"paths": [1]}', b"[]", b"[" * 100_000, b"\xff"]
)
def test_a_body_that_makes_no_sense_is_refused(get, body):
    answer = get("/api/models/m/paths-info/main", "POST", body, content_type="application/json")
    assert answer.status == 400


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "target", ["/api/models/m", "/m/resolve/main/w.bin", "/api/models/m/tree/main"]
)
def test_nothing_is_written(get, method, target):
    assert get(target, method).status == 405


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/api/models",
        "/api/models/m",
        "/api/models/none",
        "/api/models/m/tree/main",
        "/api/models/m/refs",
        "/api/models/m/auth-check",
        "/api/whoami-v2",
        "/m/resolve/main/w.bin",
    ],
)
def test_nothing_is_shown_without_one_of_the_tokens(shelf, target):
    service = HubService(Repositories(shelf), (Secret("t1"), Secret("t2")), anonymous=False)
    get = asker(service)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic t1"}):
        answer = get(target, **headers)
        assert code(answer) == (401, None)
    assert shelf.opened == []
    for token in ("t1", "t2"):
        assert get(target, authorization=f"Bearer {token}").status in (200, 404)
    lenient = asker(HubService(Repositories(shelf), (Secret("t1"),), anonymous=True))
    assert lenient(target, authorization="Bearer wrong").status == 401


def test_errors_are_told_in_a_header_that_nothing_can_break_out_of(get, shelf):
    def fail(*_):
        raise OriginUnavailableError("no\r\nX-Evil: é", subject="s")

    shelf.open = fail
    answer = get("/m/resolve/main/x")
    assert answer.status == 503
    assert "\r" not in header(answer, "X-Error-Message")
    assert header(answer, "X-Error-Message").isascii()

    def change(*_):
        raise OriginChangedError("changed")

    shelf.open = change
    assert get("/m/resolve/main/x").status == 409


def test_a_host_that_names_no_host_gets_no_link(get):
    answer = get("/api/models/m/tree/main?limit=1", host="a>; rel=x")
    assert answer.status == 400
