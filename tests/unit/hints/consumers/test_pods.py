"""From a pod to a question."""

import pytest

from cachefs.core.hints.asking import Affinity, Loader, LoaderMode, Question, Reading, WantedGpu
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError
from cachefs.hints.consumers.pods import DATASETS_MAX, question_of, wanted_gpu
from tests.unit.hints.consumers.schedulers import pod


def reading(name: str, **facts) -> Reading:
    return Reading(dataset=DatasetName.parse(name), **facts)


def readings(annotations=None, labels=None, **spec) -> tuple[Reading, ...]:
    made = pod(annotations or {}, **spec)
    made["metadata"]["labels"] = labels or {}
    asked = question_of(made)
    return () if asked is None else asked.readings


def test_a_pod_says_all_of_a_question():
    made = pod(
        {
            "cachefs.io/datasets": "llama@v2, team-b/tokens",
            "cachefs.io/affinity": "team-b/tokens=required",
            "cachefs.io/weights": "2, team-b/tokens=0.5",
            "cachefs.io/deadline": "5m",
            "cachefs.io/expected": "7200",
            "cachefs.io/loader": "lazy=0.1",
            "example.com/other": "x",
        },
        nodeSelector={"pool": "gpu"},
    )
    assert question_of(made) == Question(
        job="team-a/job-1",
        tenant="team-a",
        readings=(
            reading("llama", version="v2", weight=2.0),
            reading("team-b/tokens", weight=0.5, affinity=Affinity.REQUIRED),
        ),
        gpu=WantedGpu(count=1),
        image="vllm:1",
        selector={"pool": "gpu"},
        loader=Loader(mode=LoaderMode.LAZY, required_fraction=0.1),
        deadline_seconds=300.0,
        expected_seconds=7200.0,
    )


def test_a_pod_without_datasets_is_none_of_our_business():
    assert question_of(pod({"cachefs.io/deadline": "soon"})) is None


def test_a_label_names_a_single_dataset_and_an_annotation_beats_it():
    assert readings(labels={"cachefs.io/datasets": "llama"}) == (reading("llama"),)
    both = readings({"cachefs.io/datasets": "qwen"}, {"cachefs.io/datasets": "llama"})
    assert both == (reading("qwen"),)


def test_affinity_is_for_all_datasets_unless_one_is_named():
    found = readings(
        {"cachefs.io/datasets": "a b c", "cachefs.io/affinity": "b=preferred required"}
    )
    assert [each.affinity for each in found] == ["required", "preferred", "required"]


def test_weights_are_the_pods_own():
    for weight in (0.5, 3.0):
        mark = {"cachefs.io/datasets": "a,b", "cachefs.io/weights": f"b={weight}"}
        assert [each.weight for each in readings(mark)] == [1.0, weight]


def test_a_mounted_dataset_needs_no_annotation():
    volumes = [
        {"name": "x", "emptyDir": {}},
        {
            "name": "model",
            "csi": {
                "driver": "cachefs.io",
                "volumeAttributes": {"dataset": "team-b/llama", "version": "v2"},
            },
        },
        {"name": "other", "csi": {"driver": "else.io", "volumeAttributes": {"dataset": "no"}}},
        {"name": "odd", "csi": {"driver": "cachefs.io"}},
    ]
    assert readings(volumes=volumes) == (reading("team-b/llama", version="v2"),)
    named = readings({"cachefs.io/datasets": "team-b/llama@v1"}, volumes=volumes)
    assert named == (reading("team-b/llama", version="v1"),)


def test_a_mounted_dataset_without_a_namespace_is_of_the_pods():
    csi = {"driver": "cachefs.io", "volumeAttributes": {"dataset": "llama"}}
    volumes = [{"name": "model", "csi": csi}]
    assert readings(volumes=volumes) == (reading("team-a/llama"),)
    for name in ("llama", "team-a/llama"):
        required = {"cachefs.io/affinity": f"{name}=required"}
        assert readings(required, volumes=volumes) == (
            reading("team-a/llama", affinity=Affinity.REQUIRED),
        )


def test_a_name_that_may_mean_two_datasets_is_none():
    marks = {"cachefs.io/datasets": "a/llama, b/llama", "cachefs.io/affinity": "llama=required"}
    with pytest.raises(ConfigError, match="reads no dataset"):
        readings(marks)


def test_where_a_dataset_shall_be_seen_is_no_part_of_its_name():
    marks = {"cachefs.io/datasets": "llama@v2=/models/llama, team-b/tokens=/data"}
    assert readings(marks) == (reading("llama", version="v2"), reading("team-b/tokens"))


def test_fluids_label_means_a_dataset_of_the_pods_namespace():
    labels = {
        "fluid.io/dataset.llama.sched": "required",
        "fluid.io/dataset.tokens.sched": "whatever",
        "fluid.io/dataset.UPPER.sched": "required",
        "fluid.io/dataset..sched": "required",
        "fluid.io/s-default-llama": "true",
    }
    assert readings(labels=labels) == (
        reading("team-a/llama", affinity=Affinity.REQUIRED),
        reading("team-a/tokens"),
    )


def test_fluids_label_binds_a_dataset_that_is_named_otherwise_too():
    labels = {"fluid.io/dataset.llama.sched": "required"}
    found = readings({"cachefs.io/datasets": "llama@v2"}, labels)
    assert found == (reading("llama", version="v2", affinity=Affinity.REQUIRED),)


def test_fluids_label_binds_no_dataset_of_another_namespace():
    labels = {"fluid.io/dataset.llama.sched": "required"}
    found = readings({"cachefs.io/datasets": "team-b/llama"}, labels)
    assert found == (
        reading("team-b/llama"),
        reading("team-a/llama", affinity=Affinity.REQUIRED),
    )


def test_fluids_labels_count_too():
    labels = {f"fluid.io/dataset.d{index}.sched": "required" for index in range(DATASETS_MAX + 1)}
    with pytest.raises(ConfigError, match="at most 64"):
        readings(labels=labels)


@pytest.mark.parametrize(
    ("mark", "value"),
    [
        ("datasets", "llama/x/y"),
        ("datasets", "Llama"),
        ("datasets", ",".join(f"d{index}" for index in range(DATASETS_MAX + 1))),
        ("affinity", "hard"),
        ("affinity", "qwen=required"),
        ("weights", "llama=heavy"),
        ("weights", "0"),
        ("weights", "nan"),
        ("weights", "inf"),
        ("weights", "1000001"),
        ("deadline", "1.2.3"),
        ("deadline", "²"),
        ("deadline", "9999d"),
        ("deadline", "-3s"),
        ("deadline", "soon"),
        ("expected", "1y"),
        ("loader", "fast"),
        ("loader", "lazy=2"),
    ],
)
def test_what_makes_no_sense_is_named(mark, value):
    marks = {"cachefs.io/datasets": "llama", f"cachefs.io/{mark}": value}
    with pytest.raises(ConfigError) as raised:
        question_of(pod(marks))
    assert mark in str(raised.value)


def container(resources: dict, kind: str = "requests") -> dict:
    return {"name": "c", "image": "i", "resources": {kind: resources}}


@pytest.mark.parametrize(
    ("containers", "wanted"),
    [
        ([], None),
        ([{"name": "c"}], None),
        ([container({"cpu": "4"})], None),
        ([container({"nvidia.com/gpu": "2"})], WantedGpu(count=2)),
        ([container({"nvidia.com/gpu": 2})], WantedGpu(count=2)),
        ([container({"nvidia.com/gpu": "2"}, "limits")], WantedGpu(count=2)),
        (
            [container({"nvidia.com/gpu": "2"}), container({"nvidia.com/gpu": "1"})],
            WantedGpu(count=3),
        ),
        ([container({"nvidia.com/gpu": "0"})], None),
        ([container({"nvidia.com/gpu": "many"})], None),
        ([container({"nvidia.com/mig-1g.10gb": "1"})], WantedGpu(mig_profile="1g.10gb")),
        ([container({"nvidia.com/mig-3g.40gb": "2"})], WantedGpu(mig_profile="3g.40gb")),
    ],
)
def test_accelerators_are_read_from_resources(containers, wanted):
    assert wanted_gpu({"spec": {"containers": containers}}) == wanted


def test_containers_that_initialise_run_before_the_others():
    spec = {
        "initContainers": [container({"nvidia.com/gpu": "4"})],
        "containers": [container({"nvidia.com/gpu": "1"})],
    }
    assert wanted_gpu({"spec": spec}) == WantedGpu(count=4)


def test_kais_fraction_is_a_share_of_one_accelerator():
    made = {"metadata": {"annotations": {"gpu-fraction": "0.25"}}}
    assert wanted_gpu(made) == WantedGpu(fraction=0.25)
    made["metadata"]["annotations"]["gpu-fraction"] = "7"
    assert wanted_gpu(made) is None


def test_the_image_is_that_of_the_container_with_accelerators():
    containers = [
        {"name": "side", "image": "envoy:1"},
        {"name": "main", "image": "vllm:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}},
    ]
    asked = question_of(pod(containers=containers))
    assert asked is not None
    assert asked.image == "vllm:1"
