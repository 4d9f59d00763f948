"""A stand-in for the stateful set controller and the kubelets: pods become processes on this machine.

It does what Kubernetes documents of these two, and no more: a set with ``podManagementPolicy: Parallel`` has the pods
0 … replicas-1, made at once; the last ones end first; a pod that ends runs its preStop hook, gets SIGTERM after
that, and SIGKILL when its grace period is over. A pod's files are those that its template mounts, below a
folder of its own; names of services are resolved as the cluster's DNS would.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from cachefs.benchmarks.processes import Process
from cachefs.config.files import to_document
from cachefs.k8s.kinds import CONFIG_MAPS, STATEFUL_SETS
from cachefs.k8s.starting import prepare

POLL_SECONDS = 0.1


class Pod:
    """One process, with its files."""

    def __init__(self, folder, name, template, config, *, resolve, token):
        self.name = name
        self.grace_seconds = template["spec"]["terminationGracePeriodSeconds"]
        self.told = ""
        container = template["spec"]["containers"][0]
        self.hook = container["lifecycle"]["preStop"]["exec"]["command"]
        self.root = folder / name
        for each in ("etc/cachefs", "etc/cachefs-token", "run/cachefs", "var/lib/cachefs"):
            (self.root / each).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / "etc/cachefs/worker.json").write_text(config)
        (self.root / "etc/cachefs-token/token").write_text(token)
        own = {"metadata.name": name, "status.podIP": "127.0.0.1", "spec.nodeName": "here"}
        environment = {
            each["name"]: own[each["valueFrom"]["fieldRef"]["fieldPath"]]
            if "valueFrom" in each
            else resolve(each.get("value", ""))
            for each in container["env"]
        }
        command, told = prepare("worker", environment, self.root)
        self.environment = told
        self.process = Process(command, log=self.root / "log", environment=told)

    def end(self):
        """Run the hook, then end the process, all within the grace period."""
        command = [sys.executable if one == "python" else one for one in self.hook]
        hook = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=self.grace_seconds,
            check=False,
        )
        self.told = (hook.stdout or hook.stderr).strip()
        self.process.stop()


class Kubelets:
    """Makes the pods of the stateful sets of a namespace; a context manager that ends them all."""

    def __init__(self, folder, cluster, system, *, namespace="cachefs", services=()):
        self.folder = folder
        self.pods: dict[str, Pod] = {}
        self.ended: list[Pod] = []
        self._services = dict(services)
        self._cluster = cluster
        self._system = system
        self._namespace = namespace
        self._stop = threading.Event()
        self._failure = None
        self._ending: dict[str, threading.Thread] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        for thread in self._ending.values():
            thread.join()
        for pod in self.pods.values():
            pod.process.stop(kill=True)

    def names(self):
        """Return the pods that are there, those included that end."""
        if self._failure is not None:
            raise self._failure
        return set(self.pods)

    def _run(self):
        while not self._stop.wait(POLL_SECONDS):
            try:
                for one in self._cluster.find(STATEFUL_SETS, self._namespace):
                    self._follow(one)
            except Exception as error:  # noqa: BLE001 - it is raised in the test's thread
                self._failure = error
                return

    def _follow(self, one):
        head, spec = one["metadata"], one["spec"]
        wanted = [f"{head['name']}-{number}" for number in range(spec["replicas"])]
        there = [name for name in self.pods if name.rpartition("-")[0] == head["name"]]
        for name in wanted:
            if name not in self.pods:
                self.pods[name] = self._start(name, spec["template"])
        for name in sorted(there, key=lambda name: -int(name.rpartition("-")[2])):
            if name not in wanted and name not in self._ending:
                self._ending[name] = threading.Thread(target=self._end, args=(name,))
                self._ending[name].start()
        count = len([name for name in self.pods if name.rpartition("-")[0] == head["name"]])
        status = {"replicas": count, "readyReplicas": count}
        if (one.get("status") or {}).get("replicas") != count:
            patch = {"status": {**status, "observedGeneration": head["generation"]}}
            self._cluster.patch(
                STATEFUL_SETS, head["name"], self._namespace, patch, subresource="status"
            )

    def _start(self, name, template):
        mounted = next(one for one in template["spec"]["volumes"] if one["name"] == "config")
        config = self._cluster.get(CONFIG_MAPS, mounted["configMap"]["name"], self._namespace)
        return Pod(
            self.folder,
            name,
            template,
            self._here(config["data"]["worker.json"], self.folder / name),
            resolve=self._resolve,
            token=self._system.token.reveal(),
        )

    def _here(self, text, root: Path):
        """Adapt what is the machine's: folders, the coordinator's address, ports that are free."""
        document = json.loads(text)
        document["cluster"] = to_document(self._system.cluster)
        own = document["worker"]
        own["coordinator"] = self._resolve(own["coordinator"])
        own |= {"data_port": 0, "control_port": 0}
        own["state_folder"] = f"{root}{own['state_folder']}"
        for tier in own["tiers"]:
            tier["folder"] = f"{root}{tier['folder']}"
            # A worker refuses what its disk cannot hold.
            tier["capacity_bytes"] = min(tier["capacity_bytes"], 64 << 20)
        own.pop("socket_folder", None)
        return json.dumps(document)

    def _resolve(self, text):
        return self._services.get(text, text)

    def _end(self, name):
        pod = self.pods[name]
        pod.end()
        self.ended.append(pod)
        del self.pods[name]
        del self._ending[name]
