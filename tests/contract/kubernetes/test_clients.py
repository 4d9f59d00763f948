"""The real clients for Python: the ``kubernetes`` package and ``kopf`` find what they expect."""

import asyncio
import threading
from contextlib import contextmanager

import kopf
import pytest
from kubernetes import client, config, dynamic, watch

from tests.contract.kubernetes.clients import config_map, thing
from tests.contract.kubernetes.test_patching import deployment
from tests.integration.systems import wait_for


@pytest.fixture
def connected(server, tmp_path):
    path = server.kubeconfig(tmp_path / "config")
    return config.new_client_from_config(str(path))


def test_the_package_creates_reads_lists_and_deletes(connected):
    core = client.CoreV1Api(connected)
    made = core.create_namespaced_config_map("default", config_map("a", x="1"))
    assert made.metadata.creation_timestamp.tzinfo is not None
    assert core.read_namespaced_config_map("a", "default").data == {"x": "1"}
    listed = core.list_namespaced_config_map("default", label_selector="!none", limit=1)
    assert [item.metadata.name for item in listed.items] == ["a"]
    assert core.delete_namespaced_config_map("a", "default")["status"] == "Success"
    with pytest.raises(client.ApiException) as refused:
        core.read_namespaced_config_map("a", "default")
    assert (refused.value.status, refused.value.reason) == (404, "Not Found")


def test_the_package_reads_typed_objects_with_their_defaults(connected):
    apps = client.AppsV1Api(connected)
    apps.create_namespaced_deployment("default", deployment())
    found = apps.read_namespaced_deployment("d", "default")
    assert found.spec.template.spec.containers[0].ports[0].protocol == "TCP"
    apps.patch_namespaced_deployment_scale("d", "default", {"spec": {"replicas": 3}})
    assert apps.read_namespaced_deployment_scale("d", "default").spec.replicas == 3


def test_the_package_watches(connected):
    core = client.CoreV1Api(connected)
    version = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", config_map("a"))
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, "default", resource_version=version, timeout_seconds=1
    )
    event = next(iter(stream))
    assert (event["type"], event["object"].metadata.name) == ("ADDED", "a")


def test_the_package_is_told_that_a_version_is_gone(server, connected):
    core = client.CoreV1Api(connected)
    version = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", config_map("a"))
    server.compact()
    with pytest.raises(client.ApiException) as refused:
        list(
            watch.Watch().stream(
                core.list_namespaced_config_map,
                "default",
                resource_version=version,
                timeout_seconds=1,
            )
        )
    assert refused.value.status == 410


def test_the_dynamic_client_discovers_and_applies_custom_objects(connected, things):
    kinds = dynamic.DynamicClient(connected)
    resource = kinds.resources.get(api_version="example.com/v1", kind="Thing")
    made = resource.server_side_apply(thing("a", size=1), namespace="default", field_manager="me")
    assert made.spec.size == 1
    told = resource.status.patch(
        {"metadata": {"name": "a"}, "status": {"ready": True}},
        namespace="default",
        content_type="application/merge-patch+json",
    )
    assert told.status.ready is True


@contextmanager
def operating(registry):
    """Run an operator of kopf's in a thread."""
    stop, ready = threading.Event(), threading.Event()
    ends = []

    def run():
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(
                kopf.operator(
                    registry=registry,
                    namespaces=["default"],
                    stop_flag=stop,
                    ready_flag=ready,
                    standalone=True,
                )
            )
        except Exception as error:  # noqa: BLE001 - shown by the test's thread
            ends.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    assert ends == []


def operator():
    """Return an operator that counts sizes into the status, and what befell it."""
    registry = kopf.OperatorRegistry()
    seen = []

    @kopf.on.startup(registry=registry)
    def begin(settings, **_):
        settings.posting.level = 30
        settings.persistence.finalizer = "example.com/kopf"

    @kopf.on.login(registry=registry)
    def log_in(**more):
        return kopf.login_with_kubeconfig(**more)

    @kopf.on.create("things", registry=registry)
    def create(name, spec, patch, **_):
        seen.append(("create", name))
        patch.status["size"] = spec["size"]

    @kopf.on.update("things", field="spec.size", registry=registry)
    def update(name, new, patch, **_):
        seen.append(("update", name))
        patch.status["size"] = new

    @kopf.on.resume("things", registry=registry)
    def resume(name, **_):
        seen.append(("resume", name))

    @kopf.on.delete("things", registry=registry)
    def delete(name, **_):
        seen.append(("delete", name))

    return registry, seen


def test_an_operator_of_kopfs_creates_updates_deletes_and_resumes(
    server, api, things, tmp_path, monkeypatch
):
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "config")))

    def size():
        return api.get(f"{things}/a").body.get("status", {}).get("size")

    registry, seen = operator()
    with operating(registry):
        api.post(things, thing("a", size=1))
        wait_for(lambda: size() == 1)
        wait_for(lambda: "kopf" in str(api.get(f"{things}/a")["metadata"]))
        server.drop_watches()
        api.merge(f"{things}/a", {"spec": {"size": 2}})
        wait_for(lambda: size() == 2)
    assert ("create", "a") in seen
    assert ("update", "a") in seen
    registry, seen = operator()
    with operating(registry):
        wait_for(lambda: ("resume", "a") in seen)
        assert api.delete(f"{things}/a").code == 200
        wait_for(lambda: api.get(f"{things}/a").code == 404)
    assert ("delete", "a") in seen
