"""Whatever pod is created: it is allowed, what is the user's stays, and a second call changes nothing."""

import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.k8s.webhook.injecting import Injecting, Mode
from cachefs.k8s.webhook.mutating import Mutation
from tests.unit.k8s.webhook.pods import SETTINGS, operations_of, patched, review, volume

NAMES = st.sampled_from(["a", "b", "model", "cachefs-copy", "cachefs-token", "x-1"])
GOOD = ["llama", "team-a/llama", "shared/x@v2", "tokens"]
DATASETS = st.sampled_from([*GOOD * 6, "No!", "a/b/c", "../x", "llama@"])
PATHS = ["", "=/models/x", "=/m"]
LISTED = st.lists(
    st.builds("{}{}".format, DATASETS, st.sampled_from([*PATHS * 6, "=relative", "=/a:b"])),
    max_size=4,
).map(", ".join)
CSI = st.builds(
    lambda name, dataset, more: volume(name, dataset, **more),
    NAMES,
    DATASETS,
    st.fixed_dictionaries(
        {}, optional={"version": st.just("v2"), "path": st.sampled_from(["a", "/"])}
    ),
)
CLAIM = st.builds(
    lambda name, claim: {"name": name, "persistentVolumeClaim": {"claimName": claim}},
    NAMES,
    DATASETS,
)
EMPTY = NAMES.map(lambda name: {"name": name, "emptyDir": {}})
MOUNTS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "mountPath": st.sampled_from(["/models/x", "/m", "/data"])},
        optional={"readOnly": st.booleans(), "mountPropagation": st.just("None")},
    ),
    max_size=3,
    unique_by=lambda mount: mount["mountPath"],
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "image": st.just("x")},
        optional={
            "volumeMounts": MOUNTS,
            "env": st.lists(
                st.sampled_from(["AWS_PROFILE", "HF_TOKEN", "A"]).map(lambda name: {"name": name}),
                max_size=2,
            ),
            "restartPolicy": st.just("Always"),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda container: container["name"],
)
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {
                "labels": st.sampled_from(
                    [*Mode, Mode.FILES, Mode.SIDECAR, "true", "false", "?"]
                ).map(lambda mode: {"cachefs.io/inject": str(mode)})
            },
            optional={
                "annotations": st.fixed_dictionaries(
                    {},
                    optional={
                        "cachefs.io/datasets": LISTED,
                        "cachefs.io/size-limit": st.sampled_from(["1Gi", "much"]),
                        "other": st.just("x"),
                    },
                )
            },
        ),
        "spec": st.fixed_dictionaries(
            {"containers": CONTAINERS},
            optional={
                "initContainers": CONTAINERS,
                "volumes": st.lists(
                    st.one_of(CSI, CLAIM, EMPTY), max_size=4, unique_by=lambda each: each["name"]
                ),
                "hostNetwork": st.booleans(),
            },
        ),
    }
)


def nobody(_review):
    raise AssertionError("no hint was wanted")


MUTATION = Mutation(nobody, Injecting(SETTINGS))


def answered(made):
    return MUTATION.answer(json.dumps(review(made)).encode())


def names(made, key):
    return [each["name"] for each in made["spec"].get(key, ())]


def is_within(part, whole):
    """Say whether a list is part of another, in its order."""
    rest = iter(whole)
    return all(each in rest for each in part)


@settings(max_examples=300, deadline=None)
@given(made=PODS)
def test_any_pod_is_allowed_keeps_what_is_its_own_and_is_changed_once(made):
    before = copy.deepcopy(made)
    answer, outcome = answered(made)
    assert made == before
    assert answer["response"]["allowed"] is True
    after = patched(made, operations_of(answer))
    for key in ("containers", "initContainers", "volumes"):
        assert is_within(names(before, key), names(after, key))
        assert len(set(names(after, key))) == len(names(after, key))
    assert before["metadata"]["labels"] == after["metadata"]["labels"]
    for key in ("containers", "initContainers"):
        for old in before["spec"].get(key, ()):
            new = next(each for each in after["spec"][key] if each["name"] == old["name"])
            assert old["image"] == new["image"]
            assert is_within(old.get("env", ()), new.get("env", ()))
            paths = [each["mountPath"] for each in new.get("volumeMounts", ())]
            assert is_within([each["mountPath"] for each in old.get("volumeMounts", ())], paths)
            assert len(set(paths)) == len(paths)
    # Nobody is given half of it: what is mounted is there, and what was refused left nothing.
    if outcome.injected:
        mounted = {
            mount["name"]
            for key in ("containers", "initContainers")
            for each in after["spec"].get(key, ())
            for mount in each.get("volumeMounts", ())
            if mount["name"].startswith("cachefs-")
        }
        assert mounted <= set(names(after, "volumes")) | set(names(before, "volumes")) | {
            mount["name"]
            for key in ("containers", "initContainers")
            for each in before["spec"].get(key, ())
            for mount in each.get("volumeMounts", ())
        }
        assert answered(after)[0]["response"].get("patch") is None
    else:
        assert after == before
