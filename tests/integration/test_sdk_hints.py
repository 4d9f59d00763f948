"""Asking where to run a job never fails it: who cannot be asked has no opinion."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cachefs.config.secrets import make_token
from cachefs.errors import ConfigError
from cachefs.hints.questions import LineBody, QuestionBody
from cachefs.sdk import hint
from cachefs.sdk.hints import (
    Gang,
    Hint,
    OwnPlace,
    RankedNode,
    WaitingJob,
    WantedDataset,
    WantedGpu,
    hint_queue,
    tell_outcome,
)
from tests.integration.sdk_systems import BLOCK, running
from tests.integration.systems import wait_for

ANSWER = {
    "hint_id": "h-01",
    "nodes": [
        {"node": "n2", "rank": 1, "score": 100, "ready_s": {"p50": 9.1, "p90": 12}},
        {"node": "n1", "rank": 2, "score": 40, "ready_s": {"p50": 30, "p90": 41.5}},
    ],
}


class Service(HTTPServer):
    """Answers every question with the same bytes."""

    def __init__(self, status, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = (status, body)
        self.asked = []

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body)))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def token(tmp_path):
    make_token(tmp_path / "token")
    return tmp_path / "token"


def test_nobody_there_means_no_opinion(tmp_path, token):
    found = hint("llama", state=tmp_path / "nothing")
    assert (found.has_opinion, found.nodes) == (False, ())
    assert "not running" in found.reason
    found = hint("llama", coordinator="127.0.0.1:1", token_file=token)
    assert not found.has_opinion
    assert "does not answer" in found.reason


def test_a_queue_is_asked_about_at_once_and_nobody_there_means_no_opinion_for_all(tmp_path, token):
    jobs = [WaitingJob(job=name, datasets=("llama@v2",), gpu=WantedGpu()) for name in "ab"]
    places = [OwnPlace(name="p", node="n1", holds="llama@v2", busy_seconds=3.0)]
    start = {"node": "n1", "place": "p", "now": True}
    body = json.dumps({"hints": [{**ANSWER, "start": start}, {**ANSWER, "start": None}]}).encode()
    with Service(200, body) as service:
        told = hint_queue(
            jobs,
            waiting=9,
            places=places,
            reserve_seconds=30,
            coordinator=service.address,
            token_file=token,
        )
    ((path, asked),) = service.asked
    assert path == "/v1/hints/batch"
    assert [(each.start, each.starts_now) for each in told] == [("p", True), ("", False)]
    line = LineBody.model_validate(asked).value()
    assert (line.waiting, line.places[0].busy_seconds) == (9, 3.0)
    assert [each.reserve_seconds for each in line.questions] == [30, 30]
    nobody = hint_queue(jobs, coordinator="127.0.0.1:1", token_file=token)
    assert [each.has_opinion for each in nobody] == [False, False]
    assert "does not answer" in nobody[0].reason


@pytest.mark.slow
def test_a_running_system_says_where_a_dataset_is_and_hears_how_long_it_took(tmp_path):
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "model.safetensors").write_bytes(bytes(3 * BLOCK))
    with running(tmp_path, {"llama": origin}, warm=("llama",), duties=True) as system:

        def held():
            found = hint("llama", state=system.folder, renderings=["slurm"])
            return found if found.nodes and found.nodes[0].cached == 1.0 else None

        found = wait_for(held)
        assert len(found.nodes) == 1
        assert found.nodes[0].bottleneck
        assert found.document["renderings"]["slurm"]["arguments"]
        told = {"node": found.nodes[0].node, "state": system.folder}
        assert tell_outcome(found, ready_seconds=1.0, phases={"init": 0.5}, **told)
        after = hint("llama", "nobody/knows@abcd", gang=Gang(size=2), state=system.folder)
        assert after.document["nodes"][0]["breakdown"]["init_s"] == 0.5
        assert after.gang == (found.nodes[0].node,) * 2
        assert after.reason == "there is no dataset nobody/knows@abcd"
        assert not tell_outcome(Hint(), ready_seconds=1.0, **told)
        system.kill("coordinator")
        assert not tell_outcome(found, ready_seconds=1.0, **told)
        found = hint("llama", state=system.folder)
    assert not found.has_opinion
    assert "does not answer" in found.reason


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"oops", "500"),
        (200, b"<html>", "not JSON"),
        (200, b"[]", "makes no sense"),
        (200, b'{"nodes": [{"node": "n1"}]}', "makes no sense"),
        (200, b'{"nodes": 7}', "makes no sense"),
        (200, b'{"nodes": []}', "no node is known"),
    ],
)
def test_an_answer_without_sense_is_no_opinion(token, status, body, reason):
    with Service(status, body) as service:
        found = hint("llama", coordinator=service.address, token_file=token)
    assert not found.has_opinion
    assert reason in found.reason


def test_an_answer_is_a_ranking(token):
    with Service(200, json.dumps(ANSWER).encode()) as service:
        found = hint(
            "cachefs://llama@beef",
            WantedDataset(
                name="team/adapter",
                paths=("*.safetensors",),
                by_rank=True,
                required=True,
                weight=2.0,
            ),
            job="j1",
            gang=Gang(size=8, required_topology="zone"),
            gpu=WantedGpu(memory_gib=80),
            candidates=["n1", "n2"],
            reserve_seconds=30,
            coordinator=service.address,
            token_file=token,
        )
    assert found.has_opinion
    assert found.nodes[0] == RankedNode(
        node="n2", score=100, ready_seconds=9.1, ready_seconds_p90=12.0
    )
    assert found.document == ANSWER
    ((path, question),) = service.asked
    assert path == "/v1/hints"
    assert question["datasets"] == [
        {
            "name": "llama",
            "revision": "beef",
            "paths": [],
            "shard": None,
            "affinity": "preferred",
            "weight": 1.0,
        },
        {
            "name": "team/adapter",
            "revision": None,
            "paths": ["*.safetensors"],
            "shard": "rank",
            "affinity": "required",
            "weight": 2.0,
        },
    ]
    assert QuestionBody.model_validate(question).value().gang == Gang(
        size=8, least=8, required_topology="zone"
    )
    assert question["gang"] == {
        "size": 8, "min_available": 8, "topology": {"required": "zone", "preferred": None},
    }  # fmt: skip
    assert question["gpu"]["memory_gib"] == 80
    assert question["reserve"] == {"ttl_s": 30}


@pytest.mark.parametrize("name", ["Bad Name", "llama@beef/config.json", ""])
def test_a_name_that_cannot_be_is_refused(name):
    with pytest.raises(ConfigError):
        hint(name)
