"""The mutating webhook: what the API server is answered, and what becomes of the pod."""

import json

import pytest

from cachefs.hints.consumers.admission import Admission, released
from cachefs.hints.renderings.affinity import own_name
from tests.unit.hints.consumers.schedulers import (
    Knowing,
    applied,
    broken,
    ignorant,
    patch_in,
    pod,
    review_of,
    scheduler,
)
from tests.unit.hints.making import COMING, THREE

REQUIRED = {"cachefs.io/datasets": "llama", "cachefs.io/affinity": "required"}
PREFERRED_TERMS = "preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"
HOSTS = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n2"]}


def mutated(review, ask=None, **options) -> dict:
    answered = scheduler(ask or Knowing(), **options).post("/k8s/mutate", json=review)
    assert answered.status_code == 200
    return answered.json()


def preferring(name: str, weight: int) -> dict:
    fields = [{"key": "metadata.name", "operator": "In", "values": [name]}]
    return {"weight": weight, "preference": {"matchFields": fields}}


def affinity_of(pod: dict) -> dict:
    return pod["spec"]["affinity"]["nodeAffinity"]


def holding() -> Knowing:
    return Knowing(held={"llama": {"n1", "n2"}})


def test_a_review_is_answered_in_its_form():
    answered = mutated(review_of(pod()))
    assert set(answered) == {"apiVersion", "kind", "response"}
    assert answered["apiVersion"] == "admission.k8s.io/v1"
    assert answered["kind"] == "AdmissionReview"
    assert set(answered["response"]) == {"uid", "allowed", "patchType", "patch"}
    assert answered["response"]["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
    assert answered["response"]["allowed"] is True
    assert answered["response"]["patchType"] == "JSONPatch"


def test_a_pod_without_affinity_gets_one_term_for_each_of_the_best_nodes():
    assert patch_in(mutated(review_of(pod()))) == [
        {
            "op": "add",
            "path": "/spec/affinity",
            "value": {
                "nodeAffinity": {PREFERRED_TERMS: [preferring("n1", 100), preferring("n2", 41)]}
            },
        },
        {"op": "add", "path": "/metadata/annotations/cachefs.io~1hint-id", "value": "h-01"},
    ]


@pytest.mark.parametrize("ask", [broken, ignorant])
@pytest.mark.parametrize("annotations", [None, REQUIRED])
def test_without_an_opinion_the_pod_is_allowed_as_it_is(ask, annotations):
    answered = mutated(review_of(pod(annotations)), ask)
    assert answered["response"]["allowed"] is True
    assert "patch" not in answered["response"]
    assert "patchType" not in answered["response"]


def test_nodes_that_are_alike_are_no_reason_to_touch_a_pod():
    same = Knowing(seconds={"n1": 5.0, "n2": 5.5})
    assert patch_in(mutated(review_of(pod()), same)) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"object": {"metadata": {}, "spec": {}}},
        {"object": pod() | {"spec": None}},
        {"object": None},
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
        {"subResource": "eviction"},
    ],
)
def test_what_is_not_a_new_pod_with_datasets_is_none_of_our_business(changed):
    knowing = Knowing()
    answered = mutated(review_of(pod(), **changed), knowing)
    assert answered["response"] == {"uid": answered["response"]["uid"], "allowed": True}
    assert knowing.asked == []


def test_a_pod_that_has_its_node_is_left_alone():
    assert patch_in(mutated(review_of(pod(nodeName="n3")))) == []


def test_being_called_again_changes_nothing():
    once = applied(patch_in(mutated(review_of(pod(REQUIRED)), holding())), pod(REQUIRED))
    assert patch_in(mutated(review_of(once), holding())) == []


def test_what_is_wrong_with_annotations_is_a_warning_and_the_pod_is_allowed():
    wrong = {"cachefs.io/datasets": "llama", "cachefs.io/deadline": "soon"}
    response = mutated(review_of(pod(wrong)))["response"]
    assert (response["allowed"], "patch" in response) == (True, False)
    assert "cachefs.io/deadline" in response["warnings"][0]


def test_the_users_preferred_terms_are_kept_and_ours_come_after():
    own = {"weight": 7, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}
    before = pod(affinity={"nodeAffinity": {PREFERRED_TERMS: [own]}, "podAffinity": {"x": 1}})
    after = applied(patch_in(mutated(review_of(before))), before)
    assert affinity_of(after)[PREFERRED_TERMS] == [
        own,
        preferring("n1", 100),
        preferring("n2", 41),
    ]
    assert after["spec"]["affinity"]["podAffinity"] == {"x": 1}


@pytest.mark.parametrize(
    "affinity",
    [
        None,
        {},
        {"nodeAffinity": None},
        {"nodeAffinity": {}},
        {"nodeAffinity": {PREFERRED_TERMS: None, REQUIRED_TERMS: None}},
        {"nodeAffinity": {PREFERRED_TERMS: []}},
    ],
)
def test_empty_parts_of_affinity_are_filled(affinity):
    before = pod(REQUIRED, affinity=affinity)
    after = applied(patch_in(mutated(review_of(before), holding())), before)
    assert affinity_of(after)[PREFERRED_TERMS] == [preferring("n1", 100), preferring("n2", 41)]
    assert affinity_of(after)[REQUIRED_TERMS] == {
        "nodeSelectorTerms": [{"matchExpressions": [HOSTS]}]
    }


@pytest.mark.parametrize("annotations", [None, {}])
def test_a_pod_without_annotations_gets_some(annotations):
    before = pod()
    before["metadata"]["labels"] = {"cachefs.io/datasets": "llama"}
    before["metadata"]["annotations"] = annotations
    after = applied(patch_in(mutated(review_of(before))), before)
    assert after["metadata"]["annotations"] == {"cachefs.io/hint-id": "h-01"}


def test_a_required_dataset_narrows_every_term_of_the_user():
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    arch = {"key": "arch", "operator": "In", "values": ["arm"]}
    name = {"key": "metadata.name", "operator": "In", "values": ["n2"]}
    terms = [
        {"matchExpressions": [zone, arch]},
        {"matchFields": [name]},
        {"matchExpressions": [], "matchFields": [name]},
        {"matchExpressions": [zone], "matchFields": [name]},
    ]
    before = pod(
        REQUIRED, affinity={"nodeAffinity": {REQUIRED_TERMS: {"nodeSelectorTerms": terms}}}
    )
    after = applied(patch_in(mutated(review_of(before), holding())), before)
    assert affinity_of(after)[REQUIRED_TERMS]["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, arch, HOSTS]},
        {"matchFields": [name], "matchExpressions": [HOSTS]},
        {"matchExpressions": [HOSTS], "matchFields": [name]},
        {"matchExpressions": [zone, HOSTS], "matchFields": [name]},
    ]


def test_a_term_that_admits_no_node_is_not_made_to_admit_some():
    terms = [{}, {"matchExpressions": []}, {"matchFields": None}]
    before = pod(
        REQUIRED, affinity={"nodeAffinity": {REQUIRED_TERMS: {"nodeSelectorTerms": terms}}}
    )
    after = applied(patch_in(mutated(review_of(before), holding())), before)
    assert affinity_of(after)[REQUIRED_TERMS]["nodeSelectorTerms"] == terms


def test_two_required_datasets_mean_and():
    both = {"cachefs.io/datasets": "llama, tokens", "cachefs.io/affinity": "required"}
    knowing = Knowing(held={"llama": {"n1", "n2"}, "tokens": {"n2", "n3"}})
    after = applied(patch_in(mutated(review_of(pod(both)), knowing)), pod(both))
    (term,) = affinity_of(after)[REQUIRED_TERMS]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [HOSTS | {"values": ["n2"]}]}


def test_one_dataset_may_be_required_and_another_preferred():
    mixed = {"cachefs.io/datasets": "llama, tokens", "cachefs.io/affinity": "llama=required"}
    knowing = Knowing(held={"llama": {"n1", "n2"}, "tokens": set()})
    after = applied(patch_in(mutated(review_of(pod(mixed)), knowing)), pod(mixed))
    (term,) = affinity_of(after)[REQUIRED_TERMS]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [HOSTS]
    assert [str(each.dataset) for each in knowing.asked[-1].readings] == ["llama"]


def test_a_busy_node_that_holds_a_required_dataset_is_not_ruled_out():
    knowing = holding()
    mutated(review_of(pod(REQUIRED)), knowing)
    first, held = knowing.asked
    assert (first.gpu is None, held.gpu, held.dry_run) == (False, None, True)


def test_a_required_dataset_that_nobody_holds_is_not_required_and_that_is_said():
    answered = mutated(review_of(pod(REQUIRED)), Knowing(held={"llama": set()}))
    assert patch_in(answered) == []
    assert "no node is known to hold llama" in answered["response"]["warnings"][0]


def test_stale_knowledge_binds_nobody():
    stale = Knowing(held={"llama": {"n1", "n2"}}, facts={"degraded": "inventory 31 s old"})
    (affinity, _) = patch_in(mutated(review_of(pod(REQUIRED)), stale))
    assert set(affinity["value"]["nodeAffinity"]) == {PREFERRED_TERMS}


def test_required_terms_have_the_label_and_not_the_name():
    labels = {"n1": "ip-10-0-0-1", "n2": "ip-10-0-0-2"}
    patch = patch_in(mutated(review_of(pod(REQUIRED)), holding(), hostname=labels.__getitem__))
    (term,) = patch[0]["value"]["nodeAffinity"][REQUIRED_TERMS]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["ip-10-0-0-1", "ip-10-0-0-2"]


def test_a_dry_run_is_asked_for_as_one_and_patches_the_same():
    real, dry = Knowing(), Knowing()
    answered = [
        mutated(review_of(pod(), dryRun=run), knowing)
        for run, knowing in ((False, real), (True, dry))
    ]
    assert answered[0] == answered[1]
    assert [each.dry_run for each in real.asked + dry.asked] == [False, True]


def test_an_inventory_that_knows_no_labels_is_asked_without_them():
    def unlabelled(question):
        return Knowing(seconds={})(question) if question.selector else THREE

    patch = patch_in(mutated(review_of(pod(nodeSelector={"os": "linux"})), unlabelled))
    assert len(patch[0]["value"]["nodeAffinity"][PREFERRED_TERMS]) == 2


@pytest.mark.parametrize("body", [b"", b"{}", b'{"request":{}}', b'{"request":{"uid":7}}', b"[1]"])
def test_what_is_no_review_is_refused(body):
    with pytest.raises(ValueError, match=r"body|uid"):
        scheduler(Knowing()).post("/k8s/mutate", content=body)


def near_worker(name: str, weight: int) -> dict:
    labels = {"app.kubernetes.io/component": "cachefs-worker", "cachefs.io/node": name}
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "namespaces": ["cachefs"],
        "labelSelector": {"matchLabels": labels},
    }
    return {"weight": weight, "podAffinityTerm": term}


@pytest.mark.parametrize("name", ["kai-scheduler", "runai-scheduler"])
def test_kais_pods_are_drawn_to_the_workers_pods(name):
    own = {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}
    before = pod(schedulerName=name, affinity={"podAffinity": {PREFERRED_TERMS: [own]}})
    after = applied(patch_in(mutated(review_of(before))), before)
    assert after["spec"]["affinity"] == {
        "podAffinity": {PREFERRED_TERMS: [own, near_worker("n1", 100), near_worker("n2", 41)]}
    }


def test_kais_pods_are_bound_by_node_affinity():
    before = pod(REQUIRED, schedulerName="kai-scheduler")
    after = applied(patch_in(mutated(review_of(before), holding())), before)
    assert after["spec"]["affinity"] == {
        "nodeAffinity": {REQUIRED_TERMS: {"nodeSelectorTerms": [{"matchExpressions": [HOSTS]}]}}
    }


HOLD = {"cachefs.io/datasets": "llama", "cachefs.io/hold": "5m"}
GATE = {"name": "cachefs.io/data-ready"}


def coming(question):
    return COMING


def test_pods_are_not_held_unless_somebody_releases_them():
    assert "/spec/schedulingGates" not in json.dumps(
        patch_in(mutated(review_of(pod(HOLD)), coming))
    )


def test_a_pod_whose_data_comes_is_held_by_a_gate_until_it_is_stamped():
    patch = patch_in(mutated(review_of(pod(HOLD)), coming, gates=True))
    assert patch == [{"op": "add", "path": "/spec/schedulingGates", "value": [GATE]}]
    gated = applied(patch, pod(HOLD))
    assert patch_in(mutated(review_of(gated), coming, gates=True)) == []
    assert patch_in(mutated(review_of(gated), lambda _: THREE, gates=True)) == []


def test_the_gates_of_others_are_kept():
    before = pod(HOLD, schedulingGates=[{"name": "kueue"}])
    after = applied(patch_in(mutated(review_of(before), coming, gates=True)), before)
    assert after["spec"]["schedulingGates"] == [{"name": "kueue"}, GATE]
    released_pod = applied(released(after, admission(lambda _: THREE), gated_seconds=1.0), after)
    assert released_pod["spec"]["schedulingGates"] == [{"name": "kueue"}]


def test_a_pod_that_does_not_ask_to_be_held_is_not():
    patch = patch_in(mutated(review_of(pod()), coming, gates=True))
    assert patch[0]["path"] == "/spec/affinity"


def admission(ask) -> Admission:
    return Admission(ask=ask, hostname=own_name, gates=True)


def test_a_gated_pod_waits_for_its_data_and_is_let_go_with_fresh_terms():
    gated = pod(HOLD, schedulingGates=[GATE])
    assert released(gated, admission(coming), gated_seconds=20.0) == []
    after = applied(released(gated, admission(lambda _: THREE), gated_seconds=40.0), gated)
    assert after["spec"]["schedulingGates"] == []
    assert affinity_of(after)[PREFERRED_TERMS][0] == preferring("n1", 100)
    assert after["metadata"]["annotations"]["cachefs.io/hint-id"] == "h-01"


def test_a_gated_pod_is_let_go_when_its_patience_ends():
    gated = pod(HOLD, schedulingGates=[GATE])
    assert released(gated, admission(coming), gated_seconds=299.0) == []
    assert released(gated, admission(coming), gated_seconds=300.0)[-1]["op"] == "remove"


@pytest.mark.parametrize("ask", [broken, ignorant])
def test_a_gated_pod_is_let_go_when_nobody_knows(ask):
    gated = pod(HOLD, schedulingGates=[GATE])
    patch = released(gated, admission(ask), gated_seconds=0.0)
    assert [each["op"] for each in patch] == ["test", "remove"]


def test_a_gate_that_has_moved_is_not_mistaken_for_another():
    patch = released(pod(HOLD, schedulingGates=[GATE]), admission(ignorant), gated_seconds=0.0)
    with pytest.raises(AssertionError):
        applied(patch, pod(HOLD, schedulingGates=[{"name": "kueue"}, GATE]))
