"""Marks: the names of ours that Kubernetes' objects carry, in one place."""

HINT_ID = "cachefs.io/hint-id"
"""An annotation: which hint a pod was given. A pod that has one is given no other."""
DATA_READY = "cachefs.io/data-ready"
"""A scheduling gate: the pod waits until its data is close."""
WORKER_NODE = "cachefs.io/node"
"""A label of a worker's pod, and of Ray's nodes: the name that hints know the node by."""
COMPONENT = ("app.kubernetes.io/component", "cachefs-worker")
"""The label of workers' pods."""
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
