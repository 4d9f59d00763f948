"""The kube-scheduler's extender, as the scheduler speaks to it."""

import json

import pytest

from tests.unit.hints.consumers.schedulers import Knowing, broken, ignorant, pod, scheduler

NAMES = ["n1", "n2", "n3", "n4"]
REQUIRED = {"cachefs.io/datasets": "llama", "cachefs.io/affinity": "required"}
DEADLINE = {"cachefs.io/datasets": "llama", "cachefs.io/deadline": "30s"}


def by_name(annotations=None, names=NAMES) -> dict:
    """Return ``ExtenderArgs`` as Go writes them, for ``nodeCacheCapable: true``."""
    return {"Pod": pod(annotations), "Nodes": None, "NodeNames": list(names)}


def in_full(annotations=None, names=NAMES) -> dict:
    nodes = [{"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {}} for name in names]
    return {"Pod": pod(annotations), "Nodes": {"metadata": {}, "items": nodes}, "NodeNames": None}


def prioritized(ask, sent):
    answered = scheduler(ask).post("/k8s/extender/prioritize", json=sent)
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "application/json"
    return answered.content


def filtered(ask, sent) -> dict:
    answered = scheduler(ask).post("/k8s/extender/filter", json=sent)
    assert answered.status_code == 200
    return answered.json()


def passed(names=NAMES) -> dict:
    return {
        "Nodes": None,
        "NodeNames": list(names),
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {},
        "Error": "",
    }


def test_prioritize_answers_with_gos_names_and_whole_scores():
    assert prioritized(Knowing(), by_name()) == (
        b'[{"Host":"n1","Score":10},{"Host":"n2","Score":7},'
        b'{"Host":"n3","Score":3},{"Host":"n4","Score":3}]'
    )


def test_prioritize_takes_nodes_in_full():
    assert prioritized(Knowing(), in_full()) == prioritized(Knowing(), by_name())


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_names_of_fields_are_taken_in_any_case(change):
    for sent, whole in ((by_name(REQUIRED), True), (in_full(REQUIRED), False)):
        odd = {change(key): value for key, value in sent.items()}
        knowing = Knowing(held={"llama": {"n2"}})
        answered = filtered(knowing, odd)
        names = (
            answered["NodeNames"]
            if whole
            else [each["metadata"]["name"] for each in answered["Nodes"]["items"]]
        )
        assert names == ["n2"]


def test_the_scheduler_is_asked_for_no_accelerators_and_nothing_is_begun():
    knowing = Knowing()
    prioritized(knowing, by_name())
    (asked,) = knowing.asked
    assert asked.candidates == tuple(NAMES)
    assert (asked.gpu, asked.selector, asked.every, asked.dry_run) == (None, {}, True, True)


@pytest.mark.parametrize("ask", [broken, ignorant])
@pytest.mark.parametrize("annotations", [None, REQUIRED, DEADLINE])
def test_without_an_opinion_all_nodes_pass_and_score_the_same(ask, annotations):
    assert filtered(ask, by_name(annotations)) == passed()
    scored = json.loads(prioritized(ask, by_name(annotations)))
    assert scored == [{"Host": name, "Score": 0} for name in NAMES]


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"cachefs.io/datasets": "llama", "cachefs.io/affinity": "always"},
        {"cachefs.io/datasets": "Not A Name", "cachefs.io/deadline": "1s"},
        {"cachefs.io/datasets": "llama", "cachefs.io/deadline": "soon"},
    ],
)
def test_a_pod_that_is_not_understood_may_go_anywhere(annotations):
    assert filtered(Knowing(), by_name(annotations)) == passed()
    scored = json.loads(prioritized(Knowing(), by_name(annotations)))
    assert {each["Score"] for each in scored} == {0}


def test_a_pod_that_binds_itself_to_nothing_is_not_filtered_nor_asked_for():
    knowing = Knowing(held={"llama": {"n1"}})
    assert filtered(knowing, by_name()) == passed()
    assert knowing.asked == []


def test_a_required_dataset_keeps_a_pod_from_nodes_that_hold_nothing():
    answered = filtered(Knowing(held={"llama": {"n2", "n3"}}), by_name(REQUIRED))
    assert answered == passed(["n2", "n3"]) | {
        "FailedAndUnresolvableNodes": {
            "n1": "it holds nothing of a dataset that is required",
            "n4": "it holds nothing of a dataset that is required",
        }
    }


def test_what_came_in_full_goes_back_in_full():
    sent = in_full(REQUIRED)
    answered = filtered(Knowing(held={"llama": {"n2"}}), sent)
    assert answered["NodeNames"] is None
    assert answered["Nodes"] == {"items": [sent["Nodes"]["items"][1]]}


def test_two_required_datasets_mean_and():
    both = {"cachefs.io/datasets": "llama, tokens", "cachefs.io/affinity": "required"}
    knowing = Knowing(held={"llama": {"n1", "n2"}, "tokens": {"n2", "n3"}})
    assert filtered(knowing, by_name(both))["NodeNames"] == ["n2"]


def test_a_node_that_is_not_known_holds_nothing():
    answered = filtered(Knowing(held={"llama": {"n1"}}), by_name(REQUIRED, ["n1", "stranger"]))
    assert answered["NodeNames"] == ["n1"]
    assert list(answered["FailedAndUnresolvableNodes"]) == ["stranger"]


def test_a_dataset_that_nobody_holds_keeps_a_pod_from_nowhere():
    assert filtered(Knowing(held={"llama": set()}), by_name(REQUIRED)) == passed()


def test_a_pod_waits_for_nodes_that_hold_its_dataset_where_there_are_some():
    knowing = Knowing(held={"llama": {"n1"}})
    answered = filtered(knowing, by_name(REQUIRED, ["n2", "n3"]))
    assert answered["NodeNames"] == []
    assert set(answered["FailedAndUnresolvableNodes"]) == {"n2", "n3"}
    assert [bool(each.candidates) for each in knowing.asked] == [True, False]


def test_a_deadline_keeps_a_pod_from_nodes_that_would_be_late():
    answered = filtered(Knowing(), by_name(DEADLINE, [*NAMES, "stranger"]))
    assert answered["NodeNames"] == ["n1", "n2", "stranger"]
    assert answered["FailedAndUnresolvableNodes"] == {
        "n3": "needs 71 s, deadline 30 s",
        "n4": "needs 71 s, deadline 30 s",
    }


def test_weights_order_nodes_but_a_deadline_is_in_seconds():
    weighted = {**DEADLINE, "cachefs.io/weights": "7"}
    knowing = Knowing()
    prioritized(knowing, by_name(weighted))
    filtered(knowing, by_name(weighted))
    assert [each.readings[0].weight for each in knowing.asked] == [7.0, 1.0]


def test_a_deadline_changes_nothing_of_the_order():
    knowing = Knowing()
    assert prioritized(knowing, by_name(DEADLINE)) == prioritized(Knowing(), by_name())
    assert knowing.asked[0].deadline_seconds is None


def test_a_deadline_that_no_node_meets_keeps_a_pod_from_nowhere():
    assert filtered(Knowing(), by_name(DEADLINE, ["n3", "n4"])) == passed(["n3", "n4"])


def test_stale_knowledge_keeps_a_pod_from_nowhere():
    knowing = Knowing(held={"llama": {"n1"}}, facts={"degraded": "inventory 31 s old"})
    assert filtered(knowing, by_name(REQUIRED)) == passed()
    assert filtered(knowing, by_name(DEADLINE)) == passed()


def test_filtered_names_are_a_subset_in_their_order():
    names = ["n4", "n2", "n2", "stranger", "n1"]
    answered = filtered(Knowing(held={"llama": {"n1", "n2", "n9"}}), by_name(REQUIRED, names))
    assert answered["NodeNames"] == ["n2", "n2", "n1"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b'{"Pod":{}}', b'{"Nodes":3}'])
def test_what_is_no_call_of_the_scheduler_is_refused(body):
    for verb in ("filter", "prioritize"):
        with pytest.raises(ValueError, match=r"body|Nodes"):
            scheduler(Knowing()).post(f"/k8s/extender/{verb}", content=body)


@pytest.mark.parametrize("thing", [None, 3, "pod", [], {"metadata": [], "spec": "x"}])
def test_a_pod_of_a_strange_shape_may_go_anywhere(thing):
    sent = {"Pod": thing, "NodeNames": NAMES}
    assert filtered(Knowing(), sent) == passed()
    assert {each["Score"] for each in json.loads(prioritized(Knowing(), sent))} == {0}
