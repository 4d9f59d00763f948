"""Stand-ins for what makes pods on a cluster: the Job controller with a kubelet, the deployment controller.

The Job's stand-in runs a program as a real process of this machine, once for each Job that it has ever seen.
The deployment's makes pods that are ready a moment later, by the real one's rules for ``maxSurge``, a
``maxUnavailable`` of 0, and ``paused``.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import signal
import subprocess
import threading
from datetime import UTC, datetime

from cachefs.errors import CacheFSError, ConflictError
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.kinds import DEPLOYMENTS, JOBS, PODS, REPLICA_SETS


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def expanded(text, variables):
    """Do as the kubelet: ``$$`` is ``$``, and ``$(NAME)`` a variable that is there."""

    def one(match):
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, text)


class Controllers:
    """Looks at all Jobs and deployments again and again, in a thread; a context manager."""

    def __init__(self, kubeconfig, folder, environment):
        self.cluster = open_cluster(kubeconfig)
        self.begun = []
        self.shapes = []
        self.troubles = []
        self._folder = folder
        self._environment = environment
        self._processes = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        for process in self._processes.values():
            self._kill(process)

    def _run(self):
        while not self._over.wait(0.05):
            try:
                self._look_at_jobs()
                for deployment in self.cluster.find(DEPLOYMENTS):
                    self._look_at_deployment(deployment)
            except ConflictError:
                continue
            except CacheFSError as error:
                self.troubles.append(error)

    # ---- Jobs -----------------------------------------------------------------------------------

    def _look_at_jobs(self):
        jobs = {job["metadata"]["uid"]: job for job in self.cluster.find(JOBS)}
        for uid, process in list(self._processes.items()):
            if uid not in jobs:
                self._kill(process)
                del self._processes[uid]
                self._remove_pods(uid)
        for uid, job in jobs.items():
            if uid not in self._processes and not (job.get("status") or {}).get("conditions"):
                self._begin(uid, job)
            elif uid in self._processes and self._processes[uid].poll() is not None:
                self._end(uid, job)

    def _begin(self, uid, job):
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        template = job["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-x",
                "namespace": namespace,
                **template["metadata"],
                "ownerReferences": [owner(job)],
            },
            "spec": template["spec"],
        }
        self.cluster.create(pod)
        container = template["spec"]["containers"][0]
        folder = self._folder / uid
        folder.mkdir(parents=True)
        given = {}
        for one in container["env"]:
            given[one["name"]] = expanded(one.get("value", ""), given)
        given["CACHEFS_OUTPUTS"] = str(folder / "outputs")
        self.begun.append(given["CACHEFS_STEP"])
        with (folder / "log").open("wb") as log:
            self._processes[uid] = subprocess.Popen(
                [expanded(word, given) for word in container["command"]],
                env={**self._environment, **given},
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        state = {"running": {"startedAt": now()}}
        self._say(namespace, f"{name}-x", "Running", container["name"], state)

    def _end(self, uid, job):
        code = self._processes.pop(uid).returncode
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        folder = self._folder / uid
        outputs = folder / "outputs"
        message = outputs.read_text() if outputs.exists() else ""
        if code and not message:
            message = (folder / "log").read_text()[-2048:]
        state = {
            "terminated": {
                "exitCode": code,
                "reason": "Error" if code else "Completed",
                "message": message,
                "startedAt": now(),
                "finishedAt": now(),
            }
        }
        phase = "Failed" if code else "Succeeded"
        container = job["spec"]["template"]["spec"]["containers"][0]["name"]
        self._say(namespace, f"{name}-x", phase, container, state)
        kind = "Failed" if code else "Complete"
        condition = {"type": kind, "status": "True", "lastTransitionTime": now()}
        self.cluster.patch(
            JOBS, name, namespace, {"status": {"conditions": [condition]}}, subresource="status"
        )

    def _say(self, namespace, pod, phase, container, state):
        status = {
            "phase": phase,
            "startTime": now(),
            "containerStatuses": [
                {
                    "name": container,
                    "state": state,
                    "ready": False,
                    "restartCount": 0,
                    "image": "",
                    "imageID": "",
                }
            ],
        }
        self.cluster.patch(PODS, pod, namespace, {"status": status}, subresource="status")

    def _remove_pods(self, uid):
        for pod in self.cluster.find(PODS):
            if any(one["uid"] == uid for one in pod["metadata"].get("ownerReferences", ())):
                self.cluster.delete(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])

    @staticmethod
    def _kill(process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    # ---- deployments ----------------------------------------------------------------------------

    def _look_at_deployment(self, deployment):
        head, spec = deployment["metadata"], deployment["spec"]
        wanted = self._replica_set(deployment)
        pods = [
            pod
            for pod in self.cluster.find(PODS, head["namespace"])
            if pod["metadata"].get("labels", {}).get("app") == head["name"]
        ]
        new = [pod for pod in pods if controller(pod) == wanted["metadata"]["uid"]]
        old = [pod for pod in pods if controller(pod) != wanted["metadata"]["uid"]]
        ready = [pod for pod in pods if self._make_ready(pod)]
        self.shapes.append((len(new), len(old), len(ready)))
        rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        replicas = spec.get("replicas", 1)
        surge = rolling.get("maxSurge", "25%")
        if isinstance(surge, str):
            surge = math.ceil(int(surge.removesuffix("%")) * replicas / 100)
        if spec.get("paused"):
            return
        if len(new) < replicas and len(pods) < replicas + surge:
            self._make_pod(deployment, wanted, len(pods))
        elif old and len(ready) > replicas:
            self._delete(old[0])
        elif not old and len(new) > replicas:
            self._delete(new[-1])

    def _replica_set(self, deployment):
        head = deployment["metadata"]
        template = json.dumps(deployment["spec"]["template"], sort_keys=True)
        name = f"{head['name']}-{hashlib.blake2b(template.encode(), digest_size=4).hexdigest()}"
        found = self.cluster.get(REPLICA_SETS, name, head["namespace"])
        return found or self.cluster.create(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": name,
                    "namespace": head["namespace"],
                    "labels": {"app": head["name"]},
                    "ownerReferences": [owner(deployment)],
                },
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": head["name"]}},
                    "template": deployment["spec"]["template"],
                },
            }
        )

    def _make_pod(self, deployment, replica_set, number):
        template = deployment["spec"]["template"]
        name = f"{replica_set['metadata']['name']}-{number}-{len(self.shapes)}"
        self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    **template["metadata"],
                    "name": name,
                    "namespace": deployment["metadata"]["namespace"],
                    "ownerReferences": [owner(replica_set)],
                },
                "spec": template["spec"],
            }
        )
        self._status(deployment["metadata"]["namespace"], name, [])

    def _make_ready(self, pod):
        """Return whether a pod is ready; one that was made a moment ago is the next time."""
        status = pod.get("status") or {}
        if status.get("conditions"):
            return True
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
        self._status(pod["metadata"]["namespace"], pod["metadata"]["name"], [condition])
        return False

    def _status(self, namespace, name, conditions):
        status = {"phase": "Running", "startTime": now(), "conditions": conditions}
        self.cluster.patch(PODS, name, namespace, {"status": status}, subresource="status")

    def _delete(self, pod):
        self.cluster.delete(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])


def owner(document):
    head = document["metadata"]
    return {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "name": head["name"],
        "uid": head["uid"],
        "controller": True,
    }


def controller(document):
    for one in document["metadata"].get("ownerReferences", ()):
        if one.get("controller"):
            return one["uid"]
    return ""
