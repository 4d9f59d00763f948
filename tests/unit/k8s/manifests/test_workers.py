"""The workers of a pool: zones, tiers, names and volumes."""

import json
import re
from dataclasses import replace

import kubernetes_validate
import pytest

from cachefs.config.files import from_document
from cachefs.config.schema import GIB, WorkerConfig
from cachefs.k8s.manifests.workers import (
    Tier,
    Workers,
    documents,
    of_installation,
    pool_documents,
    pool_selector,
    set_documents,
    set_name,
)
from tests.unit.k8s.manifests.installations import DEFAULT, PLAIN, PLAIN_FULL, in_bytes

DISK = Tier(medium="disk", size_bytes=100 * GIB)
MEMORY = Tier(medium="memory", size_bytes=2 * GIB)
HOST = Tier(medium="disk", size_bytes=100 * GIB, host_path="/mnt/nvme")
POOL = Workers(pool="gpu", namespace="cachefs", count=2, tiers=(MEMORY, DISK))
PER_NODE = replace(POOL, namespace="cachefs-node", count=None, tiers=(HOST,))
SHAPES = {
    "two-tiers": POOL,
    "zone": replace(POOL, zone="eu-1a"),
    "memory-only": replace(POOL, tiers=(MEMORY,)),
    "two-disks": replace(POOL, tiers=(DISK, replace(DISK, storage_class="slow"))),
    "per-node": PER_NODE,
    "per-node-volumes": replace(PER_NODE, tiers=(MEMORY, DISK)),
    "asked": replace(
        POOL,
        node_selector={"a": "b"},
        tolerations=({"operator": "Exists"},),
        affinity={"nodeAffinity": {}},
        resources={"requests": {"memory": "8Gi"}},
        priority_class="high",
    ),
}
each = pytest.mark.parametrize("workers", SHAPES.values(), ids=SHAPES)


def _pod(workers):
    return set_documents(workers, DEFAULT)[1]["spec"]["template"]["spec"]


@pytest.mark.slow
@each
def test_every_shape_is_valid(workers):
    for document in (*pool_documents("gpu", "cachefs"), *set_documents(workers, DEFAULT)):
        kubernetes_validate.validate(document, "1.30", strict=True)


@each
def test_tiers_fit_into_what_holds_them_and_folders_are_mounted(workers):
    config, made = set_documents(workers, DEFAULT)
    own = json.loads(config["data"]["worker.json"])["worker"]
    from_document(WorkerConfig, {"name": "w", **own})
    assert own["socket_folder"] in [
        one["mountPath"]
        for one in made["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    ]
    pod = made["spec"]["template"]["spec"]
    mounts = {one["mountPath"]: one["name"] for one in pod["containers"][0]["volumeMounts"]}
    room = {one["name"]: one for one in pod["volumes"]} | {
        one["metadata"]["name"]: {"ephemeral": {"volumeClaimTemplate": one}}
        for one in made["spec"].get("volumeClaimTemplates", ())
    }
    limit = in_bytes(pod["containers"][0]["resources"]["limits"]["memory"])
    assert own["state_folder"].rsplit("/", 1)[0] in mounts
    for tier in own["tiers"]:
        volume = room[mounts[tier["folder"].rsplit("/", 1)[0]]]
        if tier["medium"] == "memory":
            size = in_bytes(volume["emptyDir"]["sizeLimit"])
            assert volume["emptyDir"]["medium"] == "Memory"
            assert tier["capacity_bytes"] < size < limit
        elif "hostPath" not in volume:
            spec = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
            assert tier["capacity_bytes"] < in_bytes(spec["resources"]["requests"]["storage"])
    assert len({tier["folder"] for tier in own["tiers"]}) == len(own["tiers"])


@each
def test_the_pods_are_those_of_the_pool(workers):
    _, made = set_documents(workers, DEFAULT)
    marks = made["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["selector"]["matchLabels"] == marks
    assert pool_selector("gpu").items() <= marks.items()
    service, budget = pool_documents("gpu", "cachefs")
    assert service["spec"]["selector"] == pool_selector("gpu")
    assert budget["spec"]["selector"]["matchLabels"] == pool_selector("gpu")
    if workers.count is not None:
        assert made["spec"]["serviceName"] == service["metadata"]["name"]


def test_a_worker_has_as_long_to_leave_as_its_pool_gives_it():
    pod = _pod(replace(POOL, drain_seconds=1200))
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert environment["DRAIN_SECONDS"] == "1200"
    assert pod["terminationGracePeriodSeconds"] > 1200
    hook = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert hook == ["python", "-m", "cachefs.k8s.leaving"]


def test_sets_of_two_zones_are_two_sets_with_pods_of_their_own():
    east, west = (set_documents(replace(POOL, zone=zone), DEFAULT)[1] for zone in ("e", "w"))
    assert east["metadata"]["name"] != west["metadata"]["name"]
    assert east["spec"]["selector"] != west["spec"]["selector"]
    for made, zone in ((east, "e"), (west, "w")):
        pod = made["spec"]["template"]["spec"]
        assert pod["nodeSelector"]["topology.kubernetes.io/zone"] == zone


@pytest.mark.parametrize(
    ("pool", "zone", "name"),
    [
        ("default", "", "cachefs-worker"),
        ("gpu", "", "cachefs-worker-gpu"),
        ("gpu", "eu-1a", "cachefs-worker-gpu-eu-1a"),
        ("p" * 32, "", f"cachefs-worker-{'p' * 32}"),
    ],
)
def test_sets_are_called_as_their_pool_and_zone(pool, zone, name):
    assert set_name(pool, zone) == name


def test_sets_whose_names_would_not_fit_have_others_that_do():
    wanted = [("p" * 32, "europe-west1-b"), ("p" * 32, "europe-west1-c"), ("a", "Rack_1.b")]
    names = [set_name(pool, zone) for pool, zone in wanted]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= 52
    assert names == [set_name(pool, zone) for pool, zone in wanted]


def test_a_pools_workers_are_spread_evenly_over_the_zones():
    counts = [workers.count for workers in of_installation(PLAIN_FULL)]
    assert counts == [3, 2]
    assert [workers.zone for workers in of_installation(PLAIN_FULL)] == ["a", "b"]


def test_a_worker_of_each_node_has_a_name_that_outlives_its_pod():
    _, made = set_documents(PER_NODE, DEFAULT)
    assert made["kind"] == "DaemonSet"
    environment = made["spec"]["template"]["spec"]["containers"][0]["env"]
    names = [one["name"] for one in environment]
    assert names.index("NODE_NAME") < names.index("WORKER_NAME"), "it is expanded from it"
    assert {"name": "WORKER_NAME", "value": "gpu-$(NODE_NAME)"} in environment


def test_a_folder_of_the_node_is_given_to_the_worker_by_one_who_can_do_no_more():
    pod = _pod(PER_NODE)
    (giving,) = pod["initContainers"]
    assert giving["command"][2:] == ["cachefs.k8s.starting", "own", "65532", "/var/lib/cachefs"]
    assert giving["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert giving["securityContext"]["readOnlyRootFilesystem"]
    assert "initContainers" not in _pod(POOL)


def test_memory_that_is_asked_for_is_the_limit_too():
    resources = _pod(SHAPES["asked"])["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "1", "memory": "8Gi"}
    assert resources["limits"] == {"memory": "8Gi"}


def test_sockets_are_there_where_the_driver_is_and_only_there():
    volume = {
        "name": "sockets",
        "csi": {"driver": "cachefs.io", "volumeAttributes": {"use": "sockets"}},
    }
    assert volume in _pod(POOL)["volumes"]
    of_node = {"path": "/run/cachefs-node/sockets", "type": "Directory"}
    assert {"name": "sockets", "hostPath": of_node} in _pod(PER_NODE)["volumes"]
    for wanted in (PLAIN, replace(DEFAULT, csi=False)):
        config, made = set_documents(POOL, wanted)
        assert volume not in made["spec"]["template"]["spec"]["volumes"]
        assert "socket_folder" not in config["data"]["worker.json"]


def test_pods_are_made_anew_when_their_configuration_changes_and_only_then():
    def marks(wanted):
        return [
            one["spec"]["template"]["metadata"]["annotations"]
            for one in documents(wanted)
            if one["kind"] == "StatefulSet"
        ]

    assert marks(PLAIN) == marks(replace(PLAIN, workers=7))
    assert marks(PLAIN) != marks(replace(PLAIN, disk_bytes=200 * GIB))
