"""What consumers' tests share: who answers their questions, who asks over HTTP, and Kubernetes' part."""

import base64
import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.testclient import TestClient

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Affinity, Question
from cachefs.hints.consumers import routers
from tests.unit.hints.making import NOON, hint, node

SECONDS = {"n1": 3.0, "n2": 12.0, "n3": 71.0, "n4": 71.4}


@dataclass
class Knowing:
    """Answers as the service does, from a table of seconds and of who holds what."""

    seconds: Mapping[str, float] = field(default_factory=lambda: dict(SECONDS))
    held: Mapping[str, set[str]] = field(default_factory=dict)
    """By dataset: the nodes that hold some of it."""
    facts: Mapping[str, object] = field(default_factory=dict)
    asked: list[Question] = field(default_factory=list)

    def __call__(self, question: Question) -> Hint:
        self.asked.append(question)
        named = question.candidates or tuple(self.seconds)
        may = [name for name in named if name in self.seconds]
        for reading in question.readings:
            if reading.affinity is Affinity.REQUIRED:
                may = [name for name in may if name in self.held.get(str(reading.dataset), ())]
        seconds = {name: self.seconds[name] for name in may}
        best = sorted(seconds, key=lambda name: seconds[name])[: question.limit]
        refused = dict.fromkeys(named, "it holds nothing of a dataset that is required")

        def held(name: str) -> float:
            return 50.0 if any(name in nodes for nodes in self.held.values()) else 0.0

        facts = {"degraded": "" if may else "no node can take the job", **self.facts}
        return hint(
            *(node(name, seconds[name], held=held(name)) for name in best),
            seconds=seconds if question.every else {},
            refused={name: why for name, why in refused.items() if name not in seconds},
            **facts,
        )


def broken(question: Question) -> Hint:
    raise KeyError("a bug")


def ignorant(question: Question) -> Hint:
    return Hint(
        id="h", generated_at=NOON, valid_until=NOON, epoch=0, degraded="no such dataset: llama"
    )


def scheduler(ask, **options) -> TestClient:
    """Return who asks: a client of an application with the consumers' routes."""
    app = FastAPI()
    for router in routers(ask, lambda: 0.0, **options):
        app.include_router(router)
    return TestClient(app)


def pod(annotations: Mapping[str, str] | None = None, **spec) -> dict:
    """Return a pod as the API server writes it, that reads ``llama`` unless it says otherwise."""
    annotations = {"cachefs.io/datasets": "llama"} if annotations is None else annotations
    resources = {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}
    return {
        "metadata": {"name": "job-1", "namespace": "team-a", "annotations": dict(annotations)},
        "spec": {
            "containers": [{"name": "main", "image": "vllm:1", "resources": resources}],
            **spec,
        },
    }


def review_of(pod: Mapping, **facts) -> dict:
    """Return an ``AdmissionReview`` about a pod that is being created."""
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "team-a",
        "operation": "CREATE",
        "dryRun": False,
        "object": pod,
        **facts,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def patch_in(review: Mapping) -> list[dict]:
    """Return the patch of a review's response; empty if it has none."""
    encoded = review["response"].get("patch")
    return [] if encoded is None else json.loads(base64.b64decode(encoded, validate=True))


def applied(patch: list[dict], document: Mapping) -> dict:
    """Apply a JSON patch as the API server does: RFC 6902, of which we use three operations."""
    patched = copy.deepcopy(document)
    for operation in patch:
        *path, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        holder = patched
        for part in path:
            holder = holder[int(part)] if isinstance(holder, list) else holder[part]
        if operation["op"] == "add" and isinstance(holder, list):
            holder.insert(len(holder) if last == "-" else int(last), operation["value"])
        elif operation["op"] == "add":
            holder[last] = operation["value"]
        elif operation["op"] == "remove":
            del holder[int(last) if isinstance(holder, list) else last]
        else:
            assert operation["op"] == "test"
            assert holder[last] == operation["value"]
    return patched
