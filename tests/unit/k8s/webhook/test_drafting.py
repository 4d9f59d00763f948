"""Drafts: what a patch says is what the draft is."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.errors import ConfigError
from cachefs.k8s.webhook.drafting import Draft
from tests.unit.k8s.webhook.pods import patched

KEYS = st.sampled_from(["a", "a/b", "a~b", "~1", "list", "x.y/z"])
VALUES = st.one_of(st.integers(), st.lists(st.integers(), max_size=2), st.just({}))


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "append", "put_first", "annotate"]), KEYS, VALUES),
        max_size=8,
    )
)
def test_the_patch_makes_of_the_pod_what_the_draft_is(steps):
    before = {"spec": {}}
    draft = Draft(before)
    for step, key, value in steps:
        there = draft.pod["spec"].get(key)
        if step == "annotate":
            draft.annotate(key, "x")
        elif step == "add":
            draft.add(("spec", key), value)
        elif there is None or isinstance(there, list):
            getattr(draft, step)(("spec", key), value)
    assert patched(before, draft.operations) == draft.pod
    assert before == {"spec": {}}


def test_what_is_added_later_sees_what_was_added_before():
    draft = Draft({"metadata": {}})
    draft.annotate("one", "1")
    draft.annotate("two", "2")
    assert draft.pod["metadata"]["annotations"] == {"one": "1", "two": "2"}


def test_anothers_patch_is_made_too():
    draft = Draft({"metadata": {"annotations": {"a": "b"}}, "spec": {"l": [1]}})
    operations = [
        {"op": "add", "path": "/metadata/annotations/x~1y", "value": "z"},
        {"op": "add", "path": "/spec/l/-", "value": 2},
        {"op": "add", "path": "/spec/l/0", "value": 0},
    ]
    draft.take(operations)
    assert draft.pod == {
        "metadata": {"annotations": {"a": "b", "x/y": "z"}},
        "spec": {"l": [0, 1, 2]},
    }
    assert draft.operations == operations


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/spec"},
        {"op": "add", "path": "/none/x", "value": 1},
        {"op": "add", "path": "", "value": 1},
        {"op": "add", "path": "/spec/l/7", "value": 1},
        {},
    ],
)
def test_a_patch_that_cannot_be_made_changes_nothing(operation):
    before = {"spec": {"l": [1]}}
    draft = Draft(before)
    with pytest.raises(ConfigError):
        draft.take([{"op": "add", "path": "/spec/x", "value": 1}, operation])
    assert draft.pod == before
    assert draft.operations == []


def test_a_change_to_the_draft_is_no_change_to_what_was_given():
    value = {"inner": []}
    before = {"spec": {}}
    draft = Draft(before)
    draft.add(("spec", "x"), value)
    draft.append(("spec", "x", "inner"), 1)
    assert value == {"inner": []}
    assert before == {"spec": {}}
    assert patched(copy.deepcopy(before), draft.operations) == draft.pod
