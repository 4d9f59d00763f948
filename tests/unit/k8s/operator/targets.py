"""A model of a deployment or a stateful set with its pods, whose controller makes one step at a time."""

import copy
import itertools

from cachefs.k8s.operator.programs import rollouts

MARK = "cachefs.io/version"


class Model:
    """A target with pods, whose controller makes one step at a time."""

    def __init__(self, kind, replicas):
        strategy = "strategy" if kind == "Deployment" else "updateStrategy"
        template = {"metadata": {}, "spec": {"containers": [{"name": "c", "image": "llama:1"}]}}
        self.target = {
            "kind": kind,
            "metadata": {"name": "llama", "namespace": "team", "uid": "t", "resourceVersion": "1"},
            "spec": {"replicas": replicas, strategy: {}, "template": template},
        }
        self._numbers = itertools.count()
        self.pods = [self._pod(at, ready=True) for at in range(replicas)]
        self.most = replicas
        self.least = replicas

    def _pod(self, ordinal, *, ready=False):
        template = copy.deepcopy(self.target["spec"]["template"])
        return {
            "metadata": {"uid": f"p{next(self._numbers)}", **template["metadata"]},
            "spec": template["spec"],
            "status": status(ready=ready),
            "ordinal": ordinal,
        }

    @property
    def ready(self):
        return [pod for pod in self.pods if pod["status"]["conditions"][0]["status"] == "True"]

    def of(self, revision):
        return [pod for pod in self.pods if mark(pod) == revision]

    def look(self, shape):
        """Do what the executor does; return whether anything was changed."""
        patch = rollouts.change(self.target, shape, self.pods)
        if patch is not None:
            merge(self.target, patch.patch)
        return patch is not None

    def control(self):
        """Do one step of the controller."""
        before = len(self.pods)
        if self.target["kind"] == "Deployment":
            self._deploy()
        else:
            self._replace()
        self.most = max(self.most, len(self.pods))
        self.least = min(self.least, len(self.ready))
        return before

    def _deploy(self):
        spec = self.target["spec"]
        revision = mark(spec["template"])
        new, old = self.of(revision), [pod for pod in self.pods if mark(pod) != revision]
        if spec.get("paused"):
            return
        surge = (spec["strategy"].get("rollingUpdate") or {}).get("maxSurge", 1)
        if len(new) < spec["replicas"] and len(self.pods) < spec["replicas"] + surge:
            self.pods.append(self._pod(0))
        elif old and len(self.ready) > spec["replicas"]:
            self.pods.remove(old[0])
        elif not old and len(new) > spec["replicas"]:
            self.pods.remove(new[-1])

    def _replace(self):
        spec = self.target["spec"]
        revision = mark(spec["template"])
        rolling = spec["updateStrategy"].get("rollingUpdate") or {}
        there = {pod["ordinal"]: pod for pod in self.pods}
        for ordinal in range(spec["replicas"]):
            if ordinal not in there:
                self.pods.append(self._pod(ordinal))
                return
        for ordinal in sorted(there, reverse=True):
            old = mark(there[ordinal]) != revision
            if ordinal >= spec["replicas"]:
                self.pods.remove(there[ordinal])
                return
            if len(self.ready) < len(self.pods):
                return
            if old and ordinal >= rolling.get("partition", 0):
                self.pods.remove(there[ordinal])
                return

    def become_ready(self):
        for pod in self.pods:
            if pod not in self.ready:
                pod["status"] = status(ready=True)
                return


def mark(found):
    return found["metadata"].get("annotations", {}).get(MARK, "")


def status(*, ready):
    condition = {
        "type": "Ready",
        "status": str(ready),
        "lastTransitionTime": "2026-01-01T00:00:09Z",
    }
    return {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [condition]}


def merge(found, patch):
    for name, value in patch.items():
        if isinstance(value, dict):
            merge(found.setdefault(name, {}), value)
        else:
            found[name] = value


def image(pod):
    return pod["spec"]["containers"][0]["image"]
