"""URLs: what is one, and which hosts and addresses are never contacted."""

import pytest

from cachefs.core.urls import HostRules, OriginUrl, split_url
from cachefs.errors import ConfigError

ALL = HostRules()
PUBLIC = HostRules(allow_private=False)


def test_a_url_comes_apart():
    assert split_url("s3://bucket/a b#c?.bin") == OriginUrl("s3", "bucket", None, "/a b#c?.bin", "")
    assert split_url("file:///data") == OriginUrl("file", "", None, "/data", "")
    assert split_url("HTTPS://Example.org:8443/x?y=1") == OriginUrl(
        "https", "example.org", 8443, "/x", "y=1"
    )
    assert split_url("hf://org/model@main/onnx").path == "/model@main/onnx"


@pytest.mark.parametrize(
    "url",
    ["bucket/x", "", "://x", "http://", "http://h:port/", "http://h/\n", "1s3://x", "http://[::1"],
)
def test_what_is_not_a_url_is_refused(url):
    with pytest.raises(ConfigError):
        split_url(url)


@pytest.mark.parametrize("url", ["http://me:pw@h/x", "s3://key:secret@bucket/x", "ftp://me@h/"])
def test_a_url_with_credentials_is_refused_without_showing_them(url):
    with pytest.raises(ConfigError) as refused:
        split_url(url)
    assert "pw" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_metadata_addresses_are_never_contacted(address):
    assert ALL.address_fault(address) is not None
    assert ALL.host_fault(address) is not None


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd12::1", "0.0.0.0", "100.64.0.1"]
)
def test_private_addresses_are_a_choice(address):
    assert ALL.address_fault(address) is None
    assert PUBLIC.address_fault(address) is not None


def test_public_addresses_are_fine():
    assert PUBLIC.address_fault("93.184.216.34") is None
    assert PUBLIC.address_fault("2606:2800:220:1::1") is None


@pytest.mark.parametrize("host", ["metadata.google.internal", "METADATA.google.internal."])
def test_metadata_names_are_never_contacted(host):
    assert ALL.host_fault(host) is not None


def test_hosts_are_allowed_by_globs():
    rules = HostRules(("*.example.org", "s3.local"))
    assert rules.host_fault("a.b.example.org") is None
    assert rules.host_fault("S3.local.") is None
    assert rules.host_fault("example.org") is not None
    assert rules.host_fault("example.org.evil.net") is not None
    assert rules.host_fault("a.exampleXorg") is not None


def test_a_bare_path_is_refused_with_the_url_that_was_probably_meant():
    with pytest.raises(ConfigError) as caught:
        split_url("/data/images")
    assert caught.value.hint.endswith("write file:///data/images")
