"""What the API server takes and refuses of each kind, rule by rule, with what it says."""

import pytest

from cachefs.errors import ConfigError
from cachefs.k8s.crds import datasets, documents, flows, pools, runs
from cachefs.k8s.names import API_VERSION
from cachefs.origins.credentials import _OPTIONS
from cachefs.testing.kubernetes.schemas import default_by_schema, faults_by_schema
from tests.unit.k8s.crds.judging import RULES, judge, ruled, schema_of, walk, with_defaults

KINDS = {each["spec"]["names"]["kind"]: each for each in documents()}
PARSERS = {
    "Dataset": datasets.parse,
    "CachePool": pools.parse,
    "Flow": flows.parse,
    "FlowRun": runs.parse,
}
MEMORY, DISK = {"medium": "memory", "size": "64Gi"}, {"medium": "disk", "size": "1Ti"}
RULE = {"target": {"queuedFills": 4}}
STEP = {"id": "warm", "kind": "prefetch", "with": {"dataset": "llama"}}


def made(kind, spec, name="llama"):
    metadata = {"name": name, "namespace": "team-a"}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def dataset(name="llama", **spec):
    return made("Dataset", {"url": "s3://models/llama", **spec}, name)


def pool(name="fast", **spec):
    return made("CachePool", {"tiers": [MEMORY, DISK], "workers": 3, **spec}, name)


def unsized(**spec):
    return made("CachePool", {"tiers": [MEMORY, DISK], **spec})


def per_node(**spec):
    return made(
        "CachePool",
        {"mode": "PerNode", "tiers": [{**DISK, "hostPath": "/mnt/nvme0/cachefs"}], **spec},
    )


def flow(**spec):
    return made("Flow", {"steps": [STEP], **spec})


def run(**spec):
    return made("FlowRun", spec)


ACCEPTED = [
    dataset(),
    dataset(url="hf://meta-llama/Llama-3.1-8B@main"),
    dataset(url="https://host:8443/a@b"),
    dataset(options={"endpoint_url": "http://minio:9000", "credentials": "env:MODELS"}),
    dataset(version="v2"),
    dataset(version="v2", consistency="pinned"),
    dataset(consistency="max_age=60s"),
    dataset(consistency="validate_on_open", pins=["/", "config.json"], ttl="7d", replicas=2),
    dataset(warm={}, volume={}, sharedWith=["*", "team-b"], reclaimPolicy="Retain"),
    dataset(warm={"paths": ["*.json"], "rate": "500Mi"}, volume={"storage": "200Gi"}),
    dataset("a" * 63),
    pool(),
    pool("a" * 32),
    pool(workers=0, zones=["eu-1a", "eu-1b"], exclusiveTo="team-a", drainTimeout="1h30m"),
    per_node(zones=["eu-1a"]),
    pool(tiers=[{**DISK, "storageClassName": "local-nvme"}]),
    pool(tiers=[{**DISK, "hostPath": "/mnt/nvme0"}]),
    unsized(autoscaling={"max": 8, "rules": [RULE, {"idle": "20m"}]}),
    pool(autoscaling={"min": 0, "max": 8, "rules": [{"target": {"capacityPercent": 80}}]}),
    unsized(
        autoscaling={
            "max": 8,
            "cooldown": "30s",
            "rules": [
                {
                    "schedule": {
                        "begins": "0 8 * * mon-fri",
                        "ends": "0 18 * * mon-fri",
                        "workers": 4,
                    }
                }
            ],
        }
    ),
    pool(
        horizontalPodAutoscaler={
            "maxReplicas": 8,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu"}}],
        }
    ),
    pool(
        nodeSelector={"gpu": "h100"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        affinity={"nodeAffinity": {}},
        resources={"requests": {"cpu": 4, "memory": "8Gi"}},
        priorityClassName="system-node-critical",
    ),
    per_node(),
    per_node(tiers=[MEMORY]),
    flow(),
    flow(params={"rev": None, "zones": ["a"]}, triggers=[{"cron": "0 3 * * *"}]),
    flow(**{"finally": [STEP], "budget": {"wall": "4h"}, "defaults": {"timeout": "20m"}}),
    run(flow="publish", params={"rev": "v2", "zones": ["a", "b"]}),
    run(document={"steps": [STEP]}),
    run(flow="publish", pause=True),
]
REFUSED = [
    (made("Dataset", {}), "'url' is a required"),
    (dataset(url="models/llama"), "does not match"),
    (dataset(url="s3://user:word@host/x"), "no user name and no password"),
    (dataset(url="https://user@host/x"), "no user name and no password"),
    *(
        (dataset(options={name: "x"}), "secrets are never written here")
        for name in ("secret_access_key", "key", "token", "password", "sas_token", "bucket")
    ),
    (dataset(options={"credentials": "hunter2"}), "credentials are a reference"),
    (dataset(options={"anon": True}), "is not of type 'string'"),
    (dataset(version="v2", consistency="max_age=60s"), "only where consistency is pinned"),
    (dataset(consistency="sometimes"), "does not match"),
    (dataset(replicas=0), "less than the minimum"),
    (dataset(replicas=65), "greater than the maximum"),
    (dataset(ttl="soon"), "does not match"),
    (dataset(sharedWith=["Team_B"]), "does not match"),
    (dataset(reclaimPolicy="Recycle"), "is not one of"),
    (dataset(urll="x"), "unknown field spec.urll"),
    (dataset(warm={"rate": "fast"}), "does not match"),
    (dataset(pool="Fast"), "does not match"),
    (dataset("a" * 64), "at most 63 characters"),
    (pool("a" * 33), "at most 32 characters"),
    (pool("a.b"), "no dot"),
    (unsized(), "say how many workers"),
    # The API server answers nothing about the scale of an object without a number, and no autoscaler can begin.
    (unsized(horizontalPodAutoscaler={"maxReplicas": 8}), "begins with workers"),
    (pool(workers=-1), "less than the minimum"),
    (pool(tiers=[]), "non-empty"),
    (pool(tiers=[DISK, MEMORY, DISK]), "too long"),
    (pool(tiers=[{"medium": "tape", "size": "1Ti"}]), "is not one of"),
    (pool(tiers=[{"medium": "disk"}]), "'size' is a required"),
    (pool(tiers=[{"medium": "disk", "size": "big"}]), "does not match"),
    (pool(tiers=[{**MEMORY, "hostPath": "/x"}]), "neither storageClassName nor hostPath"),
    (pool(tiers=[{**MEMORY, "storageClassName": "x"}]), "neither storageClassName nor hostPath"),
    (
        pool(tiers=[{**DISK, "hostPath": "/x", "storageClassName": "x"}]),
        "a claim (storageClassName) or a folder",
    ),
    *(
        (pool(tiers=[{**DISK, "hostPath": path}]), "does not match")
        for path in ("/", "mnt", "/mnt/../etc", "/mnt//x", "/mnt/x/")
    ),
    (
        unsized(
            autoscaling={"max": 8, "rules": [RULE]}, horizontalPodAutoscaler={"maxReplicas": 8}
        ),
        "has one autoscaler",
    ),
    (unsized(autoscaling={"max": 8}), "'rules' is a required"),
    (unsized(autoscaling={"max": 8, "rules": []}), "non-empty"),
    (unsized(autoscaling={"min": 9, "max": 8, "rules": [RULE]}), "min is at most max"),
    (unsized(autoscaling={"max": 8, "rules": [{}]}), "should be non-empty"),
    (unsized(autoscaling={"max": 8, "rules": [{**RULE, "idle": "5m"}]}), "too many properties"),
    (
        unsized(
            autoscaling={
                "max": 8,
                "rules": [{"target": {"queuedFills": 4, "capacityPercent": 80}}],
            }
        ),
        "too many properties",
    ),
    (
        pool(horizontalPodAutoscaler={"minReplicas": 9, "maxReplicas": 8}),
        "minReplicas is at most maxReplicas",
    ),
    (per_node(workers=1), "the nodes say how many"),
    (per_node(autoscaling={"max": 8, "rules": [RULE]}), "the nodes say how many"),
    (per_node(tiers=[DISK]), "a disk tier is a folder of the node"),
    (made("Flow", {}), "'steps' is a required"),
    (flow(steps=[]), "non-empty"),
    (flow(steps=[{"kind": "wait"}]), "'id' is a required"),
    (flow(steps=[{"id": "a", "kind": "warmm"}]), "'warmm' is not one of ['scale', 'migrate',"),
    (run(document={"steps": [{"id": "a", "kind": "warmm"}]}), "'warmm' is not one of"),
    (flow(step=[]), "unknown field spec.step"),
    (made("Flow", {"steps": [STEP]}, "a" * 64), "at most 63 characters"),
    (run(), "name a flow, or write a document"),
    (run(flow="publish", document={"steps": [STEP]}), "name a flow, or write a document"),
    (run(flow="publish", canel=True), "unknown field spec.canel"),
]
OTHER_STEP = {**STEP, "with": {"dataset": "other"}}
CHANGES = [
    (dataset(), dataset(url="s3://models/other"), ""),
    (pool(), pool(workers=0), ""),
    (pool(), unsized(autoscaling={"max": 8, "rules": [RULE]}), ""),
    (pool(), pool(tiers=[{**MEMORY, "size": "1Gi"}, DISK]), ""),
    (pool(), pool(tiers=[DISK]), ""),
    (pool(tiers=[DISK]), pool(tiers=[DISK, MEMORY]), ""),
    (per_node(), pool(tiers=per_node()["spec"]["tiers"]), "keeps its mode"),
    (pool(), pool(tiers=[MEMORY, {**DISK, "size": "2Ti"}]), "a disk tier stays as it is"),
    (pool(), pool(tiers=[{**DISK, "hostPath": "/x"}, MEMORY]), "a disk tier stays as it is"),
    (pool(), pool(tiers=[MEMORY]), "neither added nor taken away"),
    (pool(tiers=[MEMORY]), pool(), "neither added nor taken away"),
    (run(flow="a"), run(flow="a", cancel=True), ""),
    (run(flow="a", pause=True), run(flow="a", pause=False), ""),
    (run(flow="a", params={"x": [1]}), run(flow="a", params={"x": [1]}, pause=True), ""),
    (run(flow="a", cancel=True), run(flow="a"), "stays cancelled"),
    (run(flow="a"), run(flow="b"), "flow stays as it is"),
    (run(flow="a"), run(flow="a", params={"x": 1}), "params stays as it is"),
    (run(flow="a", params={"x": [1]}), run(flow="a", params={"x": [2]}), "params stays as it is"),
    (run(flow="a", params={"x": 1}), run(flow="a"), "params stays as it is"),
    (
        run(document={"steps": [STEP]}),
        run(document={"steps": [OTHER_STEP]}),
        "document stays as it is",
    ),
    (run(flow="a"), run(document={"steps": [STEP]}), "flow stays as it is"),
]


@pytest.mark.parametrize("document", ACCEPTED, ids=lambda each: each["kind"])
def test_what_makes_sense_is_accepted_and_parsed(document):
    definition = KINDS[document["kind"]]
    assert judge(definition, document) == []
    PARSERS[document["kind"]](document)
    # An update that changes nothing is accepted, too; so is one of an object with its defaults.
    full = with_defaults(schema_of(definition), document)
    assert judge(definition, document, full) == []
    PARSERS[document["kind"]](full)


@pytest.mark.parametrize(
    ("document", "fault"), REFUSED, ids=[f"{each['kind']}: {why}" for each, why in REFUSED]
)
def test_what_makes_no_sense_is_refused_with_a_reason(document, fault):
    found = judge(KINDS[document["kind"]], document)
    assert any(fault in each for each in found), found


@pytest.mark.parametrize(
    ("old", "new", "fault"), CHANGES, ids=[f"{new['kind']}: {why}" for _, new, why in CHANGES]
)
def test_a_change_is_taken_or_refused(old, new, fault):
    found = judge(KINDS[new["kind"]], new, old)
    assert any(fault in each for each in found) if fault else found == []


ROWS = [(each, None, "") for each in ACCEPTED]
ROWS += [(each, None, why) for each, why in REFUSED if "unknown field" not in why]
ROWS += [(new, old, why) for old, new, why in CHANGES]


@pytest.mark.parametrize(("new", "old", "fault"), ROWS)
def test_the_api_server_of_the_tests_says_the_same(new, old, fault):
    schema = schema_of(KINDS[new["kind"]])
    old = None if old is None else default_by_schema(old, schema)
    found = faults_by_schema(schema, default_by_schema(new, schema), old)
    assert bool(found) == bool(fault), found


@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_see_each_rule_hold_and_each_rule_broken(kind):
    schema = schema_of(KINDS[kind])
    rules = {rule["message"] for _, node in walk(schema) for rule in node.get(RULES, ())}
    rows = [(each, None) for each in ACCEPTED] + [(each, None) for each, _ in REFUSED]
    rows += [(new, old) for old, new, _ in CHANGES]
    seen = {True: set(), False: set()}
    for new, old in rows:
        if new["kind"] == kind and not judge_faults(kind, new):
            filled = [None if each is None else with_defaults(schema, each) for each in (new, old)]
            for rule, holds in ruled(schema, *filled):
                seen[holds].add(rule["message"])
    assert seen == {True: rules, False: rules}


def judge_faults(kind, document):
    """Return what the schema alone says."""
    bare = {"spec": {"versions": [{"schema": {"openAPIV3Schema": schema_of(KINDS[kind])}}]}}
    messages = {
        rule["message"] for _, node in walk(schema_of(bare)) for rule in node.get(RULES, ())
    }
    return [each for each in judge(bare, document) if each not in messages]


def test_the_options_are_those_that_origins_have():
    assert set(datasets.OPTIONS) == set().union(*_OPTIONS.values())


@pytest.mark.parametrize(
    ("document", "subject"),
    [
        (made("Dataset", {}), "spec.url"),
        (dataset(ttl=5), "spec.ttl"),
        (dataset(warm={"rate": "fast"}), "spec.warm.rate"),
        (dataset(pins=[1]), "spec.pins[0]"),
        (dataset(options=[]), "spec.options"),
        (dataset(replicas="2"), "spec.replicas"),
        (dataset(replicas=True), "spec.replicas"),
        (pool(tiers=[]), "spec.tiers"),
        (pool(tiers=["x"]), "spec.tiers[0]"),
        (pool(tiers=[{"medium": "disk"}]), "spec.tiers[0].size"),
        (pool(tiers=[{"medium": "disk", "size": "0"}]), "spec.tiers[0].size"),
        (pool(tiers=[{"medium": "tape", "size": "1Ti"}]), "spec.tiers[0].medium"),
        (pool(drainTimeout="later"), "spec.drainTimeout"),
        (pool(autoscaling={"max": 2, "min": 3, "rules": []}), "spec.autoscaling.max"),
        (pool(autoscaling={"max": 2, "rules": [{}]}), "spec.autoscaling.rules[0].target"),
        (pool(mode="PerNode"), "spec.mode"),
        (
            unsized(
                autoscaling={"max": 2, "rules": []}, horizontalPodAutoscaler={"maxReplicas": 2}
            ),
            "spec.autoscaling",
        ),
        (flow(steps=[1]), "spec.steps[0]"),
        (run(), "spec.flow"),
        (run(flow="a", document={"steps": []}), "spec.flow"),
        (run(flow="a", cancel="yes"), "spec.cancel"),
    ],
)
def test_what_an_older_schema_may_have_let_through_is_told_with_its_field(document, subject):
    with pytest.raises(ConfigError) as caught:
        PARSERS[document["kind"]](document)
    assert caught.value.subject == subject
