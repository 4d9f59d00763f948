"""Hints of a real system: by HTTP, gRPC and command line, over a kill of the coordinator.

One system serves all tests of this file; each names its jobs for itself.
"""

import contextlib
import http.client
import json
import os
import threading

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typer.testing import CliRunner

from cachefs.cli.exits import exit_code
from cachefs.cli.hinting.commands import app
from cachefs.errors import CacheFSError, ConfigError, NotKnownError
from cachefs.hints.consumers.tokens import scheduler_token
from cachefs.transport.control import coordinator_channel
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc
from tests.integration.systems import System, wait_for

BLOCK = 64 * 1024
SIZE = 8 * BLOCK
TIMEOUT_SECONDS = 20
NODES = {"node-w1", "node-w2"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hints")
    with System(folder, block_size=BLOCK, duties=True) as system:
        system.start_coordinator()
        for name in ("w1", "w2"):
            system.start_worker(name, node_name=f"node-{name}", rack="r1")
        system.wait_for_members("w1", "w2")
        for name in ("cold", "landing"):
            origin = folder / name
            origin.mkdir()
            (origin / "model.bin").write_bytes(os.urandom(SIZE))
            system.add(name, f"file://{origin}")
        wait_for(lambda: known(system) == NODES, what=lambda: f"nodes {known(system)}")
        yield system


def known(system):
    return {node["node"] for node in ask(system, "cold")["nodes"]}


def ask(system, *datasets, **facts):
    question = {"datasets": [{"name": name} for name in datasets], "renderings": [], **facts}
    return system.api.post("/v1/hints", question)


def run(system, *words):
    """Run a command of the group in this process; return its exit code and what it printed."""
    found = CliRunner().invoke(app, [*words, "--state", str(system.folder)])
    if isinstance(found.exception, CacheFSError):
        return exit_code(found.exception), found.stdout
    assert found.exit_code == 0, found.exception
    return 0, found.stdout


@contextlib.contextmanager
def calling(system):
    address = system.processes["coordinator"].addresses["control"]
    with coordinator_channel(address, system.token) as channel:
        yield channel, rpc.HintsStub(channel.channel)


def test_grpc_answers_as_http_does(system):
    with calling(system) as (channel, stub):
        question = pb.HintQuestion(
            datasets=[pb.HintReading(name="cold")], limit=1, renderings=["slurm"], dry_run=True
        )
        said = channel.call(stub.Ask, question)
        by_http = ask(system, "cold", limit=1, dry_run=True)
        (node,) = said.nodes
        assert node.bytes.origin == by_http["nodes"][0]["bytes"]["origin"] == SIZE
        assert node.breakdown.bottleneck == by_http["nodes"][0]["breakdown"]["bottleneck"]
        assert node.topology.rack == "r1"
        assert "arguments" in said.renderings.fields["slurm"].struct_value.fields
        assert said.actions[0].bytes == SIZE
        with pytest.raises(ConfigError, match="not a dataset name"):
            channel.call(stub.Ask, pb.HintQuestion(datasets=[pb.HintReading(name="No!")]))
        with pytest.raises(NotKnownError, match="no such hint"):
            channel.call(stub.TellOutcome, pb.HintOutcome(hint_id="h-0", node="n"))


def test_grpc_keeps_places_and_is_watched(system):
    with calling(system) as (channel, stub):
        question = pb.HintQuestion(
            datasets=[pb.HintReading(name="cold")], job_id="g1", reserve=pb.HintReserve(ttl_s=60)
        )
        said = channel.call(stub.Ask, question)
        listed = channel.call(stub.ListReservations, pb.ListReservationsRequest()).reservations
        assert said.reservation.token in [each.token for each in listed]
        channel.call(stub.ClaimReservation, pb.ReservationRequest(token=said.reservation.token))
        channel.call(stub.CancelReservation, pb.ReservationRequest(token=said.reservation.token))
        with pytest.raises(NotKnownError):
            channel.call(stub.CancelReservation, pb.ReservationRequest(token="r-0"))
        outcome = pb.HintOutcome(hint_id=said.hint_id, node=said.nodes[0].node, ready_s=1.0)
        assert channel.call(stub.TellOutcome, outcome).actual_s == 1.0
        hints = channel.stream(stub.WatchHints, question)
        assert next(hints).nodes
        hints.close()


def test_a_queue_is_asked_about_by_grpc_and_by_command(system, tmp_path):
    with calling(system) as (channel, stub):
        jobs = [
            pb.HintQuestion(
                datasets=[pb.HintReading(name="cold")], job_id=f"q{each}", dry_run=True, limit=1
            )
            for each in range(3)
        ]
        place = pb.HintOwnPlace(name="p", node="node-w1", holds="cold")
        by_grpc = channel.call(stub.AskBatch, pb.HintBatch(jobs=jobs, places=[place]))
        with pytest.raises(ConfigError, match="an id of its own"):
            channel.call(stub.AskBatch, pb.HintBatch(jobs=[*jobs, jobs[0]]))
    assert [hint.start.place for hint in by_grpc.hints] == ["p", "", ""]
    assert [each.bytes.origin for each in by_grpc.hints[0].nodes] == [0]  # its program has it
    queue = tmp_path / "queue.yaml"
    queue.write_text("jobs: [{job_id: q1, dry_run: true, datasets: [{name: cold}]}]")
    _, table = run(system, "--batch", str(queue))
    assert "now" in table.splitlines()[1]
    assert table.splitlines()[1].split()[:2] in (["q1", "node-w1"], ["q1", "node-w2"])


def test_the_service_is_listed_by_reflection(system):
    address = system.processes["coordinator"].addresses["control"]
    metadata = (("authorization", f"Bearer {system.token.reveal()}"),)
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (answer,) = stub.ServerReflectionInfo(asked, metadata=metadata, timeout=5)
    names = [each.name for each in answer.list_services_response.service]
    assert "cachefs.v1.Hints" in names


def test_schedulers_ask_with_a_token_of_their_own(system):
    address = system.processes["coordinator"].addresses["http"]
    pod = {"metadata": {"name": "p", "annotations": {}}, "spec": {}}
    body = json.dumps({"Pod": pod, "NodeNames": ["node-w1", "node-w2"]})
    token = scheduler_token(system.token).reveal()
    for path, status in (("/k8s/extender/prioritize", 200), ("/v1/hints", 401)):
        connection = http.client.HTTPConnection(address, timeout=5)
        connection.request("POST", path, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert (path, answer.status) == (path, status)
        connection.close()
    assert run(system, "token")[1].strip() == token


def test_a_watcher_is_told_when_a_prefetch_has_landed(system):
    address = system.processes["coordinator"].addresses["http"]
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    headers = {"Authorization": f"Bearer {system.token.reveal()}"}
    connection.request("GET", "/v1/hints/watch?dataset=landing", headers=headers)
    stream = connection.getresponse()
    first = json.loads(stream.readline().removeprefix(b"data: "))
    assert first["nodes"][0]["bytes"]["origin"] == SIZE
    asked = ask(system, "landing", prefetch=True)
    node = asked["actions"][0]["node"]
    assert asked["actions"][0]["job"]
    assert ask(system, "landing", prefetch=True)["actions"][0]["job"] == asked["actions"][0]["job"]

    def landed():
        line = stream.readline()
        if not line.startswith(b"data"):
            return None
        nodes = json.loads(line.removeprefix(b"data: "))["nodes"]
        return any(each["node"] == node and each["bytes"]["nvme"] == SIZE for each in nodes)

    wait_for(landed)
    stream.close()
    connection.close()


def test_the_command_shows_a_table_and_each_scheduler_s_form(system):
    _, shown = run(system, "cold", "--explain", "--deadline", "1ms")
    heading, *rows = shown.splitlines()
    assert heading.split()[:3] == ["RANK", "NODE", "READY"]
    assert {row.split()[1] for row in rows[:2]} == NODES
    assert "512 KiB from the origin" in rows[0]
    assert run(system, "cold", "--format", "slurm") == (0, "\n")
    assert json.loads(run(system, "cold", "--format", "extender")[1])
    _, nobody = run(system, "nobody-knows", "--json")
    assert json.loads(nobody)["degraded"] == "there is no dataset nobody-knows"
    code, full = run(system, "cold", "--candidates", "elsewhere")
    assert code == 0
    assert "the node is not known" in full
    assert run(system, "cold", "--gpu", "H100:x")[0] == 2


def test_places_and_lessons_outlive_a_coordinator_that_is_killed(system):
    asked = ask(system, "cold", job_id="k1", reserve={"ttl_s": 300})
    kept = asked["reservation"]
    told = {"node": asked["nodes"][0]["node"], "ready_s": 9.0, "phases": {"init": 4.0}}
    other = ask(system, "cold", job_id="k2")
    system.api.post(f"/v1/hints/{other['hint_id']}/outcome", told)
    wait_for(lambda: stored_lessons(system), what="nothing was stored")
    system.kill("coordinator")
    system.restart("coordinator")
    (listed,) = [
        each
        for each in system.api.get("/v1/reservations")["reservations"]
        if each["token"] == kept["token"]
    ]
    assert listed == kept
    wait_for(lambda: known(system) == NODES, what="the nodes are not known")
    assert ask(system, "cold")["nodes"][0]["breakdown"]["init_s"] > 0
    assert b"cachefs_hint_error_ratio" in system.api.fetch("GET", "/metrics")
    with pytest.raises(NotKnownError):
        system.api.post(f"/v1/hints/{other['hint_id']}/outcome", told)
    recalled = {"dataset": "cold", "breakdown": asked["nodes"][0]["breakdown"]}
    again = f"/v1/hints/{asked['hint_id']}/outcome"
    assert system.api.post(again, {**told, "recalled": recalled})["actual_s"] == 9.0
    assert kept["token"] in run(system, "reservations")[1]
    assert run(system, "reservations", "--cancel", kept["token"])[0] == 0
    assert run(system, "reservations", "--cancel", kept["token"])[0] == 4


def stored_lessons(system):
    from cachefs.coordinator.store import hints as rows  # noqa: PLC0415
    from cachefs.coordinator.store.engine import Store  # noqa: PLC0415

    store = Store(f"sqlite:///{system.folder}/store.db")
    try:
        with store.read() as connection:
            return '"cold": [4.0' in (rows.lessons(connection, "all") or "")
    finally:
        store.close()


def test_two_who_ask_at_once_are_never_given_one_place(system):
    found = []

    def reserve(job):
        answer = ask(system, "cold", job_id=job, gpu={"count": 1}, reserve={"ttl_s": 30})
        found.append(answer)

    threads = [threading.Thread(target=reserve, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    tokens = [each["reservation"]["token"] for each in found]
    assert len(set(tokens)) == 4
    for token in tokens:
        system.api.delete(f"/v1/reservations/{token}")
