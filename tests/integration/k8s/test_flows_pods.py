"""Pods and workloads that wait for data, and pods that have it warmed: keepers on an API server.

The coordinator's part are its own routes, over a scripted answer.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cachefs.errors import CoordinatorUnavailableError, NotKnownError
from cachefs.k8s import crds
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.kinds import EVENTS, PODS
from cachefs.k8s.names import DATASETS, PREFETCH, PREFETCHED, Kind
from cachefs.k8s.operator.pods.admitting import VERSIONS, CheckKeeper, served_version
from cachefs.k8s.operator.pods.gates import GateKeeper
from cachefs.k8s.operator.pods.prefetching import PrefetchKeeper
from cachefs.testing.kubernetes import ApiServer
from tests.integration.systems import RUNTIME
from tests.unit.hints.consumers.schedulers import scheduler
from tests.unit.hints.making import COMING, THREE

GATE = {"name": "cachefs.io/data-ready"}


class Coordinator:
    """The part of ``Api`` that keepers use: schedulers' routes, and warm-ups that are only noted."""

    def __init__(self):
        self.hint = COMING
        self.away = False
        self.warmed = []
        self._client = scheduler(
            lambda _: replace(self.hint, generated_at=RUNTIME.wall()), gates=True
        )

    def post(self, path, body, **_):
        if self.away:
            raise CoordinatorUnavailableError("it does not answer")
        if path == "/v1/warm":
            if body["dataset"].endswith("/missing"):
                raise NotKnownError("no such dataset")
            self.warmed.append((body["dataset"], body["version"]))
            return {"id": f"w{len(self.warmed)}"}
        return self._client.post(path, json=body).json()


@pytest.fixture
def server():
    with ApiServer() as made:
        names = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in ("team", "other")
        ]
        made.install(*names, *crds.documents())
        yield made


@pytest.fixture
def cluster(server, tmp_path):
    return open_cluster(server.kubeconfig(tmp_path / "config"))


def pod(name="p", annotations=None, labels=None, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": {"cachefs.io/hint": "true", **(labels or {})},
            "annotations": {"cachefs.io/datasets": "llama", **(annotations or {})},
        },
        "spec": {"containers": [{"name": "main", "image": "vllm:1"}], **spec},
    }


def gates(cluster):
    return cluster.get(PODS, "p", "team")["spec"].get("schedulingGates") or []


def test_a_gated_pod_waits_and_goes_with_affinity_when_its_data_is_close(cluster):
    coordinator = Coordinator()
    keeper = GateKeeper(RUNTIME, cluster, coordinator)
    cluster.create(pod(schedulingGates=[{"name": "kueue.x-k8s.io/x"}, GATE]))
    assert keeper.sweep() == (("team", "p"),)
    assert keeper.keep("team", "p") > 0
    assert GATE in gates(cluster)
    coordinator.hint = THREE
    assert keeper.keep("team", "p") is None
    after = cluster.get(PODS, "p", "team")
    assert after["spec"]["schedulingGates"] == [{"name": "kueue.x-k8s.io/x"}]
    assert after["spec"]["affinity"]["nodeAffinity"]
    assert after["metadata"]["annotations"]["cachefs.io/hint-id"]
    assert keeper.sweep() == ()
    assert keeper.keep("team", "p") is None


def test_a_gated_pod_goes_when_nobody_answers_and_when_it_is_gone(cluster):
    coordinator = Coordinator()
    coordinator.away = True
    keeper = GateKeeper(RUNTIME, cluster, coordinator)
    cluster.create(pod(schedulingGates=[GATE]))
    assert keeper.keep("team", "p") is None
    assert gates(cluster) == []
    assert keeper.keep("team", "nobody") is None


def test_a_pod_whose_terms_cannot_be_changed_goes_as_it_is(cluster):
    class Odd(Coordinator):
        """One whose patch the server refuses."""

        def post(self, path, body, **more):
            answer = super().post(path, body, **more)
            return {"patch": [{"op": "test", "path": "/kind", "value": "?"}, *answer["patch"]]}

    coordinator = Odd()
    coordinator.hint = THREE
    cluster.create(pod(schedulingGates=[GATE]))
    assert GateKeeper(RUNTIME, cluster, coordinator).keep("team", "p") is None
    assert gates(cluster) == []


def test_a_pod_has_what_it_names_warmed_once(cluster):
    def dataset(name, shared):
        return {
            "apiVersion": DATASETS.api_version,
            "kind": DATASETS.kind,
            "metadata": {"name": name, "namespace": "other"},
            "spec": {"url": "s3://models/x", "sharedWith": shared},
        }

    cluster.create(dataset("shared", ["team"]))
    cluster.create(dataset("private", []))
    words = "llama@v2, other/shared, other/private, missing"
    cluster.create(pod(annotations={PREFETCH: words}, labels={PREFETCH: "true"}))
    coordinator = Coordinator()
    keeper = PrefetchKeeper(cluster, coordinator)
    assert keeper.sweep() == (("team", "p"),)
    for _ in range(2):
        assert keeper.keep("team", "p") is None
    assert coordinator.warmed == [("team/llama", "v2"), ("other/shared", "")]
    told = cluster.get(PODS, "p", "team")["metadata"]["annotations"][PREFETCHED]
    assert told == (
        "team/llama@v2: w1, other/shared: w2, other/private: not shared with team, "
        "team/missing: there is no such dataset or version"
    )
    assert [one["message"] for one in cluster.find(EVENTS, "team")] == [told]
    assert keeper.sweep() == ()


def test_what_cannot_be_understood_is_said_at_the_pod(cluster):
    cluster.create(pod(annotations={PREFETCH: "NOT/A/NAME!"}, labels={PREFETCH: "true"}))
    coordinator = Coordinator()
    PrefetchKeeper(cluster, coordinator).keep("team", "p")
    assert coordinator.warmed == []
    assert "NOT" in cluster.get(PODS, "p", "team")["metadata"]["annotations"][PREFETCHED]


# ---- Kueue --------------------------------------------------------------------------------------


def kueue(version):
    """Return what teaches an API server Kueue's kinds, as far as we see them."""
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    for kind, plural, scope in (
        ("AdmissionCheck", "admissionchecks", "Cluster"),
        ("Workload", "workloads", "Namespaced"),
    ):
        yield {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{plural}.kueue.x-k8s.io",
                # The API server wants this of groups that end so.
                "annotations": {"api-approved.kubernetes.io": "https://example.com"},
            },
            "spec": {
                "group": "kueue.x-k8s.io",
                "scope": scope,
                "names": {"kind": kind, "plural": plural},
                "versions": [
                    {
                        "name": version.rpartition("/")[2],
                        "served": True,
                        "storage": True,
                        "subresources": {"status": {}},
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "properties": {"spec": free, "status": free},
                            }
                        },
                    }
                ],
            },
        }


class Kueue:
    """A cluster with Kueue, a check of ours and one of somebody else."""

    def __init__(self, server, cluster, version):
        server.install(*kueue(version))
        self.cluster = cluster
        self.workloads = Kind("Workload", "workloads", version)
        self.checks = Kind("AdmissionCheck", "admissionchecks", version, namespaced=False)
        for name, controller in (("data", "cachefs.io/data"), ("other", "example.com/x")):
            self._make(self.checks, name, {"controllerName": controller})
        self.coordinator = Coordinator()
        self.keeper = CheckKeeper(RUNTIME, cluster, self.coordinator, version)

    def _make(self, kind, name, spec, namespace=""):
        """Make an object of a kind that the door knows in one version only."""
        place = f"/namespaces/{namespace}" if namespace else ""
        head = {"name": name, **({"namespace": namespace} if namespace else {})}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": head, "spec": spec}
        self.cluster._make("POST", f"/apis/{kind.api_version}{place}/{kind.plural}", {}, body)

    def workload(self, *, quota=True, annotations=None, state="Pending"):
        marks = {"cachefs.io/datasets": "llama", **(annotations or {})}
        template = {"metadata": {"annotations": marks}, "spec": {"containers": []}}
        spec = {"podSets": [{"name": "main", "count": 1, "template": template}]}
        self._make(self.workloads, "w", spec, "team")
        since = datetime.now(UTC) - timedelta(seconds=5)
        at = since.strftime("%Y-%m-%dT%H:%M:%SZ")
        entries = [
            {"name": name, "state": state, "message": "", "lastTransitionTime": at}
            for name in ("other", "data")
        ]
        quota_condition = {"type": "QuotaReserved", "status": str(quota)}
        status = {"admissionChecks": entries, "conditions": [quota_condition]}
        self.cluster.patch(self.workloads, "w", "team", {"status": status}, subresource="status")

    def entries(self):
        status = self.cluster.get(self.workloads, "w", "team")["status"]
        return {one["name"]: one for one in status["admissionChecks"]}


@pytest.fixture(params=VERSIONS)
def site(request, server, cluster):
    return Kueue(server, cluster, request.param)


def test_without_kueue_nothing_is_watched(cluster):
    assert served_version(cluster) is None


def test_our_checks_are_marked_active_and_no_others(site):
    assert served_version(site.cluster) == site.workloads.api_version
    site.keeper.sweep()
    site.keeper.sweep()
    (ours,) = site.cluster.get(site.checks, "data")["status"]["conditions"]
    assert (ours["type"], ours["status"]) == ("Active", "True")
    assert "status" not in site.cluster.get(site.checks, "other")


def test_a_workload_waits_for_its_data_and_is_then_ready(site):
    site.workload()
    assert site.keeper.sweep() == (("team", "w"),)
    assert site.keeper.keep("team", "w") <= 10
    entries = site.entries()
    assert entries["data"]["state"] == "Pending"
    assert "close in" in entries["data"]["message"]
    assert entries["other"]["message"] == ""
    site.coordinator.hint = THREE
    site.keeper.keep("team", "w")
    entry = site.entries()["data"]
    assert entry["state"] == "Ready"
    assert entry["podSetUpdates"][0]["annotations"]["cachefs.io/hint-id"]
    site.coordinator.hint = COMING
    assert site.keeper.sweep() == ()
    site.keeper.keep("team", "w")
    assert site.entries()["data"] == entry, "what was ready stays so"


def test_a_workload_without_its_quota_is_not_looked_at(site):
    site.workload(quota=False)
    assert site.keeper.sweep() == ()
    site.keeper.keep("team", "w")
    assert site.entries()["data"]["message"] == ""


def test_nobody_is_held_when_nobody_answers_or_its_patience_is_over(site):
    site.workload(annotations={"cachefs.io/hold": "1s"})
    site.keeper.keep("team", "w")
    assert site.entries()["data"]["state"] == "Ready"
    site.cluster.delete(site.workloads, "w", "team")
    site.workload()
    site.coordinator.away = True
    site.keeper.keep("team", "w")
    entry = site.entries()["data"]
    assert (entry["state"], entry["message"]) == ("Ready", "no opinion: nobody answers")


def test_somebody_elses_change_at_the_same_time_is_not_overwritten(site):
    site.workload()
    patch = site.cluster.patch

    def meanwhile(*given, **more):
        site.cluster.patch = patch
        entries = list(site.entries().values())
        entries[0]["state"] = "Ready"
        patch(
            site.workloads,
            "w",
            "team",
            {"status": {"admissionChecks": entries}},
            subresource="status",
        )
        return patch(*given, **more)

    site.keeper.sweep()
    site.cluster.patch = meanwhile
    assert site.keeper.keep("team", "w") == 0.0
    assert site.entries()["other"]["state"] == "Ready"
    site.keeper.keep("team", "w")
    assert site.entries()["other"]["state"] == "Ready"
