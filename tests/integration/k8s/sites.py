"""A cluster that something is installed on: an API server of the tests, and our command."""

import json

from typer.testing import CliRunner

from cachefs.cli import main
from cachefs.k8s import kinds
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.names import CACHE_POOLS

INSTALL = ("install", "--image", "example/cachefs:1", "--wait", "0")


class Site:
    """A cluster, and the command on it."""

    def __init__(self, server, folder):
        self.server = server
        self.kubeconfig = server.kubeconfig(folder / "kubeconfig")
        self.cluster = open_cluster(self.kubeconfig)

    def run(self, *words):
        """Run ``cachefs k8s``; return what it said, or raise its error."""
        words = ("k8s", words[0], "--kubeconfig", str(self.kubeconfig), *words[1:])
        done = CliRunner().invoke(main.app, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    def findings(self):
        """Return what the doctor finds that is not as it should be."""
        found = json.loads(self.run("doctor", "--json"))
        return {(one["check"], one["message"]): one for one in found if one["level"] != "ok"}

    def become_ready(self):
        """Do what controllers do once all pods are well."""
        for kind in (kinds.DEPLOYMENTS, kinds.STATEFUL_SETS, kinds.DAEMON_SETS):
            for one in self.cluster.find(kind):
                count = one["spec"].get("replicas", 1)
                numbers = (
                    ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled")
                    if kind is kinds.DAEMON_SETS
                    else ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
                )
                status = dict.fromkeys(numbers, count)
                status["observedGeneration"] = one["metadata"]["generation"]
                if kind is kinds.DAEMON_SETS:
                    status |= {"currentNumberScheduled": count, "numberMisscheduled": 0}
                name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
                self.cluster.patch(kind, name, namespace, {"status": status}, subresource="status")
        for pool in self.cluster.find(CACHE_POOLS):
            ready = {
                "type": "Ready",
                "status": "True",
                "reason": "Ready",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            name, namespace = pool["metadata"]["name"], pool["metadata"]["namespace"]
            patch = {"status": {"conditions": [ready]}}
            self.cluster.patch(CACHE_POOLS, name, namespace, patch, subresource="status")
