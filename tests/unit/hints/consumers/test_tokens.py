"""Who may call what schedulers call."""

import base64

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from cachefs.config.secrets import Secret
from cachefs.coordinator.gate import Gate
from cachefs.hints.consumers import routers
from cachefs.hints.consumers.tokens import scheduler_door, scheduler_token
from tests.unit.hints.consumers.schedulers import Knowing, pod

CLUSTERS = Secret("the cluster's token")
SCHEDULERS = scheduler_token(CLUSTERS).reveal()


def status(path: str, header: str) -> int:
    app = FastAPI()
    for router in routers(Knowing(), lambda: 0.0):
        app.include_router(router)
    app.get("/v1/view")(lambda: {"epoch": 1})
    gate = Gate(app, CLUSTERS, request_limit_bytes=1 << 20, admits=scheduler_door(CLUSTERS))
    client = TestClient(gate)
    sent = {"Pod": pod(), "NodeNames": ["n1"], "nodes": [], "request": {"uid": "u"}}
    method = client.get if path.startswith("/v1") else client.post
    body = {} if path.startswith("/v1") else {"json": sent}
    return method(path, headers={"Authorization": header} if header else {}, **body).status_code


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"cachefs:{password}".encode()).decode()


FOR_SCHEDULERS = (
    "/k8s/extender/filter",
    "/k8s/extender/prioritize",
    "/k8s/mutate",
    "/volcano/prioritize",
)


@pytest.mark.parametrize("path", FOR_SCHEDULERS)
def test_a_scheduler_shows_its_token_in_the_url_or_as_a_bearer(path):
    assert status(path, basic(SCHEDULERS)) == 200
    assert status(path, f"Bearer {SCHEDULERS}") == 200
    assert status(path, f"Bearer {CLUSTERS.reveal()}") == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !",
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        basic(""),
        basic("wrong"),
        basic("the cluster's token"),
        f"Digest {SCHEDULERS}",
    ],
)
def test_nobody_else_is_let_in(header):
    assert {status(path, header) for path in FOR_SCHEDULERS} == {401}


@pytest.mark.parametrize("header", [basic(SCHEDULERS), f"Bearer {SCHEDULERS}"])
def test_the_schedulers_token_opens_nothing_else(header):
    assert status("/v1/view", header) == 401
    assert status("/v1/view", f"Bearer {CLUSTERS.reveal()}") == 200


def test_the_schedulers_token_follows_from_the_clusters():
    assert scheduler_token(CLUSTERS).reveal() == SCHEDULERS
    assert scheduler_token(Secret("another")).reveal() != SCHEDULERS
    assert CLUSTERS.reveal() not in SCHEDULERS
