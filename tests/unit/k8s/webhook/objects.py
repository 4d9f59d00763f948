"""The objects of an installation, in memory, as an API server keeps them; and a kubelet that mounts a secret."""

import base64
import copy
import os

from cachefs.errors import ConflictError, NotKnownError
from cachefs.k8s.webhook.renewing import (
    AUTHORITY_SECRET,
    BUNDLE_MAP,
    CONFIGURATION,
    SERVING_SECRET,
)

NAMESPACE = "cachefs"


class Objects:
    """Objects by kind and name, with versions; another writer can be let in before a write."""

    def __init__(self):
        self.kept = {}
        self.writes = []
        self.before_write = lambda: None
        self._version = 0
        for name in (AUTHORITY_SECRET, SERVING_SECRET):
            self.put("v1", "Secret", name, type="Opaque")
        self.put("v1", "ConfigMap", BUNDLE_MAP)
        service = {"name": "cachefs-webhook", "namespace": NAMESPACE, "path": "/mutate"}
        hooks = [
            {"name": f"{name}.cachefs.io", "clientConfig": {"service": service}}
            for name in ("hints", "inject")
        ]
        self.put(
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            CONFIGURATION,
            webhooks=hooks,
        )

    def put(self, version, kind, name, **rest):
        self._version += 1
        metadata = {"name": name, "namespace": NAMESPACE, "resourceVersion": str(self._version)}
        self.kept[kind, name] = {
            "apiVersion": version,
            "kind": kind,
            "metadata": metadata,
            **copy.deepcopy(rest),
        }

    def get(self, kind, name, namespace=""):
        found = self.kept.get((kind.kind, name))
        return copy.deepcopy(found)

    def replace(self, document):
        interference, self.before_write = self.before_write, lambda: None
        interference()
        key = document["kind"], document["metadata"]["name"]
        if key not in self.kept:
            raise NotKnownError("gone")
        if self.kept[key]["metadata"]["resourceVersion"] != document["metadata"]["resourceVersion"]:
            raise ConflictError("somebody changed it")
        self._version += 1
        self.kept[key] = copy.deepcopy(document)
        self.kept[key]["metadata"]["resourceVersion"] = str(self._version)
        self.writes.append(key)
        return copy.deepcopy(self.kept[key])

    @property
    def bundle(self):
        """Return what an API server trusts."""
        hooks = self.kept["MutatingWebhookConfiguration", CONFIGURATION]["webhooks"]
        bundles = {each["clientConfig"].get("caBundle", "") for each in hooks}
        assert len(bundles) == 1
        return base64.b64decode(bundles.pop())

    @property
    def serving(self):
        """Return what servers are given, by key."""
        data = self.kept["Secret", SERVING_SECRET].get("data", {})
        return {key: base64.b64decode(value) for key, value in data.items()}


class Clock:
    """A wall clock that a test moves; the rest of a runtime is not asked for."""

    def __init__(self, now):
        self.now = now

    def wall(self):
        return self.now


def mount(folder, files):
    """Put a secret's files into a folder as the kubelet does: all at once, by a link."""
    folder.mkdir(exist_ok=True)
    fresh = folder / f"..{len(list(folder.glob('..*')))}_{os.urandom(4).hex()}"
    fresh.mkdir()
    for name, content in files.items():
        (fresh / name).write_bytes(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    link = folder / "..data_tmp"
    link.symlink_to(fresh.name)
    link.replace(folder / "..data")
