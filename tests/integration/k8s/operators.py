"""Operators as real processes, beside an API server of the tests and a real coordinator."""

import http.client
import sys

from cachefs.benchmarks.processes import Process
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.installation import Installation
from cachefs.k8s.kinds import of

INSTALLATION = Installation(image="cachefs:1")


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def resource(kind, name, namespace, **spec):
    return {
        "apiVersion": "cachefs.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


class Operator:
    """One operator; a context manager that kills it."""

    def __init__(self, folder, server, system, *, identity="operator-0", token=""):
        self.folder = folder / identity
        self.folder.mkdir(exist_ok=True)
        kubeconfig = server.kubeconfig(self.folder / "kubeconfig", token=token)
        command = [
            *(sys.executable, "-m", "cachefs.k8s.operator", "--log-text"),
            *("--kubeconfig", str(kubeconfig), "--host", "127.0.0.1", "--port", "0"),
            *("--lease-seconds", "3", "--renew-seconds", "2", "--retry-seconds", "0.3"),
        ]
        environment = {
            **INSTALLATION.environment(),
            "CACHEFS_COORDINATOR": system.processes["coordinator"].addresses["http"],
            "CACHEFS_TOKEN_FILE": str(system.folder / "token"),
            "POD_NAME": identity,
        }
        self.process = Process(command, log=self.folder / "log", environment=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop(kill=True)

    def ask(self, path):
        host, _, port = self.process.addresses["http"].rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    @property
    def leads(self):
        return "cachefs_operator_leads 1.0" in self.ask("/metrics")

    def log(self):
        return (self.folder / "log").read_text()


class Objects:
    """The cluster as its administrator sees it."""

    def __init__(self, folder, server):
        self.cluster = open_cluster(server.kubeconfig(folder / "admin"))

    def create(self, document):
        return self.cluster.create(document)

    def status(self, kind, name, namespace):
        return (self.cluster.get(kind, name, namespace) or {}).get("status") or {}

    def condition(self, kind, name, namespace, which):
        found = self.status(kind, name, namespace).get("conditions", [])
        return next((one for one in found if one["type"] == which), {})

    def change(self, document, **spec):
        head = document["metadata"]
        patch = {"spec": spec}
        return self.cluster.patch(of(document), head["name"], head["namespace"], patch)
