"""What the webhook's tests share: pods, reviews, and JSON patches as an API server makes them."""

import base64
import copy
import json

from cachefs.k8s.webhook.containers import Injection
from cachefs.k8s.webhook.drafting import Draft
from cachefs.k8s.webhook.injecting import Injecting, Mode

SETTINGS = Injection(
    image="example.com/cachefs:1", coordinator="cachefs-coordinator.cachefs.svc:7070"
)


def pod(inject="", annotations=None, **spec):
    """Return a pod of the namespace team-a that mounts a dataset by the driver."""
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "job-1", "labels": {"app": "job"}},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "vllm:1",
                    "volumeMounts": [{"name": "model", "mountPath": "/models/llama"}],
                }
            ],
            "volumes": [volume("model", "llama")],
            **spec,
        },
    }
    if inject:
        made["metadata"]["labels"]["cachefs.io/inject"] = inject
    if annotations:
        made["metadata"]["annotations"] = annotations
    return made


def volume(name, dataset, **attributes):
    return {
        "name": name,
        "csi": {"driver": "cachefs.io", "volumeAttributes": {"dataset": dataset, **attributes}},
    }


def review(made, **request):
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "team-a",
            "operation": "CREATE",
            "object": made,
            "dryRun": False,
            **request,
        },
    }


def patched(made, operations):
    """Return what an API server makes of a pod by a JSON patch (RFC 6902), strictly."""
    made = copy.deepcopy(made)
    for operation in operations:
        *way, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        holder = made
        for part in way:
            holder = holder[int(part)] if isinstance(holder, list) else holder[part]
        if operation["op"] == "replace":
            if isinstance(holder, list):
                holder[int(last)] = operation["value"]
            else:
                assert last in holder
                holder[last] = operation["value"]
        elif isinstance(holder, list):
            at = len(holder) if last == "-" else int(last)
            assert at <= len(holder)
            holder.insert(at, operation["value"])
        else:
            assert operation["op"] == "add"
            holder[last] = operation["value"]
    return made


def operations_of(answer):
    """Return the operations of a review's answer."""
    encoded = answer["response"].get("patch", "")
    return json.loads(base64.b64decode(encoded)) if encoded else []


def injected(made, *, default=Mode.CSI, namespace="team-a"):
    """Return a pod as it is after it was injected into, and the warnings."""
    draft, warnings = Draft(made), []
    Injecting(SETTINGS, default).change(draft, namespace, warnings)
    assert patched(made, draft.operations) == draft.pod
    return draft.pod, warnings
