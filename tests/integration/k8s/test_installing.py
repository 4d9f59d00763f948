"""What is rendered is installed on an API server, looked at there, and taken away again."""

import base64

import pytest

from cachefs.config.reading import reading_token
from cachefs.config.secrets import Secret
from cachefs.errors import ConfigError, ConflictError, DeadlineError, NotKnownError
from cachefs.k8s import kinds
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.whole import documents
from cachefs.k8s.names import CACHE_POOLS, DATASETS
from cachefs.testing.kubernetes import ApiServer
from tests.integration.k8s.sites import INSTALL, Site

WORKLOADS = (kinds.DEPLOYMENTS, kinds.STATEFUL_SETS, kinds.DAEMON_SETS)
WANTED = Installation(image="example/cachefs:1")


@pytest.fixture
def site(tmp_path):
    with ApiServer() as server:
        yield Site(server, tmp_path)


def _there(site):
    """Return what is rendered and there."""
    return {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in documents(WANTED)
        if site.cluster.get(
            kinds.of(one), one["metadata"]["name"], one["metadata"].get("namespace", "")
        )
    }


def _dataset(site):
    document = {
        "apiVersion": DATASETS.api_version,
        "kind": "Dataset",
        "metadata": {"name": "llama", "namespace": "cachefs"},
        "spec": {"url": "s3://models/llama"},
    }
    return site.cluster.create(document)


def _pod(site, name, volume):
    container = {"name": "main", "image": "example/user:1"}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "volumes": [{"name": "model", **volume}]},
    }
    return site.cluster.create(document)


@pytest.mark.slow
def test_all_of_it_is_installed_and_nothing_changes_when_it_is_done_again(site):
    planned = site.run(*INSTALL, "--dry-run")
    assert not site.cluster.find(kinds.DEPLOYMENTS), "a dry run makes nothing"
    said = site.run(*INSTALL)
    assert len(_there(site)) == len(documents(WANTED))
    for line in planned.splitlines():
        assert line.replace("make ", "made ") in said
    assert site.run(*INSTALL) == "nothing to change\n"
    assert site.run(*INSTALL, "--dry-run") == "nothing to change\n"


@pytest.mark.slow
def test_what_is_no_longer_wanted_is_removed_and_what_changes_is_said(site):
    site.run(*INSTALL)
    words = (*INSTALL, "--no-webhook", "--origins-secret", "buckets")
    planned = site.run(*words, "--dry-run")
    assert "remove Deployment cachefs/cachefs-webhook" in planned
    assert "change Deployment cachefs/cachefs-coordinator\n" in planned
    assert "containers[coordinator].envFrom: nothing → [{" in planned
    said = site.run(*words)
    assert "removed MutatingWebhookConfiguration cachefs" in said
    assert "changed Deployment cachefs/cachefs-coordinator" in said
    assert "PersistentVolumeClaim" not in said
    gone = {name for _, _, name in {_key(one) for one in documents(WANTED)} - _there(site)}
    assert {"cachefs-webhook", "cachefs-webhook-ca", "cachefs"} <= gone


def _key(document):
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace"), metadata["name"]


@pytest.mark.slow
def test_a_pool_that_was_scaled_stays_so_unless_a_number_is_given(site):
    def workers():
        return site.cluster.get(CACHE_POOLS, "default", "cachefs")["spec"]["workers"]

    site.run(*INSTALL)
    assert workers() == 3
    site.cluster.patch(CACHE_POOLS, "default", "cachefs", {"spec": {"workers": 7}})
    site.run(*INSTALL, "--memory", "1GiB")
    assert workers() == 7
    site.run(*INSTALL, "--workers", "5")
    assert workers() == 5


@pytest.mark.slow
def test_both_namespaces_have_one_token_and_it_is_not_made_twice(site):
    def token(namespace):
        return site.cluster.get(kinds.SECRETS, "cachefs-token", namespace)["data"]["token"]

    said = site.run(*INSTALL)
    assert token("cachefs") == token("cachefs-node")
    assert len(base64.b64decode(token("cachefs"))) >= 32
    assert token("cachefs") not in said
    assert base64.b64decode(token("cachefs")).decode() not in said
    first = token("cachefs")
    site.cluster.delete(kinds.SECRETS, "cachefs-token", "cachefs-node")
    site.run(*INSTALL)
    assert token("cachefs-node") == first
    other = base64.b64encode(b"another").decode()
    patch = {"data": {"token": other}}
    site.cluster.patch(kinds.SECRETS, "cachefs-token", "cachefs-node", patch)
    with pytest.raises(ConfigError, match="different tokens"):
        site.run(*INSTALL)


@pytest.mark.slow
def test_who_waits_is_told_what_is_missing_and_when_all_is_there(site):
    words = (*INSTALL[:-1], "100ms")
    with pytest.raises(DeadlineError, match="cachefs-coordinator has 0 of 1 pods ready"):
        site.run(*words)
    site.become_ready()
    assert "all pods are ready" in site.run(*words)


@pytest.mark.slow
def test_what_holds_data_outlives_an_installation(site):
    site.run(*INSTALL)
    _dataset(site)
    site.run("uninstall", "--wait", "1s")
    left = _there(site)
    assert {kind for kind, _, _ in left} == {
        "CustomResourceDefinition",
        "Namespace",
        "PersistentVolumeClaim",
        "CachePool",
        "Secret",
    }
    assert site.cluster.get(DATASETS, "llama", "cachefs")
    assert site.cluster.get(kinds.SECRETS, "cachefs-token", "cachefs")
    site.run("uninstall", "--wait", "1s")
    site.run(*INSTALL)
    assert len(_there(site)) == len(documents(WANTED))


@pytest.mark.slow
def test_everything_goes_when_that_is_asked_for(site):
    site.run(*INSTALL)
    _dataset(site)
    site.run("uninstall", "--delete-data", "--wait", "20s")
    assert _there(site) == set()
    assert not site.cluster.find(kinds.SECRETS, "cachefs")


@pytest.mark.slow
def test_pods_with_volumes_of_ours_hold_up_whoever_does_not_insist(site):
    site.run(*INSTALL)
    _pod(site, "inline", {"csi": {"driver": "cachefs.io"}})
    _pod(site, "other", {"csi": {"driver": "example.com"}})
    site.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "cachefs-default-llama"},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "capacity": {"storage": "1Gi"},
                "csi": {"driver": "cachefs.io", "volumeHandle": "llama"},
                "claimRef": {"namespace": "default", "name": "llama"},
            },
        }
    )
    _pod(site, "claimed", {"persistentVolumeClaim": {"claimName": "llama"}})
    _pod(site, "elsewhere", {"persistentVolumeClaim": {"claimName": "others"}})
    with pytest.raises(ConflictError, match="2 pods have volumes") as raised:
        site.run("uninstall", "--wait", "0")
    assert raised.value.subject == "default/claimed, default/inline"
    assert site.cluster.get(kinds.DAEMON_SETS, "cachefs-csi", "cachefs-node")
    site.run("uninstall", "--wait", "0", "--force")
    assert not site.cluster.get(kinds.DAEMON_SETS, "cachefs-csi", "cachefs-node")


@pytest.mark.slow
def test_a_plain_installation_leaves_another_ones_parts_alone(site):
    site.run(*INSTALL)
    before = _there(site)
    site.run(*INSTALL, "--plain", "--namespace", "models")
    site.run("uninstall", "--namespace", "models", "--wait", "0")
    assert _there(site) == before
    assert not site.cluster.find(kinds.STATEFUL_SETS, "models")


@pytest.mark.slow
def test_workers_volumes_outlive_their_set(site):
    site.run(*INSTALL, "--plain")
    site.server.calls.clear()
    site.run("uninstall", "--wait", "0")
    calls = [
        (method, path.partition("?")[0].rpartition("/")[2])
        for _, method, path in site.server.calls
        if "/statefulsets/" in path and method in ("PATCH", "DELETE")
    ]
    assert calls == [("PATCH", "cachefs-worker"), ("DELETE", "cachefs-worker")]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), ("--plain",)], ids=["whole", "plain"])
def test_the_pods_of_all_workloads_are_admitted_in_their_namespaces(site, shape):
    """As controllers would make them: Pod Security refuses pods, not what makes them."""
    site.run(*INSTALL, *shape, "--memory", "1GiB")
    made = [one for kind in WORKLOADS for one in site.cluster.find(kind)]
    assert len(made) == (2 if shape else 5)
    for one in made:
        template = one["spec"]["template"]
        claims = [
            claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())
        ]
        volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
        spec = {**template["spec"], "volumes": [*template["spec"]["volumes"], *volumes]}
        name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
        metadata = {**template["metadata"], "name": f"{name}-0", "namespace": namespace}
        site.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


@pytest.mark.slow
def test_a_namespace_is_given_a_token_that_only_reads(site):
    site.run(*INSTALL)
    site.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})

    def token(namespace, name):
        held = site.cluster.get(kinds.SECRETS, name, namespace)["data"]["token"]
        return base64.b64decode(held).decode()

    said = site.run("reader", "team", "--dataset", "shared/llama")
    whole = token("cachefs", "cachefs-token")
    expected = reading_token(Secret(whole), ["team/*", "shared/llama"]).reveal()
    assert token("team", "cachefs-reader") == expected
    assert whole not in said
    assert expected not in said
    with pytest.raises(NotKnownError):
        site.run("reader", "team", "--namespace", "models")
    with pytest.raises(NotKnownError, match=r"^no namespace nonexist "):
        site.run("reader", "nonexist")
    with pytest.raises(ConfigError, match="Team_A: not a name as Kubernetes has them"):
        site.run("reader", "Team_A")
