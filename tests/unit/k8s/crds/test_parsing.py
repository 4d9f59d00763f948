"""What objects say becomes what the coordinator takes, for whatever the schema lets through."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.coordinator.declaring import REPLICAS_MAX, VERSIONS_KEPT_MAX, check_dataset
from cachefs.coordinator.elastic.forms import parse_change
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import ConfigError
from cachefs.k8s.crds import datasets, documents, flows, pools, runs
from cachefs.k8s.crds.quantities import parse_duration, parse_quantity
from tests.unit.k8s.crds.judging import judge
from tests.unit.k8s.crds.test_objects import (
    DISK,
    KINDS,
    MEMORY,
    RULE,
    STEP,
    dataset,
    flow,
    per_node,
    pool,
    run,
    unsized,
)

UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)))
def test_a_size_is_its_number_times_its_unit(number, unit):
    assert parse_quantity(f"{number}{unit}", "x") == number * UNITS[unit]


@given(st.decimals(0, 10**6, places=3), st.sampled_from(sorted(UNITS)))
def test_a_part_of_a_byte_is_rounded_up(number, unit):
    exact = number * Decimal(UNITS[unit])
    assert 0 <= parse_quantity(f"{number}{unit}", "x") - exact < 1


def test_a_size_may_be_a_plain_number():
    assert parse_quantity(1024, "x") == 1024


@pytest.mark.parametrize(
    "value", ["", "Gi", "1gi", "1 Gi", "-1", "1e3", "9Ei" * 9, "9Ei", True, 1.5, None]
)
def test_what_is_no_size_is_refused(value):
    with pytest.raises(ConfigError):
        parse_quantity(value, "spec.x")


@given(
    st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from(sorted(SECONDS))), min_size=1, max_size=5
    )
)
def test_a_duration_is_the_sum_of_its_parts(parts):
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration(text, "x") == pytest.approx(
        sum(number * SECONDS[unit] for number, unit in parts)
    )


@pytest.mark.parametrize("value", ["", "5", "s", "5 m", "-5m", "1w", "5m!", 5, None, "1s" * 17])
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ConfigError):
        parse_duration(value, "spec.x")


names = st.from_regex(r"[a-z0-9]([a-z0-9]|-[a-z0-9]){0,20}", fullmatch=True)
durations = st.builds("{}{}".format, st.integers(1, 99), st.sampled_from(sorted(SECONDS)))
sizes = st.builds("{}{}".format, st.integers(1, 99), st.sampled_from(sorted(UNITS)))


@given(
    st.fixed_dictionaries(
        {"url": st.sampled_from(["s3://b/f", "hf://org/model", "https://host/x"])},
        optional={
            "replicas": st.integers(1, REPLICAS_MAX),
            "versionsKept": st.integers(1, VERSIONS_KEPT_MAX),
            "ttl": durations,
            "pool": names,
            "consistency": st.sampled_from(["pinned", "validate_on_open", "max_age=60s"]),
            "pins": st.sampled_from([["/"], ["a.json", "b"]]),
            "include": st.just(["*.safetensors"]),
            "options": st.just({"region": "eu"}),
            "sharedWith": st.lists(names, max_size=3, unique=True),
            "warm": st.fixed_dictionaries({}, optional={"rate": sizes, "enabled": st.booleans()}),
            "volume": st.fixed_dictionaries({}, optional={"storage": sizes}),
        },
    ),
    names,
)
def test_a_dataset_that_the_schema_takes_is_one_that_the_coordinator_takes(spec, name):
    document = dataset(name, **spec)
    assert judge(KINDS["Dataset"], document) == []
    found = datasets.parse(document)
    check_dataset(found.dataset())
    assert found.name.namespace == "team-a"
    assert found.dataset().origin.url == spec["url"]
    assert found.replicas == spec.get("replicas", 1)
    assert found.serves("team-a")
    assert all(found.serves(each) for each in spec.get("sharedWith", ()))
    assert not found.serves("elsewhere")
    assert str(found.consistency) == spec.get("consistency", "pinned")
    assert found.pins == tuple("" if each == "/" else each for each in spec.get("pins", ()))


def test_a_dataset_may_be_for_all_namespaces():
    assert datasets.parse(dataset(sharedWith=["*"])).serves("elsewhere")


def test_to_keep_warm_is_asked_for():
    assert datasets.parse(dataset()).warm is None
    assert datasets.parse(dataset(warm={"enabled": False})).warm is None
    assert datasets.parse(dataset(warm={"paths": ["/", "a"]})).warm == datasets.Warm()
    rate = datasets.parse(dataset(warm={"paths": ["a"], "rate": "1G"})).warm
    assert rate == datasets.Warm(paths=("a",), rate=10**9)


rules = st.one_of(
    st.builds(lambda n: {"target": {"queuedFills": n}}, st.integers(1, 1000)),
    st.builds(lambda n: {"target": {"capacityPercent": n}}, st.integers(1, 100)),
    st.builds(lambda n: {"target": {"hitRatioPercent": n}}, st.integers(1, 100)),
    st.builds(lambda text: {"idle": text}, durations),
    st.just({"schedule": {"begins": "0 8 * * *", "ends": "0 18 * * *", "workers": 1}}),
)


@given(st.lists(rules, min_size=1, max_size=6), st.integers(0, 9), st.integers(9, 99), durations)
def test_a_policy_that_the_schema_takes_is_one_that_the_coordinator_takes(rules, least, most, calm):
    document = unsized(autoscaling={"min": least, "max": most, "calm": calm, "rules": rules})
    assert judge(KINDS["CachePool"], document) == []
    found = pools.parse(document)
    policy = json.loads(json.dumps(found.autoscaling.policy))
    form = parse_change({"pools": {"fast": policy}}).pools["fast"]
    value = form.value()
    assert (value.least, value.most) == (least, most) == found.bounds
    assert value.calm_seconds == pytest.approx(parse_duration(calm, "x"))
    assert len(value.rules) == len(rules)


def test_a_pool_says_what_each_worker_holds():
    found = pools.parse(pool(tiers=[MEMORY, {**DISK, "hostPath": "/mnt/nvme0"}]))
    assert found.capacity_bytes("memory") == 64 << 30
    assert found.capacity_bytes("disk") == 1 << 40
    assert found.tiers[1].host_path == "/mnt/nvme0"
    assert found.bounds == (0, None)
    assert found.drain_seconds == 600
    assert pools.parse(per_node()).workers is None


def test_an_autoscaler_of_kubernetes_gets_its_own_metrics():
    metric = {"type": "Resource", "resource": {"name": "cpu"}}
    found = pools.parse(unsized(horizontalPodAutoscaler={"maxReplicas": 8, "metrics": [metric]}))
    assert found.horizontal == pools.HorizontalSpec(least=1, most=8, metrics=(metric,))
    assert found.bounds == (1, 8)


def test_a_policy_without_its_times_leaves_them_to_the_coordinator():
    found = pools.parse(unsized(autoscaling={"max": 8, "rules": [RULE]}))
    assert found.autoscaling.policy == {
        "least": 1,
        "most": 8,
        "rules": [{"target": {"queued_fills": 4.0}}],
    }


def test_a_flow_is_the_document_that_people_submit():
    found = flows.parse(flow(params={"rev": "v2"}, triggers=[{"cron": "0 3 * * *"}]))
    parsed = read_flow(json.dumps(found.document()), name="x")
    assert parsed.full_name == "team-a/llama"


def test_a_run_names_a_flow_or_is_one():
    assert runs.parse(run(flow="publish")).document() is None
    inline = runs.parse(run(document={"steps": [STEP]}, params={"a": [1]}))
    assert read_flow(json.dumps(inline.document()), name="x").full_name == "team-a/llama"
    assert inline.params == {"a": [1]}


def test_the_definitions_are_made_anew_each_time():
    first = documents()
    first[0]["spec"].clear()
    assert documents()[0]["spec"]
