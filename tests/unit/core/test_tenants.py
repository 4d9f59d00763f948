"""Tenants: what a namespace may name that is not trusted with everything."""

import pytest

from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName
from cachefs.core.tenants import Tenants
from cachefs.core.urls import CONFINED, Confinement, HostRules
from cachefs.errors import ConfigError, NotAllowedError

SOURCES = (
    "team-a=s3://team-a-*",
    "team-a=http://minio.storage:9000",
    "*=hf://*",
    "*=https://models.example.org/public/*",
    "*=https://mirror.example.org*",
    "*=https://mirror.example.org/*",
    "*=https://*.open.org",
)
TENANTS = Tenants(("cachefs", "ops-*"), SOURCES)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://team-a-models/llama", {}),
        ("s3://team-a-models/llama", {"endpoint_url": "http://minio.storage:9000"}),
        ("s3://team-a-models/llama", {"credentials": "profile:team-a", "region": "eu-west-1"}),
        ("hf://org/model@main", {}),
        ("https://models.example.org/public/x..y/z", {}),
        ("hf://org/model", {"endpoint_url": "https://mirror.example.org/hub"}),
        ("hf://org/model", {"endpoint_url": "https://a.open.org", "anon": "true"}),
        (
            "s3://team-a-models/x",
            {"endpoint_url": "https://a.open.org", "credentials": "profile:team-a"},
        ),
    ],
)
def test_what_a_source_lists_is_allowed(url, options):
    TENANTS.check_origin("team-a", OriginSpec(url, options))


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://team-b-models/llama", {}),
        ("S3://team-b-models/llama", {}),
        ("s3://team-b/s3://team-a-models", {}),
        ("file:///run/cachefs/token", {}),
        ("sftp://host/folder", {}),
        ("https://models.example.org.evil.org/public/x", {}),
        ("https://models.example.org:8443/public/x", {}),
        ("https://models.example.org/public/../private/x", {}),
        ("https://models.example.org/public/%2E%2e/private/x", {}),
        ("s3://team-a-models/x", {"endpoint_url": "http://evil.org"}),
        ("hf://org/model", {"endpoint_url": "https://evil.org"}),
        ("hf://org/model", {"endpoint_url": "https://a.open.org"}),
        ("hf://org/model", {"endpoint_url": "https://a.open.org", "anon": "false"}),
        ("s3://team-a-models/x", {"endpoint_url": "https://a.open.org"}),
        ("hf://org/model", {"endpoint_url": "https://mirror.example.org.evil.org"}),
        ("hf://org/model", {"credentials": "file:/run/cachefs/token"}),
        ("hf://org/model", {"credentials": "env:TEAM_B"}),
        ("s3://team-a-models/x", {"credentials": "profile:team-b"}),
    ],
)
def test_all_else_is_denied(url, options):
    with pytest.raises(NotAllowedError):
        TENANTS.check_origin("team-a", OriginSpec(url, options))


def test_a_source_of_one_namespace_is_not_anothers():
    with pytest.raises(NotAllowedError, match=r"tenants\.sources"):
        TENANTS.check_origin("team-b", OriginSpec("s3://team-a-models/llama"))


@pytest.mark.parametrize("namespace", ["cachefs", "ops-eu"])
def test_a_trusted_namespace_may_name_anything(namespace):
    TENANTS.check_origin(namespace, OriginSpec("file:///data", {"credentials": "file:/x"}))
    TENANTS.check_dataset(namespace, DatasetName("team-a", "llama"))


def test_a_glob_of_trusted_namespaces_is_one_of_the_whole_name():
    assert not TENANTS.is_trusted("my-cachefs")
    assert not TENANTS.is_trusted("devops-eu")


def test_flows_name_datasets_of_their_own():
    TENANTS.check_dataset("team-a", DatasetName("team-a", "llama"))
    with pytest.raises(NotAllowedError):
        TENANTS.check_dataset("team-a", DatasetName("team-b", "llama"))


def test_by_default_everybody_is_trusted():
    Tenants().check_origin("anybody", OriginSpec("file:///", {"credentials": "env:X"}))


@pytest.mark.parametrize("source", ["s3://bucket", "=s3://bucket", "team-a=bucket", ""])
def test_a_source_without_its_namespace_is_refused(source):
    with pytest.raises(ConfigError):
        Tenants((), (source,))


def test_what_may_be_read_may_not_be_written():
    tenants = Tenants((), ("*=s3://*",), ("team-a=s3://team-a-backups/*",))
    tenants.check_destination("team-a", OriginSpec("s3://team-a-backups/monday"))
    with pytest.raises(NotAllowedError, match=r"tenants\.destinations"):
        tenants.check_destination("team-a", OriginSpec("s3://team-a-models/llama"))
    with pytest.raises(NotAllowedError):
        tenants.check_destination("team-b", OriginSpec("s3://team-a-backups/monday"))
    Tenants().check_destination("anybody", OriginSpec("s3://bucket"))


def test_what_travels_with_an_origin_is_what_its_namespace_may_reach():
    asked = OriginSpec("hf://org/model", {"anon": "true", CONFINED: "http://*"})
    options = TENANTS.confined("team-b", asked).options
    found = Confinement.parse(options[CONFINED])
    assert found == TENANTS.confinement("team-b")
    assert found.hosts == ("models.example.org", "mirror.example.org")
    assert found.allows("https://models.example.org/public/x?signature=1")
    assert not found.allows("http://minio.storage:9000/x")
    assert TENANTS.confined("cachefs", asked).options == {"anon": "true"}
    assert TENANTS.confinement("cachefs") is None


def test_private_addresses_are_reached_of_hosts_that_are_named_in_full():
    confinement = Confinement.parse(
        "http://minio.storage:9000 https://*.example.org http://10.0.0.7/x"
    )
    rules = HostRules().confined(confinement)
    assert rules.address_fault("10.0.0.5", "MinIO.storage.") is None
    assert rules.host_fault("10.0.0.7") is None
    assert rules.address_fault("10.0.0.5", "a.example.org") is not None
    assert rules.host_fault("127.0.0.1") is not None
    assert rules.address_fault("93.184.216.34", "a.example.org") is None
    assert rules.address_fault("169.254.169.254", "minio.storage") is not None
    closed = HostRules(allow_private=False).confined(confinement)
    assert closed.address_fault("10.0.0.5", "minio.storage") is not None
