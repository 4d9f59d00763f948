"""Tenants: what a namespace may name that is not trusted with everything."""

import pytest

from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName
from cachefs.core.tenants import Tenants
from cachefs.errors import ConfigError, NotAllowedError

SOURCES = (
    "team-a=s3://team-a-*",
    "team-a=http://minio.storage:9000",
    "*=hf://*",
    "*=https://models.example.org/public/*",
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
