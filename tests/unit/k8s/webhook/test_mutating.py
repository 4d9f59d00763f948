"""Reviews and their answers, whole, as they go over the wire; and what two required datasets mean."""

import base64
import copy
import json
from pathlib import Path

import pytest

from cachefs.core.names import DatasetName
from cachefs.errors import CoordinatorUnavailableError
from cachefs.hints.consumers.admission import Admission
from cachefs.k8s.webhook.injecting import Injecting, Mode
from cachefs.k8s.webhook.mutating import Mutation
from tests.unit.hints.consumers.schedulers import Knowing
from tests.unit.hints.making import COMING
from tests.unit.hints.service.known import LLAMA, Site
from tests.unit.k8s.webhook.pods import SETTINGS, operations_of, patched, pod, review

GOLDEN = Path(__file__).parent / "golden"
TOKENS = DatasetName.parse("tokens")
GIB = 1 << 30
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
READS = {"cachefs.io/datasets": "llama"}
BOTH = {"cachefs.io/datasets": "llama, tokens", "cachefs.io/affinity": "required"}


def hinted(made):
    """Return a pod with the label by which it gets affinity."""
    made["metadata"]["labels"]["cachefs.io/hint"] = "true"
    return made


def mutation(ask, *, gates=False, default=Mode.CSI):
    """Return what answers reviews, with the coordinator's own code in place of a call to it."""
    admission = Admission(ask=ask, gates=gates)

    def coordinator(sent):
        return {"response": admission.response(sent["request"])}

    return Mutation(coordinator, Injecting(SETTINGS, default))


def answered(sent, ask=None, **options):
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    return mutation(ask or Knowing(), **options).answer(body)


USERS = {
    "nodeAffinity": {
        REQUIRED: {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]},
            ]
        },
        PREFERRED: [
            {"weight": 7, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}
        ],
    }
}
CASES = {
    "a pod is created": lambda: review(hinted(pod("files", READS))),
    "a dry run": lambda: review(hinted(pod("files", READS)), dryRun=True),
    "called again": lambda: review(
        hinted(pod("files", {**READS, "cachefs.io/hint-id": "h-1", "cachefs.io/injected": "files"}))
    ),
    "with affinity of its own": lambda: review(
        hinted(pod("", READS, affinity=copy.deepcopy(USERS)))
    ),
    "two required datasets": lambda: review(hinted(pod("csi", BOTH, volumes=[]))),
    "a bad annotation": lambda: review(
        hinted(pod("files", {"cachefs.io/datasets": "llama", "cachefs.io/affinity": "perhaps"}))
    ),
    "a bad mode": lambda: review(hinted(pod("anything", READS))),
    "a gate": lambda: review(
        hinted(pod("endpoint", {**READS, "cachefs.io/hold": "10m"}, volumes=[]))
    ),
    "only injected": lambda: review(pod("sidecar")),
    "only hinted": lambda: review(hinted(pod())),
    "neither": lambda: review(pod()),
    "an update": lambda: review(hinted(pod("files", READS)), operation="UPDATE"),
    "a subresource": lambda: review(hinted(pod("files", READS)), subResource="ephemeralcontainers"),
}


def knowing(case):
    if case == "a gate":
        return lambda _: COMING
    return Knowing(held={"llama": {"n1", "n2"}, "tokens": {"n2", "n3"}})


@pytest.mark.parametrize("case", CASES)
def test_a_review_is_answered_exactly_so(case):
    answer, _ = answered(CASES[case](), knowing(case), gates=case == "a gate")
    told = {**answer, "response": {**answer["response"], "patch": operations_of(answer)}}
    expected = json.loads((GOLDEN / f"{case}.json").read_text())
    assert json.loads(json.dumps(told)) == expected["answer"]
    assert CASES[case]() == expected["review"]


def test_every_case_has_its_golden_file():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_allowed_and_what_comes_of_it_can_be_made(case):
    sent = CASES[case]()
    answer, _ = answered(sent, knowing(case), gates=case == "a gate")
    assert answer["response"]["allowed"] is True
    assert answer["response"]["uid"] == "u-1"
    after = patched(sent["request"]["object"], operations_of(answer))
    if operations_of(answer):  # and when the webhook is called once more, nothing else comes of it
        again, _ = answered(review(after), knowing(case), gates=case == "a gate")
        assert operations_of(again) == []


def test_a_dry_run_changes_the_pod_alike_and_keeps_nothing():
    asked = Knowing(held={"llama": {"n1"}})
    wet, _ = answered(CASES["a pod is created"](), asked)
    dry, _ = answered(CASES["a dry run"](), asked)
    assert operations_of(wet) == operations_of(dry)
    assert [each.dry_run for each in asked.asked] == [False, True]


@pytest.mark.parametrize("failure", [CoordinatorUnavailableError("gone"), KeyError("a bug")])
def test_without_a_hint_a_pod_is_injected_into_all_the_same(failure):
    def fails(_sent):
        raise failure

    sent = review(hinted(pod("files", READS)))
    answer, outcome = Mutation(fails, Injecting(SETTINGS)).answer(json.dumps(sent).encode())
    assert answer["response"]["allowed"] is True
    assert outcome.injected == "files"
    assert outcome.failures == ["hint"]
    assert ("warnings" in answer["response"]) == isinstance(failure, CoordinatorUnavailableError)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"response": {"patch": "not base64!"}},
        {"response": {"patch": base64.b64encode(b"{}").decode()}},
        {"response": {"patch": base64.b64encode(b'[{"op":"remove","path":"/spec"}]').decode()}},
        {"response": {"patch": base64.b64encode(b"[1]").decode()}},
        {"response": []},
        {},
    ],
)
def test_a_coordinator_that_speaks_nonsense_changes_nothing(nonsense):
    sent = review(hinted(pod("", READS)))
    answer, _ = Mutation(lambda _: nonsense, Injecting(SETTINGS)).answer(json.dumps(sent).encode())
    assert answer["response"]["allowed"] is True
    assert operations_of(answer) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"{}",
        b'{"request": 7}',
        b'{"request": {"uid": 7}}',
        b'{"request": {"uid": "u-1", "operation": "CREATE", "kind": {"kind": "Pod"}, "object": 7}}',
        b"[" * 100_000,
        json.dumps(review({"metadata": 7, "spec": {"containers": [7]}})).encode(),
        json.dumps(
            review(
                {
                    "metadata": {"labels": {"cachefs.io/inject": "files"}},
                    "spec": {"containers": [{"volumeMounts": 7}], "volumes": [7, {"csi": 7}]},
                }
            )
        ).encode(),
        json.dumps(review(None)).encode(),
    ],
)
def test_whatever_is_sent_the_answer_allows_it(body):
    answer, _ = answered(body)
    assert answer["response"]["allowed"] is True
    assert operations_of(answer) == []
    assert answer["kind"] == "AdmissionReview"


def test_a_warning_is_one_line_of_a_length_that_is_shown():
    answer, _ = answered(review(pod("x\n" + "y" * 1000)))
    (warning,) = answer["response"]["warnings"]
    assert len(warning) <= 256
    assert warning.isprintable()


# Two required datasets mean AND, whatever the user's own terms say.

NODES = {
    "holds both": {"llama", "tokens"},
    "holds the first": {"llama"},
    "holds the second": {"tokens"},
    "holds neither": set(),
}
SSD = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
ZONE_B = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}
NAMED = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["holds both"]}]}
EMPTY: dict = {}


def may_run(made, node, labels):
    """Say whether the scheduler lets a pod go to a node: terms mean or, what is in one means and."""
    required = (
        made["spec"]
        .get("affinity", {})
        .get("nodeAffinity", {})
        .get(REQUIRED, {"nodeSelectorTerms": None})
    )
    terms = required["nodeSelectorTerms"]
    if terms is None:
        return True
    facts = {**labels, "kubernetes.io/hostname": node, "metadata.name": node}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(
            facts.get(each["key"]) in each["values"]
            for each in (*term.get("matchExpressions", ()), *term.get("matchFields", ()))
        )
        for term in terms
    )


@pytest.mark.parametrize(
    ("terms", "allows"),
    [
        (None, lambda _node, _labels: True),
        ([SSD], lambda _node, labels: labels["disk"] == "ssd"),
        ([SSD, ZONE_B], lambda _node, labels: labels["disk"] == "ssd" or labels["zone"] == "b"),
        ([NAMED], lambda node, _labels: node == "holds both"),
        ([NAMED, SSD], lambda node, labels: node == "holds both" or labels["disk"] == "ssd"),
        ([EMPTY, SSD], lambda _node, labels: labels["disk"] == "ssd"),
        ([EMPTY], lambda _node, _labels: False),
    ],
)
def test_two_required_datasets_mean_and_within_what_the_user_allows(terms, allows):
    site = Site()
    for node in NODES:
        site.known.put(node)
    for dataset in (LLAMA, TOKENS):
        holders = {node: 1.0 for node, held in NODES.items() if str(dataset) in held}
        site.known.hold(dataset, 3 * GIB, **holders)
    made = hinted(pod("csi", BOTH, volumes=[]))
    if terms is not None:
        affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": copy.deepcopy(terms)}}}
        made["spec"]["affinity"] = affinity
    answer, _ = answered(review(made), site.service.answer)
    after = patched(made, operations_of(answer))
    for node, held in NODES.items():
        for labels in (
            {"disk": disk, "zone": zone} for disk in ("ssd", "hdd") for zone in ("a", "b")
        ):
            wanted = held == {"llama", "tokens"} and allows(node, labels)
            assert may_run(after, node, labels) == wanted, (node, labels)
