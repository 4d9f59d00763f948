"""Fields of other projects' kinds, as far as our examples use them: written down from their published schemas.

``POD`` is a pod's template, which Kubernetes' own schema knows; a word is the type of a value. Whoever uses another
field in an example looks it up, and adds it here.
"""

POD = "pod"
TEXT, NUMBER, MAP, LIST, ANYTHING = "text", "number", "map", "list", "anything"

# Volcano 1.15: config/crd/volcano/bases.
_POLICIES = [{"event": TEXT, "action": TEXT}]
_QUEUE = {"weight": NUMBER, "capability": MAP}
_VOLCANO_JOB = {
    "schedulerName": TEXT,
    "queue": TEXT,
    "minAvailable": NUMBER,
    "plugins": MAP,
    "policies": _POLICIES,
    "tasks": [{"name": TEXT, "replicas": NUMBER, "policies": _POLICIES, "template": POD}],
}

# Kueue 0.16 to 0.20: apis/kueue/v1beta1, which is served beside v1beta2.
_CLUSTER_QUEUE = {
    "namespaceSelector": MAP,
    "admissionChecksStrategy": {"admissionChecks": [{"name": TEXT}]},
    "resourceGroups": [
        {
            "coveredResources": LIST,
            "flavors": [{"name": TEXT, "resources": [{"name": TEXT, "nominalQuota": TEXT}]}],
        }
    ],
}

# KubeRay 1.4 to 1.7: ray-operator/config/crd/bases.
_HEAD = {"rayStartParams": MAP, "template": POD}
_GROUP = {
    **_HEAD,
    "groupName": TEXT,
    "replicas": NUMBER,
    "minReplicas": NUMBER,
    "maxReplicas": NUMBER,
}
_RAY_CLUSTER = {"rayVersion": TEXT, "headGroupSpec": _HEAD, "workerGroupSpecs": [_GROUP]}

# KServe 0.11 to 0.20: config/crd.
_PREDICTOR = {
    "minReplicas": NUMBER,
    "maxReplicas": NUMBER,
    "model": {
        "modelFormat": {"name": TEXT},
        "storageUri": TEXT,
        "args": LIST,
        "resources": MAP,
    },
}

# kube-scheduler: kubescheduler.config.k8s.io/v1.
_SCHEDULER = {
    "leaderElection": {"leaderElect": ANYTHING},
    "percentageOfNodesToScore": NUMBER,
    "profiles": [{"schedulerName": TEXT}],
    "extenders": [
        {
            "urlPrefix": TEXT,
            "enableHTTPS": ANYTHING,
            "tlsConfig": {"caFile": TEXT, "serverName": TEXT},
            "filterVerb": TEXT,
            "prioritizeVerb": TEXT,
            "weight": NUMBER,
            "nodeCacheCapable": ANYTHING,
            "httpTimeout": TEXT,
            "ignorable": ANYTHING,
            "managedResources": [{"name": TEXT, "ignoredByScheduler": ANYTHING}],
        }
    ],
}

KNOWN = {
    ("scheduling.volcano.sh/v1beta1", "Queue"): {"spec": _QUEUE},
    ("batch.volcano.sh/v1alpha1", "Job"): {"spec": _VOLCANO_JOB},
    ("kueue.x-k8s.io/v1beta1", "AdmissionCheck"): {"spec": {"controllerName": TEXT}},
    ("kueue.x-k8s.io/v1beta1", "ResourceFlavor"): {"spec": {"nodeLabels": MAP}},
    ("kueue.x-k8s.io/v1beta1", "ClusterQueue"): {"spec": _CLUSTER_QUEUE},
    ("kueue.x-k8s.io/v1beta1", "LocalQueue"): {"spec": {"clusterQueue": TEXT}},
    ("ray.io/v1", "RayCluster"): {"spec": _RAY_CLUSTER},
    ("ray.io/v1", "RayService"): {
        "spec": {"serveConfigV2": TEXT, "rayClusterConfig": _RAY_CLUSTER}
    },
    ("serving.kserve.io/v1beta1", "InferenceService"): {"spec": {"predictor": _PREDICTOR}},
    ("kubescheduler.config.k8s.io/v1", "KubeSchedulerConfiguration"): _SCHEDULER,
}
_HEADS = {"apiVersion", "kind", "metadata"}
_TYPES = {TEXT: str, NUMBER: int, MAP: dict, LIST: list, ANYTHING: object, POD: dict}


def unknown(document):
    """Yield what in an object is no field of its kind, or not of the field's type."""
    shape = KNOWN[document["apiVersion"], document["kind"]]
    own = {name: value for name, value in document.items() if name not in _HEADS}
    yield from _unknown(own, shape, document["kind"])


def _unknown(value, shape, path):
    if isinstance(shape, str):
        if not isinstance(value, _TYPES[shape]):
            yield f"{path}: not a {shape}"
    elif isinstance(shape, list):
        for at, one in enumerate(value):
            yield from _unknown(one, shape[0], f"{path}[{at}]")
    else:
        for name, inner in value.items():
            if name in shape:
                yield from _unknown(inner, shape[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: no such field"


def templates(document):
    """Yield the pods' templates in an object, whichever kind it is of."""
    if document["kind"] in ("Deployment", "Job", "StatefulSet") and document[
        "apiVersion"
    ].startswith(("apps/", "batch/v1")):
        yield document["spec"]["template"]
        return
    found = [(document, KNOWN.get((document["apiVersion"], document["kind"])))]
    while found:
        value, shape = found.pop(0)
        if shape == POD:
            yield value
        elif isinstance(shape, list):
            found += [(one, shape[0]) for one in value]
        elif isinstance(shape, dict):
            found += [(value[name], inner) for name, inner in shape.items() if name in value]
