"""What was installed is installed again with fewer words, or with others, and nothing breaks halfway."""

import pytest

from cachefs.errors import ConfigError, ConflictError
from cachefs.k8s import kinds
from cachefs.testing.kubernetes import ApiServer
from tests.integration.k8s.sites import INSTALL, Site

UPGRADE = ("install", "--image", "example/cachefs:2", "--wait", "0")
DISKS = ("--disk", "500GiB", "--storage-class", "local-nvme")
NARROW = ("--source", "team-a=s3://team-a-*", "--trust", "ml", "--origins-secret", "buckets")


@pytest.fixture
def site(tmp_path):
    with ApiServer() as server:
        yield Site(server, tmp_path)


def _images(site):
    found = [
        *site.cluster.find(kinds.DEPLOYMENTS, "cachefs"),
        *site.cluster.find(kinds.DAEMON_SETS, "cachefs-node"),
    ]
    return {
        container["image"]
        for one in found
        for container in one["spec"]["template"]["spec"]["containers"]
    }


def _coordinator(site):
    deployment = site.cluster.get(kinds.DEPLOYMENTS, "cachefs-coordinator", "cachefs")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    return environment, container.get("envFrom")


def _versions(site):
    system = (kinds.DEPLOYMENTS, kinds.STATEFUL_SETS, kinds.CONFIG_MAPS)
    found = [one for kind in system for one in site.cluster.find(kind, "cachefs")]
    return {
        (one["kind"], one["metadata"]["name"]): one["metadata"]["resourceVersion"] for one in found
    }


@pytest.mark.slow
def test_an_upgrade_needs_to_say_nothing_but_the_image(site):
    site.run(*INSTALL, *DISKS, *NARROW, "--no-webhook")
    planned = site.run(*UPGRADE, "--dry-run")
    said = site.run(*UPGRADE)
    first = said.splitlines()[0]
    assert planned.splitlines()[0] == first
    assert first == (
        "goes on with originsSecret buckets, tenants.trusted ml, tenants.sources team-a=s3://team-a-*, "
        "pool.disk 500Gi, pool.storageClass local-nvme, webhook.enabled false"
    )
    assert "image: example/cachefs:1 → example/cachefs:2" in planned
    assert _images(site) == {"example/cachefs:2"}
    environment, secrets = _coordinator(site)
    assert environment["CACHEFS_SOURCES"] == "team-a=s3://team-a-*"
    assert environment["CACHEFS_TRUSTED"] == "ml"
    assert secrets == [{"secretRef": {"name": "buckets"}}]
    assert not site.cluster.get(kinds.DEPLOYMENTS, "cachefs-webhook", "cachefs")
    assert site.run("install", "--wait", "0").endswith("nothing to change\n"), "not even that"


@pytest.mark.slow
def test_a_default_is_gone_back_to_by_saying_it_and_what_goes_is_shown(site):
    site.run(*INSTALL, *NARROW)
    back = ("--source", "", "--trust", "", "--origins-secret", "")
    planned = site.run(*INSTALL, *back, "--dry-run")
    assert "goes on with" not in planned
    assert (
        "containers[coordinator].envFrom: [{'secretRef': {'name': 'buckets'}}] → nothing" in planned
    )
    assert "env[CACHEFS_TRUSTED]: {'name': 'CACHEFS_TRUSTED', 'value': 'ml'} → nothing" in planned
    site.run(*INSTALL, *back)
    environment, secrets = _coordinator(site)
    assert environment["CACHEFS_SOURCES"].startswith("*=s3://*,")
    assert "CACHEFS_TRUSTED" not in environment
    assert secrets is None


@pytest.mark.slow
def test_a_file_of_values_is_over_what_was_said_before_and_a_flag_over_both(site, tmp_path):
    site.run(*INSTALL, "--memory", "1GiB", "--origins-secret", "a", "--trust", "x")
    (tmp_path / "values.yaml").write_text("{originsSecret: b, tenants: {trusted: y}}")
    said = site.run(*INSTALL, "--values", str(tmp_path / "values.yaml"), "--trust", "z")
    assert said.splitlines()[0] == "goes on with pool.memory 1Gi"
    environment, secrets = _coordinator(site)
    assert (environment["CACHEFS_TRUSTED"], secrets[0]["secretRef"]["name"]) == ("z", "b")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), ("--plain",)], ids=["whole", "plain"])
def test_what_the_cluster_refuses_is_refused_before_anything_is_changed(site, shape):
    site.run(*INSTALL, *DISKS, *shape)
    before = _versions(site)
    for other in (("--storage-class", ""), ("--disk", "1TiB")):
        with pytest.raises(ConfigError, match=r"refused: .*nothing was changed"):
            site.run(*UPGRADE, *other)
    assert _versions(site) == before
    assert "goes on with" in site.run(*UPGRADE)


@pytest.mark.slow
def test_an_installation_made_again_goes_on_with_its_disks(site):
    assert site.run("uninstall", "--wait", "0") == "nothing installed in cachefs\n"
    site.run(*INSTALL, *DISKS)
    assert "kept: " in site.run("uninstall", "--wait", "0")
    assert site.run("uninstall", "--wait", "0") == "nothing installed in cachefs\n"
    assert "goes on with pool.disk 500Gi, pool.storageClass local-nvme" in site.run(*UPGRADE)
    site.run("uninstall", "--wait", "0", "--delete-data")
    assert "goes on with" not in site.run(*UPGRADE)


@pytest.mark.slow
def test_a_second_installation_does_not_take_the_firsts_rights(site):
    site.run(*INSTALL)
    for words in (("--dry-run",), ()):
        with pytest.raises(ConflictError, match="installed in cachefs") as raised:
            site.run(*INSTALL, "--namespace", "other", *words)
        assert raised.value.hint == "--namespace cachefs, or uninstall first"
    assert not site.cluster.get(kinds.NAMESPACES, "other")
    values = site.kubeconfig.with_name("values.yaml")
    values.write_text("nodeNamespace: elsewhere")
    with pytest.raises(ConfigError, match="what is privileged is in cachefs-node"):
        site.run(*INSTALL, "--values", str(values))


@pytest.mark.slow
def test_what_is_remembered_and_makes_no_sense_is_said(site):
    site.run(*INSTALL)
    patch = {"data": {"values.yaml": "{pool: {discs: 3}}"}}
    site.cluster.patch(kinds.CONFIG_MAPS, "cachefs-installation", "cachefs", patch)
    with pytest.raises(ConfigError, match=r"cachefs-installation: .*cannot be read: pool.discs"):
        site.run(*INSTALL)


@pytest.mark.slow
def test_monitors_that_nobody_defined_are_refused_before_anything_is_made(site):
    with pytest.raises(LookupError, match=r"no \w+\.monitoring\.coreos\.com"):
        site.run(*INSTALL, "--observing")
    assert not site.cluster.get(kinds.NAMESPACES, "cachefs")
