"""Clocks that are wrong, here or at the origin: what dates in answers mean then, and what is said of it."""

from email.utils import formatdate

import pytest

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, name_file_version
from cachefs.errors import OriginDeniedError, OriginUnavailableError
from cachefs.origins import open_origin
from cachefs.testing.faulty_origin import Fault, FaultyOrigin, etag
from cachefs.testing.s3 import ENVIRONMENT
from cachefs.transport.runtime import ThreadRuntime

CONTENT = bytes(range(256)) * 16
KEY = "bucket/d/model.bin"
ENTRY = FileEntry(
    "model.bin",
    len(CONTENT),
    etag(CONTENT),
    "",
    name_file_version("x", path="model.bin", size=len(CONTENT), token=etag(CONTENT)),
)
CONFIG = OriginConfig(timeout_seconds=5, deadline_seconds=10)
HOURS = 3600.0

each_skew = pytest.mark.parametrize(
    "skew", [-5 * HOURS, 0.0, 5 * HOURS], ids=["ours is slow", "ours is right", "ours is fast"]
)


class Skewed(ThreadRuntime):
    """A machine whose calendar is wrong, and whose seconds are as long as any."""

    def __init__(self, skew):
        super().__init__()
        self.skew = skew

    def wall(self):
        return super().wall() + self.skew


@pytest.fixture
def server():
    with FaultyOrigin({KEY: CONTENT}) as running:
        yield running


def open_as(server, client, skew):
    if client == "http":
        spec = OriginSpec(f"{server.url}/bucket/d/")
        return open_origin(spec, CONFIG, Skewed(skew))
    spec = OriginSpec("s3://bucket/d", {"endpoint_url": server.url})
    return open_origin(spec, CONFIG, Skewed(skew), client=client)


@each_skew
def test_a_date_to_come_back_at_is_counted_on_the_clock_of_who_named_it(server, skew):
    origin = open_as(server, "http", skew)
    until = formatdate(ThreadRuntime().wall() + 4.0, usegmt=True)
    server.fail(KEY, [Fault("status", 503, retry_after=until)])
    with pytest.raises(OriginUnavailableError) as raised:
        origin.read_range(ENTRY, 0, 10)
    assert 1.0 <= raised.value.retry_after_seconds <= 5.0
    origin.close()


@each_skew
@pytest.mark.parametrize(
    "said",
    ["Thu, 01 Jan 1970 00:00:00 GMT", "0", "soon", "-5", "1e9", "\u0663", "Fri, 99 Foo 2026"],
)
def test_what_is_past_or_no_date_pauses_nothing(server, skew, said):
    origin = open_as(server, "http", skew)
    server.fail(KEY, [Fault("status", 503, retry_after=said.encode("utf-8").decode("latin-1"))])
    with pytest.raises(OriginUnavailableError) as raised:
        origin.read_range(ENTRY, 0, 10)
    assert raised.value.retry_after_seconds in (None, 0.0)
    assert bytes(origin.read_range(ENTRY, 0, 10)) == CONTENT[:10]
    origin.close()


@each_skew
@pytest.mark.parametrize("client", ["http", "direct"])
def test_a_refusal_says_so_when_the_clocks_differ(server, client, skew, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    origin = open_as(server, client, skew)
    server.fail_always(KEY, Fault("status", 403))
    with pytest.raises(OriginDeniedError) as raised:
        origin.read_range(ENTRY, 0, 10)
    if skew:
        assert "our clock differs from the origin's by" in raised.value.hint
        assert "NTP" in raised.value.hint
    else:
        assert "credentials" in raised.value.hint
    server.heal()
    assert bytes(origin.read_range(ENTRY, 0, 10)) == CONTENT[:10]
    origin.close()


@each_skew
@pytest.mark.parametrize("client", ["http", "direct"])
def test_a_wrong_calendar_costs_no_read(server, client, skew, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    origin = open_as(server, client, skew)
    for offset in range(0, len(CONTENT), 512):
        assert bytes(origin.read_range(ENTRY, offset, 512)) == CONTENT[offset : offset + 512]
    origin.close()
