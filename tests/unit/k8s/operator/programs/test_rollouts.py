"""Rollouts, on a model of what a deployment's and a stateful set's controllers do."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.k8s.operator.programs import rollouts
from cachefs.k8s.operator.programs.rollouts import Shape
from tests.unit.k8s.operator.targets import Model, image, mark, status


def shape(goal, replicas, *, surge=1, revision="v2", image="llama:2"):
    return Shape(revision, image, goal, replicas, surge)


def settle(model, wanted, moves=()):
    """Let executor, controller and pods move in some order, and then in turn until nothing moves."""
    for move in moves:
        {"look": lambda: model.look(wanted), "control": model.control, "ready": model.become_ready}[
            move
        ]()
    for _ in range(200):
        before = copy.deepcopy((model.target["spec"], model.pods))
        model.look(wanted)
        model.control()
        model.become_ready()
        if before == (model.target["spec"], model.pods):
            return
    raise AssertionError("it never comes to rest")


MOVES = st.lists(st.sampled_from(["look", "control", "ready"]), max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    present=st.integers(0, 6),
    replicas=st.integers(1, 6),
    surge=st.integers(1, 3),
    batch=st.integers(1, 6),
    moves=MOVES,
)
def test_a_deployment_passes_its_batches_and_ends_as_it_shall(
    present, replicas, surge, batch, moves
):
    model = Model("Deployment", present)
    for goal in sorted({min(batch, replicas), replicas}):
        settle(model, shape(goal, replicas, surge=surge), moves)
        assert len([one for one in model.ready if mark(one) == "v2"]) >= goal
        if goal < min(present, replicas):
            assert len(model.of("v2")) <= goal + surge, "it stops near the batch"
    assert [(mark(one), image(one)) for one in model.pods] == [("v2", "llama:2")] * replicas
    assert not model.target["spec"].get("paused")
    assert model.most <= max(present, replicas) + surge
    assert model.least >= min(present, replicas), "there are never too few that work"


@settings(max_examples=100, deadline=None)
@given(present=st.integers(0, 6), replicas=st.integers(1, 6), batch=st.integers(1, 6), moves=MOVES)
def test_a_stateful_set_passes_its_batches_exactly(present, replicas, batch, moves):
    model = Model("StatefulSet", present)
    for goal in sorted({min(batch, replicas), replicas}):
        settle(model, shape(goal, replicas), moves)
        if goal <= present:
            assert len(model.of("v2")) == goal
    assert [mark(one) for one in model.pods] == ["v2"] * replicas


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_target_at_rest_is_not_changed_again(kind):
    model = Model(kind, 3)
    settle(model, shape(3, 3))
    assert rollouts.change(model.target, shape(3, 3), model.pods) is None


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_no_replicas_are_no_replicas(kind):
    model = Model(kind, 3)
    settle(model, shape(0, 0))
    assert model.pods == []
    assert mark(model.target["spec"]["template"]) == "", "nothing else is changed for it"


def test_a_batch_of_fewer_than_are_there_ends_none_of_them():
    model = Model("Deployment", 4)
    settle(model, shape(4, 4))
    settle(model, shape(1, 4))
    assert len(model.of("v2")) == 4


def test_what_goes_back_has_its_image_again():
    model = Model("Deployment", 3)
    settle(model, shape(2, 3))
    settle(model, shape(3, 3, revision="v1", image="llama:1"))
    assert [(mark(one), image(one)) for one in model.pods] == [("v1", "llama:1")] * 3


def test_a_revision_without_an_image_keeps_the_one_that_is_there_and_tells_the_program():
    model = Model("Deployment", 1)
    model.target["spec"]["template"]["spec"]["containers"] += [{"name": "side", "image": "side:1"}]
    model.target["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "b"}]
    model.look(shape(1, 1, image=""))
    first, second = model.target["spec"]["template"]["spec"]["containers"]
    assert first["image"] == "llama:1"
    assert first["env"] == [
        {"name": "A", "value": "b"},
        {"name": "CACHEFS_REVISION", "value": "v2"},
    ]
    assert second == {"name": "side", "image": "side:1"}


def test_what_somebody_changes_meanwhile_is_not_overwritten():
    model = Model("Deployment", 1)
    patch = rollouts.change(model.target, shape(1, 1), model.pods)
    assert patch.patch["metadata"] == {"resourceVersion": "1"}


def test_replicas_are_told_with_their_failed_starts():
    model = Model("Deployment", 2)
    bad, good = model.pods
    bad["status"] = status(ready=False) | {
        "containerStatuses": [
            {
                "restartCount": 2,
                "lastState": {
                    "terminated": {
                        "exitCode": 1,
                        "message": "no model",
                        "startedAt": "2026-01-01T00:00:05Z",
                    }
                },
            }
        ]
    }
    told = rollouts.report(model.target, model.pods)
    assert told["image"] == "llama:1"
    assert [(one["id"], one["state"], one.get("failure")) for one in told["replicas"]] == [
        ("p0/1", "failed", "no model"),
        ("p0/2", "starting", None),
        ("p1/0", "ready", None),
    ]
    assert told["replicas"][2]["ready_seconds"] == 9.0
    bad["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:10Z"
    assert len(rollouts.report(model.target, [bad, good])["replicas"]) == 1


def test_only_pods_of_the_target_count():
    def owned(uid, by):
        return {"metadata": {"uid": uid, "ownerReferences": [{"uid": by, "controller": True}]}}

    target = {"metadata": {"uid": "t"}}
    pods = [owned("a", "rs"), owned("b", "other"), {"metadata": {"uid": "c"}}]
    found = rollouts.pods_of(target, pods, [owned("rs", "t"), owned("other", "u")])
    assert [one["metadata"]["uid"] for one in found] == ["a"]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"strategy": {"type": "Recreate"}}, "strategy.type is Recreate"), ({}, "")],
)
def test_a_target_that_cannot_be_rolled_out_to_says_why(change, words):
    model = Model("Deployment", 1)
    model.target["spec"] |= change
    assert words in rollouts.refusal(model.target, "deployment/llama")
    assert bool(rollouts.refusal(model.target, "deployment/llama")) == bool(words)
    assert rollouts.refusal(None, "deployment/llama") == "there is no deployment/llama"
