"""The HTTP API of hints: exactly the fields that it promises, and only questions without sense refused."""

import json

import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.testclient import TestClient

from cachefs.core.hints.asking import Affinity, LoaderMode
from cachefs.core.hints.nodes import GIB
from cachefs.errors import ConfigError
from cachefs.hints.questions import QuestionBody
from cachefs.hints.renderings import RENDERINGS
from cachefs.hints.routes import hint_routers
from cachefs.hints.watching import Watchers
from tests.unit.hints.service.known import LLAMA, SIZE, Site

QUESTION = {
    "job_id": "j1",
    "tenant": "team-a",
    "datasets": [{"name": "llama", "revision": "v2", "paths": ["*.safetensors"], "shard": "rank"}],
    "gang": {"size": 2, "min_available": 2, "topology": {"required": "zone", "preferred": "rack"}},
    "gpu": {
        "count": 1,
        "model": "H100",
        "memory_gib": 80,
        "mig_profile": None,
        "fraction": None,
    },
    "candidates": ["n1", "n2"],
    "selector": {},
    "loader": {"mode": "pipelined", "required_fraction": 1.0},
    "deadline_s": 60,
    "expected_duration_s": 600,
    "max_staleness_s": 5,
    "reserve": {"ttl_s": 30},
    "limit": 32,
    "explain": True,
}
"""Every field that the API promises to take."""
NODE = {
    "node": ..., "rank": ..., "score": ..., "confidence": ..., "age_s": ...,
    "ready_s": {"p50", "p90"},
    "breakdown": {"slot_s", "image_s", "data_s", "load_s", "init_s", "bottleneck"},
    "bytes": {
        "total", "gpu", "dram", "dram_far", "nvme", "inflight", "peer_rack", "peer_zone",
        "peer_remote", "origin",
    },
    "inflight": ...,
    "fits": {"ok", "gpus_free", "mig", "numa", "reason"},
    "topology": {"rack", "zone", "region"},
    "cost": {"egress_usd", "gpu_idle_usd"},
}  # fmt: skip
ANSWER = {
    "hint_id", "generated_at", "epoch", "valid_until", "nodes", "gang", "wait", "reservation",
    "start", "actions", "refused", "degraded", "renderings",
}  # fmt: skip


@pytest.fixture
def site():
    site = Site()
    for name in ("n1", "n2"):
        site.known.put(name)
    site.known.hold(LLAMA, SIZE, n2=0.5)
    return site


@pytest.fixture
def client(site):
    app = FastAPI()
    for router in hint_routers(site.service, Watchers(site.service, site.clock, limit=2)):
        app.include_router(router)
    return TestClient(app)


def test_an_answer_has_every_field_that_is_promised(client):
    answer = client.post("/v1/hints", json=QUESTION).json()
    assert answer.keys() == ANSWER
    for node in answer["nodes"]:
        assert node.keys() == NODE.keys()
        for name, fields in NODE.items():
            if fields is not ...:
                assert node[name].keys() == fields
    sizes = answer["nodes"][0]["bytes"]
    parts = [value for name, value in sizes.items() if name not in ("total", "dram_far")]
    assert sizes["total"] == sum(parts) > 0
    assert answer["gang"].keys() == {"assignment", "domain", "ready_s", "bottleneck"}
    assert answer["gang"]["assignment"].keys() == {"0", "1"}
    assert answer["wait"] == {
        "worth_waiting": False,
        "node": None,
        "free_in_s": None,
        "ready_s": None,
        "reservation_token": None,
        "expires_at": None,
    }
    assert answer["reservation"]["job_id"] == "j1"
    assert len(answer["reservation"]["nodes"]) == 2
    assert answer["actions"][0].keys() == {"kind", "dataset", "node", "bytes", "seconds", "job"}
    assert answer["renderings"].keys() == RENDERINGS.keys()
    assert answer["generated_at"] < answer["valid_until"]
    assert answer["generated_at"].endswith("Z")


def test_a_question_is_understood_field_by_field():
    asked = QuestionBody.model_validate(
        {
            **QUESTION,
            "image": {"name": "vllm:1", "bytes": 5 * GIB},
            "loader": {"mode": "lazy", "required_fraction": 0.2},
            "datasets": [{"name": "cachefs://team/a@v2", "affinity": "required", "weight": 3}],
            "prefetch": True,
        }
    ).value()
    (reading,) = asked.readings
    assert (str(reading.dataset), reading.version) == ("team/a", "v2")
    assert (reading.affinity, reading.weight) == (Affinity.REQUIRED, 3.0)
    assert (asked.job, asked.tenant, asked.image, asked.image_bytes) == (
        "j1", "team-a", "vllm:1", 5 * GIB,
    )  # fmt: skip
    assert (asked.gang.size, asked.gang.required_topology) == (2, "zone")
    assert (asked.gpu.model, asked.gpu.memory_gib) == ("H100", 80)
    assert (asked.loader.mode, asked.loader.fraction) == (LoaderMode.LAZY, 0.2)
    assert (asked.deadline_seconds, asked.expected_seconds) == (60, 600)
    assert (asked.staleness_seconds_max, asked.reserve_seconds) == (5, 30)
    assert (asked.limit, asked.explain, asked.prefetch) == (32, True, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": []},
        {"datasets": [{"name": "llama", "pats": []}]},
        {"gang": {"size": 0}},
        {"gang": {"size": 2, "topology": {"required": "planet"}}},
        {"gpu": {"count": 2, "fraction": 0.5}},
        {"loader": {"mode": "fast"}},
        {"datasets": [{"name": "Bad Name"}]},
        {"datasets": [{"name": "llama@aaaa", "revision": "bbbb"}]},
        {"deadline_s": -1},
        {"limit": 0},
    ],
    ids=str,
)
def test_a_question_without_sense_is_refused(wrong):
    with pytest.raises((ValidationError, ConfigError)):
        QuestionBody.model_validate({"datasets": [{"name": "llama"}], **wrong}).value()


def test_an_unknown_rendering_is_refused_before_anything_is_kept_for_it(site, client):
    question = {"datasets": [{"name": "llama"}], "reserve": {"ttl_s": 9}, "renderings": ["borg"]}
    with pytest.raises(ConfigError, match="no such rendering"):
        client.post("/v1/hints", json=question)
    assert site.service.reservations() == ()


def test_openapi_shows_questions_and_answers(client):
    shown = client.get("/openapi.json").json()
    ask = shown["paths"]["/v1/hints"]["post"]
    assert ask["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "HintBody"
    )
    schemas = shown["components"]["schemas"]
    assert schemas["HintBody"]["properties"].keys() == ANSWER
    assert schemas["NodeBody"]["properties"].keys() == NODE.keys()
    assert QUESTION.keys() <= schemas["QuestionBody"]["properties"].keys()


def test_only_the_renderings_that_are_named_are_made(client):
    question = {"datasets": [{"name": "llama"}], "renderings": ["slurm"]}
    assert client.post("/v1/hints", json=question).json()["renderings"].keys() == {"slurm"}
    assert client.post("/v1/hints", json={**question, "renderings": []}).json()["renderings"] == {}


def test_places_are_listed_claimed_and_cancelled(client):
    question = {"datasets": [{"name": "llama"}], "job_id": "j1", "reserve": {"ttl_s": 30}}
    token = client.post("/v1/hints", json=question).json()["reservation"]["token"]
    (listed,) = client.get("/v1/reservations").json()["reservations"]
    assert (listed["token"], listed["job_id"], listed["nodes"]) == (token, "j1", ["n2"])
    assert client.post(f"/v1/reservations/{token}/claim").status_code == 204
    assert client.delete(f"/v1/reservations/{token}").status_code == 204
    assert client.get("/v1/reservations").json() == {"reservations": []}


def test_all_jobs_of_a_queue_are_asked_about_at_once(site, client):
    site.known.put("n1", gpus=1)
    site.known.put("n2", gpus=1)
    jobs = [{"job_id": name, "datasets": [{"name": "llama"}], "gpu": {}} for name in "abc"]
    jobs[0]["reserve"] = {"ttl_s": 30}
    jobs[2]["renderings"] = ["slurm"]
    hints = client.post("/v1/hints/batch", json={"jobs": jobs, "waiting": 9}).json()["hints"]

    assert [hint.keys() for hint in hints] == [ANSWER] * 3
    assert sorted(hint["start"]["node"] for hint in hints if hint["start"]) == ["n1", "n2"]
    assert hints[0]["reservation"]["nodes"] == [hints[0]["start"]["node"]]
    assert hints[0]["start"].keys() == {"node", "place", "now", "ready_s", "breakdown"}
    assert [list(hint["renderings"]) for hint in hints] == [[], [], ["slurm"]]
    place = {"name": "p", "node": "n1", "holds": "llama", "busy_s": None, "idle_s": 2.0}
    own = client.post("/v1/hints/batch", json={"jobs": jobs[1:2], "places": [place]}).json()
    assert own["hints"][0]["start"]["place"] == "p"
    assert client.post("/v1/hints/batch", json={"jobs": []}).status_code == 422


def test_an_outcome_is_taken(client):
    hint = client.post("/v1/hints", json={"datasets": [{"name": "llama"}]}).json()
    said = hint["nodes"][0]
    body = {"node": said["node"], "ready_s": 2 * said["ready_s"]["p50"], "phases": {"init": 1.5}}
    learned = client.post(f"/v1/hints/{hint['hint_id']}/outcome", json=body).json()
    assert learned["error_ratio"] == pytest.approx(2.0, rel=0.01)
    assert learned["bottleneck"] == said["breakdown"]["bottleneck"]


def test_an_answer_of_thousands_of_nodes_is_still_json_without_infinities(site, client):
    for number in range(2000):
        site.known.put(f"m{number:04}")
    answer = client.post(
        "/v1/hints", json={"datasets": [{"name": "llama"}], "limit": 5000, "renderings": []}
    )
    assert len(answer.json()["nodes"]) == 2002
    assert "Infinity" not in answer.text
    assert json.loads(answer.text)["nodes"][-1]["rank"] == 2002
