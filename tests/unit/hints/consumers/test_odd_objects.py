"""Objects of any shape: what is not understood is no bug, and stops nobody."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachefs.errors import ConfigError
from cachefs.hints.consumers.admission import Admission, released
from cachefs.hints.consumers.extender import Arguments, failures, filter_result, scores
from cachefs.hints.consumers.kueue import question_of_workload
from cachefs.hints.consumers.pods import question_of
from cachefs.hints.consumers.volcano import job_vote
from tests.unit.hints.consumers.schedulers import Knowing, applied, pod

WORDS = (
    *("metadata", "annotations", "labels", "namespace", "name", "spec", "containers", "resources"),
    *("limits", "requests", "nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "volumes", "csi", "driver"),
    *("cachefs.io", "volumeAttributes", "dataset", "version", "cachefs.io/datasets", "llama"),
    *("cachefs.io/affinity", "required", "cachefs.io/deadline", "30s", "cachefs.io/weights", "1"),
    *("fluid.io/dataset.llama.sched", "affinity", "nodeAffinity", "nodeSelectorTerms", "n1", "n2"),
    *("requiredDuringSchedulingIgnoredDuringExecution", "matchExpressions", "schedulingGates"),
    *("preferredDuringSchedulingIgnoredDuringExecution", "cachefs.io/hold", "Tasks", "Pod"),
    *("PodGroup", "Spec", "MinResources", "MinMember", "MinAvailable", "podSets", "template"),
    *("count", "initContainers", "image", "nodeSelector", "gpu-fraction", "schedulerName"),
)
TEXT = st.sampled_from(WORDS) | st.text(max_size=5)
PLAIN = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | TEXT
JSON = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXT, inner, max_size=5)
        | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=25,
)


@st.composite
def nearly_pods(draw) -> dict:
    """Return a pod of which some parts have been replaced by others."""
    made = pod({"cachefs.io/datasets": "llama", "cachefs.io/affinity": "required"})
    for _ in range(draw(st.integers(1, 3))):
        holder = made
        while True:
            key = draw(st.sampled_from([*holder, *WORDS]))
            if isinstance(holder.get(key), dict) and holder[key] and draw(st.booleans()):
                holder = holder[key]
                continue
            holder[key] = draw(JSON)
            break
    return made


PODS = JSON | nearly_pods()
QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
"""A busy machine is no fault of what is tested."""


@given(PODS)
@settings(**QUIET)
def test_a_pod_of_any_shape_is_understood_or_refused_by_name(made):
    for ask in (question_of, question_of_workload):
        try:
            ask(made)
        except ConfigError:
            continue


@given(PODS, st.lists(st.sampled_from(["n1", "n2", "n3", "n4", "stranger", ""]), max_size=5))
@settings(max_examples=60, **QUIET)
def test_what_passes_the_filter_is_a_part_of_what_was_sent(made, names):
    knowing = Knowing(held={"llama": {"n2"}})
    sent = Arguments.parse(json.dumps({"pod": made, "nodenames": names}).encode())
    try:
        failed = failures(sent, knowing)
        scored = scores(sent, knowing)
    except ConfigError:
        return
    result = filter_result(sent, failed)
    assert sorted([*result["NodeNames"], *(each for each in names if each in failed)]) == sorted(
        names
    )
    assert set(result["FailedAndUnresolvableNodes"]) <= set(names)
    assert all(type(each) is int and 0 <= each <= 10 for each in scored.values())


@given(PODS)
@settings(max_examples=60, **QUIET)
def test_a_patch_can_be_applied_to_the_pod_that_it_is_for(made):
    admission = Admission(ask=Knowing(held={"llama": {"n1"}}), gates=True)
    request = {"uid": "u", "operation": "CREATE", "kind": {"kind": "Pod"}, "object": made}
    try:
        patch = admission.patch(request, [])
    except ConfigError:
        return
    once = applied(patch, made) if patch else made
    assert admission.patch({**request, "object": once}, []) == [] or not patch
    if isinstance(made, dict):
        applied(released(once, admission, gated_seconds=0.0), once)


@given(JSON)
@settings(**QUIET)
def test_a_job_of_any_shape_may_be_enqueued(made):
    try:
        assert job_vote(made, Knowing()) in (0, -1)
    except ConfigError:
        return
