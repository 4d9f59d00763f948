"""Encodings: everything comes back as it went, and garbage is refused."""

import pytest

from cachefs import errors
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import OriginSpec
from cachefs.core.eviction import Retention
from cachefs.core.manifest import VersionId
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.wire import digests, failures, local, messages
from cachefs.wire.http import (
    VersionHead,
    decode_version,
    decode_view,
    encode_version,
    encode_view,
)


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


def test_a_version_survives_and_one_of_an_older_process_has_no_time():
    head = VersionHead(
        DatasetName.parse("ns/name"),
        VersionId("0" * 40),
        OriginSpec("file:///folder", {"a": "b"}),
        "local",
        "default",
        2,
        1234.5,
    )
    encoded = encode_version(head)
    assert decode_version(encoded) == head
    older = encoded.replace(b', "listed_at": 1234.5', b"")
    assert older != encoded
    assert decode_version(older).listed_at == 0


def test_what_people_decided_about_keeping_survives():
    a, b, c = (FileVersionId(digit * 40) for digit in "abc")
    retention = Retention(frozenset({a}), {b: 60.0, c: 60.0, a: 1.5}, 7)
    assert messages.retention_from_message(messages.retention_to_message(retention)) == retention


def test_names_of_file_versions_that_are_not_whole_are_refused():
    with pytest.raises(errors.ConfigError, match="length"):
        list(messages.unpack_file_versions(bytes(21)))
