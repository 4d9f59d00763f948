"""Encodings: everything comes back as it went, and garbage is refused."""

import pytest

from cachefs import errors
from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId
from cachefs.wire import digests, failures, local
from cachefs.wire.http import decode_view, encode_view


def test_a_view_survives_and_unknown_fields_are_ignored():
    member = Member(
        worker=WorkerId("a"),
        incarnation="1",
        node="n",
        zone="z",
        pool="p",
        weight=2.0,
        data_address="h:1",
        control_address="h:2",
        socket_path="/s",
        draining=True,
    )
    view = View(7, (member,))
    assert decode_view(encode_view(view)) == view
    newer = encode_view(view).replace(b'"zone"', b'"colour": "blue", "zone"')
    assert decode_view(newer) == view


@pytest.mark.parametrize("cls", list(failures.STATUS))
def test_an_error_crosses_as_the_same_class(cls):
    raised = cls("a reason", subject="a thing", hint="do this")
    arrived = failures.decode(failures.encode(raised))
    assert type(arrived) is cls
    assert str(arrived) == str(raised)
    assert 400 <= failures.http_status(raised) < 600


def test_an_origins_retry_after_crosses():
    raised = errors.OriginUnavailableError("busy", retry_after_seconds=3.5)
    arrived = failures.decode(failures.encode(raised))
    assert isinstance(arrived, errors.OriginUnavailableError)
    assert arrived.retry_after_seconds == 3.5


def test_a_subclass_that_the_wire_does_not_know_crosses_as_its_parent():
    class Special(errors.CapacityError):
        pass

    assert type(failures.decode(failures.encode(Special("full")))) is errors.CapacityError


@pytest.mark.parametrize(
    "garbage", [b"", b"<html>", b"[]", b'{"error": "SystemExit"}', b'{"error": 7}']
)
def test_garbage_is_a_cluster_error(garbage):
    assert type(failures.decode(garbage)) is errors.ClusterError


@pytest.mark.parametrize("algorithm", ["xxh3-128", "blake3"])
def test_digests_are_packed_and_unpacked(algorithm):
    digest, size = digests.digester(algorithm), digests.digest_size(algorithm)
    some = [digest(b"a"), None, digest(memoryview(b"b"))]
    assert digests.unpack(digests.pack(some, size), size) == some
    assert some[0] != some[2]
    with pytest.raises(errors.IntegrityError):
        digests.unpack(b"x" * (size + 1), size)


def test_an_unknown_digest_is_refused():
    with pytest.raises(errors.ConfigError, match="xxh3-128"):
        digests.digester("md5")


def test_local_messages_have_a_length_and_a_limit():
    encoded = local.encode({"op": "hello"})
    assert local.decode_length(encoded[:4]) == len(encoded) - 4
    assert local.decode(encoded[4:]) == {"op": "hello"}
    with pytest.raises(errors.ClusterError):
        local.decode_length(b"\xff\xff\xff\xff")
    for garbage in (b"", b"[]", b"\xff"):
        with pytest.raises(errors.ClusterError):
            local.decode(garbage)
