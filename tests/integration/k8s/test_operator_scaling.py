"""Pools on a cluster: workers that leave hand over what they hold, while others read."""

import hashlib
import os
import threading

import pytest

from cachefs.k8s import crds
from cachefs.k8s.manifests import permissions
from cachefs.k8s.names import CACHE_POOLS, DATASETS
from cachefs.testing.kubernetes import ApiServer
from tests.integration.k8s.kubelets import Kubelets
from tests.integration.k8s.operators import (
    INSTALLATION,
    Objects,
    Operator,
    namespace,
    resource,
)
from tests.integration.systems import PacedOrigin, System, wait_for

pytestmark = pytest.mark.slow
BLOCK = 64 * 1024
CONTENT = os.urandom(40 * BLOCK + 123)


class Reading:
    """Reads a file again and again, from its beginning, and compares."""

    def __init__(self, system, dataset, path):
        self.count = 0
        self.failures = []
        self._system, self._dataset, self._path = system, dataset, path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        wanted = hashlib.sha256(CONTENT).digest()
        try:
            with self._system.open(self._dataset) as dataset:
                while not self._stop.is_set():
                    with dataset.open(self._path) as file:
                        if hashlib.sha256(file.read()).digest() != wanted:
                            self.failures.append("other bytes")
                    self.count += 1
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.failures.append(error)


@pytest.fixture
def origin(tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    (folder / "model.bin").write_bytes(CONTENT)
    with PacedOrigin(folder) as origin:
        yield origin


def test_scale_in_during_reads_loses_nothing(tmp_path, origin):
    with (
        System(tmp_path, block_size=BLOCK, duties=True) as system,
        ApiServer(authorizing=True, tls=True) as server,
    ):
        system.start_coordinator()
        server.install(
            *(namespace(name) for name in ("cachefs", "cachefs-node", "team")),
            *crds.documents(),
            *(one for one in permissions.documents(INSTALLATION) if "rules" in one),
            *(one for one in permissions.documents(INSTALLATION) if "roleRef" in one),
        )
        objects = Objects(tmp_path, server)
        addresses = system.processes["coordinator"].addresses
        services = {INSTALLATION.api: addresses["http"], INSTALLATION.control: addresses["control"]}
        token = server.account("cachefs", "cachefs-operator")
        tiers = [{"medium": "disk", "size": "1Gi"}]
        objects.create(resource("CachePool", "default", "cachefs", workers=4, tiers=tiers))
        url = f"{origin.url}/model.bin"
        objects.create(resource("Dataset", "llama", "team", url=url, warm={}))
        with (
            Operator(tmp_path, server, system, token=token) as operator,
            Kubelets(tmp_path / "pods", objects.cluster, system, services=services) as kubelets,
        ):
            status = lambda: objects.status(CACHE_POOLS, "default", "cachefs")  # noqa: E731
            wait_for(lambda: status().get("workers") == 4, 40, what=operator.log)
            cached = lambda: objects.status(DATASETS, "llama", "team").get("cachedPercent")  # noqa: E731
            wait_for(lambda: cached() == 100, 30, what=operator.log)
            origin.begin_anew()
            with Reading(system, "team/llama", "model.bin") as reading:
                wait_for(lambda: reading.count > 3, what=lambda: reading.failures)
                objects.cluster.patch(
                    CACHE_POOLS,
                    "default",
                    "cachefs",
                    {"spec": {"replicas": 2}},
                    subresource="scale",
                )
                wait_for(lambda: len(kubelets.names()) == 2, 60, what=operator.log)
                seen = reading.count
                wait_for(lambda: reading.count > seen + 3, what=lambda: reading.failures)
            assert reading.failures == []
            assert [pod.told for pod in kubelets.ended] == ["it has handed over all it held"] * 2
            found = system.api.get("/v1/residency/team/llama")
            assert found["bytes_resident"] == found["bytes_total"] == len(CONTENT)
            assert origin.bytes_asked == 0
            assert system.api.get("/v1/pools/default")["wanted"] == 2
            # What others wish (`cachefs scale`, a flow, a policy) is carried out alike.
            system.api.put("/v1/pools/default", {"wanted": 3, "by": "a person"})
            wait_for(lambda: status().get("workers") == 3, 40, what=operator.log)
            assert status()["wanted"] == 3
