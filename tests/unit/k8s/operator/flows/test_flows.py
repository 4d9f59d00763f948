"""Flows and their runs as objects: what is asked of the coordinator, and what statuses say."""

import pytest

from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import (
    CapacityError,
    ConfigError,
    ConflictError,
    CoordinatorUnavailableError,
    NotAllowedError,
    NotKnownError,
)
from cachefs.k8s.crds.flows import parse
from cachefs.k8s.crds.runs import parse as parse_run
from cachefs.k8s.operator.actions import Ask, Patch, Tell
from cachefs.k8s.operator.flows import flows, runs

NOW = 1_767_225_600.0
STEP = {"id": "a", "kind": "prefetch", "with": {"dataset": "llama"}}


def a_flow(generation=1, status=None, **spec):
    document = {
        "apiVersion": "cachefs.io/v1alpha1",
        "kind": "Flow",
        "metadata": {"name": "f", "namespace": "team", "uid": "u", "generation": generation},
        "spec": {"steps": [STEP], **spec},
    }
    return document if status is None else document | {"status": status}


def compared(document, *, registered=None, problem=None, last_run=""):
    seen = flows.Seen(at=NOW, registered=registered, last_run=last_run, problem=problem)
    return flows.reconcile(document, parse(document), seen)


def asked(actions):
    return [(one.method, one.path) for one in actions if isinstance(one, Ask)]


def status_after(document, actions):
    (patch,) = [one for one in actions if isinstance(one, Patch)] or [None]
    changed = {} if patch is None else patch.patch["status"]
    merged = {**(document.get("status") or {}), **changed}
    return {name: value for name, value in merged.items() if value is not None}


def states(status):
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


CRON = [{"cron": "0 3 * * *"}]


def test_a_flow_with_triggers_is_registered_once():
    document = a_flow(triggers=CRON)
    actions = compared(document)
    assert asked(actions) == [("POST", "/v1/flows")]
    body = actions[0].body
    assert read_flow(body["document"], name="flow").full_name == "team/f"
    document["status"] = status_after(document, actions)
    assert states(document["status"]) == {
        "Valid": ("True", "Valid"),
        "Registered": ("True", "Registered"),
    }
    assert compared(document, registered={"owner": body["owner"]}) == ()


def test_one_that_has_changed_or_belongs_to_another_object_is_registered_anew():
    owner = flows.owner_of(a_flow(1))
    assert asked(compared(a_flow(2, triggers=CRON), registered={"owner": owner}))
    assert asked(compared(a_flow(1, triggers=CRON), registered={"owner": "kubernetes old 1"}))


def test_one_without_triggers_is_not_registered_and_is_taken_back():
    owner = {"owner": flows.owner_of(a_flow())}
    assert asked(compared(a_flow())) == []
    assert asked(compared(a_flow(triggers=[{"manual": {}}]))) == []
    assert asked(compared(a_flow(2), registered=owner)) == [("DELETE", "/v1/flows/team/f")]


def test_a_flow_that_a_person_registered_is_never_taken_back():
    assert flows.gone("team", "f", {"owner": ""}) == ()
    assert asked(flows.gone("team", "f", {"owner": "kubernetes u 1"})) == [
        ("DELETE", "/v1/flows/team/f")
    ]
    assert flows.gone("team", "f", None) == ()


def test_a_webhook_whose_token_nobody_would_know_is_not_registered():
    document = a_flow(triggers=[{"webhook": {}}])
    actions = compared(document)
    assert asked(actions) == []
    assert states(status_after(document, actions))["Registered"] == ("False", "NoSecret")
    assert asked(compared(a_flow(triggers=[{"webhook": {"secret": "env:HOOK"}}])))


def test_problems_are_said_each_with_its_place():
    document = a_flow(triggers=CRON)
    document["spec"]["steps"] = [{"id": "a", "kind": "prefetsch", "needs": ["b"]}]
    with pytest.raises(ConfigError) as raised:
        read_flow(flows.text_of(parse(document).document()), name=flows.FILE)
    actions = compared(document, problem=raised.value)
    assert asked(actions) == [], "what was registered before stays as it was"
    status = status_after(document, actions)
    assert states(status)["Valid"] == ("False", "Invalid")
    assert len(status["problems"]) == 2
    assert all(one.startswith("spec.steps.a.") for one in status["problems"]), "no line of our own"
    (valid,) = [one for one in status["conditions"] if one["type"] == "Valid"]
    assert valid["message"] == f"{status['problems'][0]} (and 1 more)"
    # It is not asked about again until it changes, and keeps what was said.
    document["status"] = status
    assert not flows.needs_check(document)
    assert compared(document) == ()
    document["metadata"]["generation"] = 2
    assert flows.needs_check(document)


def test_a_coordinator_that_is_away_says_nothing_of_a_flow():
    document = a_flow()
    actions = compared(document, problem=CoordinatorUnavailableError("away"))
    assert states(status_after(document, actions))["Valid"] == ("Unknown", "NotChecked")
    assert flows.needs_check({**document, "status": status_after(document, actions)})


def test_a_flow_that_its_namespace_may_not_have_says_so_and_is_asked_about_again():
    document = a_flow()
    status = status_after(document, compared(document, problem=NotAllowedError("of their own")))
    assert states(status)["Valid"] == ("Unknown", "NotAllowed")
    assert status["problems"] == ["of their own"]
    assert flows.needs_check({**document, "status": status})


# ---- runs ---------------------------------------------------------------------------------------


def a_run(generation=1, status=None, **spec):
    document = {
        "apiVersion": "cachefs.io/v1alpha1",
        "kind": "FlowRun",
        "metadata": {"name": "r", "namespace": "team", "uid": "u", "generation": generation},
        "spec": {"flow": "f", **spec},
    }
    return document if status is None else document | {"status": status}


def found(state="Running", *, wants="", ending="", failure="", steps=(), **progress):
    moving = {
        "done": 0.0,
        "total": 0.0,
        "unit": "bytes",
        "seconds_left": None,
        "note": "",
    }
    return {
        "run": {
            "id": "f-1",
            "state": state,
            "wants": wants,
            "ending": ending,
            "failure": failure,
            "started_at": NOW,
            "ended_at": NOW + 5 if state in runs.OVER else 0.0,
        },
        "progress": moving | progress,
        "steps": [
            {"id": name, "state": its, "failure": "", "progress": moving | more}
            for name, its, more in steps
        ],
    }


def wished(document, **run):
    return asked(runs.wishes(document, parse_run(document), found(**run)["run"]))


def test_a_key_leads_back_to_its_object_and_another_s_does_not():
    assert runs.object_of(runs.key_of(a_run())) == ("team", "r", "u")
    for other in ("", "mine", "kubernetes", "kubernetes team/r", "kubernetes a/b/c d"):
        assert runs.object_of(other) is None


SEEN = {"observedGeneration": 1}
WISHES = [
    ("nothing", a_run(status=SEEN), {}, []),
    ("cancel", a_run(cancel=True), {}, ["cancel"]),
    ("cancelled already", a_run(cancel=True), {"wants": "cancel"}, []),
    ("over", a_run(cancel=True), {"state": "Succeeded"}, []),
    ("ending", a_run(cancel=True), {"ending": "Failed"}, []),
    ("pause", a_run(pause=True), {}, ["pause"]),
    ("paused already", a_run(pause=True), {"wants": "pause"}, []),
    ("resume", a_run(2, status=SEEN), {"wants": "pause", "state": "Paused"}, ["resume"]),
    ("paused by somebody else", a_run(status=SEEN), {"wants": "pause", "state": "Paused"}, []),
    ("cancel what is paused", a_run(cancel=True, pause=True), {"wants": "pause"}, ["cancel"]),
]


@pytest.mark.parametrize(
    ("document", "run", "wishes"), [one[1:] for one in WISHES], ids=[one[0] for one in WISHES]
)
def test_wishes_are_passed_on_once(document, run, wishes):
    assert wished(document, **run) == [("POST", f"/v1/runs/f-1/{wish}") for wish in wishes]


def test_a_status_says_how_far_a_run_is():
    steps = [
        ("a", "Succeeded", {"done": 1024.0, "total": 1024.0}),
        ("b", "Running", {}),
        ("b[0]", "Running", {"done": 512.0, "total": 2048.0, "note": "slow"}),
        ("c", "Running", {"unit": "replicas", "done": 1.0, "total": 3.0}),
    ]
    document = a_run()
    seen = found(steps=steps, done=1536.0, total=3072.0, seconds_left=30.0)
    actions = runs.mirror(document, seen, at=NOW)
    status = status_after(document, actions)
    assert status["progress"] == "1/3 steps, 1.50 KiB of 3.00 KiB, 30.0 s left"
    assert status["bytes"] == 1536
    assert status["steps"] == [
        {"id": "a", "phase": "Succeeded", "progress": "1.00 KiB of 1.00 KiB"},
        {"id": "b", "phase": "Running"},
        {"id": "b[0]", "phase": "Running", "progress": "512 B of 2.00 KiB", "message": "slow"},
        {"id": "c", "phase": "Running", "progress": "1 of 3 replicas"},
    ]
    assert states(status) == {
        "Submitted": ("True", "Submitted"),
        "Succeeded": ("Unknown", "Running"),
    }
    assert [one.reason for one in actions if isinstance(one, Tell)] == ["Running"]
    document["status"] = status
    assert runs.mirror(document, seen, at=NOW + 9) == (), "what is the same is not written again"


@pytest.mark.parametrize(
    ("state", "succeeded", "warning"),
    [
        ("Succeeded", "True", False),
        ("Failed", "False", True),
        ("Cancelled", "False", False),
        ("RolledBack", "False", True),
    ],
)
def test_an_end_is_told_and_then_it_is_over(state, succeeded, warning):
    document = a_run(status={"phase": "Running"})
    actions = runs.mirror(document, found(state, failure="why"), at=NOW)
    status = status_after(document, actions)
    assert states(status)["Succeeded"] == (succeeded, state)
    assert status["endedAt"] == "2026-01-01T00:00:05Z"
    (told,) = [one for one in actions if isinstance(one, Tell)]
    assert told.warning == warning
    document["status"] = status
    assert runs.is_over(document)
    document["metadata"]["generation"] = 2
    assert not runs.is_over(document), "a wish that came late is still looked at"


@pytest.mark.parametrize(
    ("error", "phase"),
    [
        (ConfigError("no such step"), "Failed"),
        (ConflictError("the group is busy"), "Failed"),
        (CapacityError("too many runs wait"), "Pending"),
        (CoordinatorUnavailableError("away"), "Pending"),
    ],
)
def test_what_cannot_be_submitted_says_why_and_whether_it_is_tried_again(error, phase):
    document = a_run()
    status = status_after(document, runs.unsubmitted(document, error, at=NOW))
    assert (status["phase"], status["message"]) == (phase, str(error))
    assert runs.is_over({**document, "status": status}) == (phase == "Failed")


def test_what_cannot_be_submitted_is_told_once():
    error = NotKnownError("there is no Flow f in namespace team")
    actions = runs.unsubmitted(a_run(), error, at=NOW)
    (told,) = [one for one in actions if isinstance(one, Tell)]
    assert (told.reason, told.message, told.warning) == ("NotKnown", str(error), True)
    again = a_run(status=status_after(a_run(), actions))
    assert runs.unsubmitted(again, error, at=NOW + 9) == ()
    away = runs.unsubmitted(a_run(), CoordinatorUnavailableError("away"), at=NOW)
    assert not [one for one in away if isinstance(one, Tell)]


@pytest.mark.parametrize(
    ("spec", "place"), [({}, "Flow f"), ({"flow": None, "document": {}}, "document")]
)
def test_a_run_says_in_which_document_a_problem_is(spec, place):
    error = ConfigError("flow:3:9: spec.steps.a.needs[0]: unknown step 'b'")
    status = status_after(a_run(), runs.unsubmitted(a_run(**spec), error, at=NOW))
    assert status["message"] == f"{place}: spec.steps.a.needs[0]: unknown step 'b'"


def test_a_run_that_the_coordinator_has_forgotten_keeps_its_end():
    ended = a_run(status={"phase": "Succeeded", "run": "f-1"})
    assert runs.forgotten(ended, at=NOW) == ()
    lost = a_run(status={"phase": "Running", "run": "f-1"})
    assert status_after(lost, runs.forgotten(lost, at=NOW))["phase"] == "Failed"
