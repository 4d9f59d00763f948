"""A coordinator's process and its two doors, from outside."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from fastapi.routing import APIRoute
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cachefs.config.files import write_process_config
from cachefs.config.reading import reading_token
from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.config.secrets import Secret, make_token
from cachefs.coordinator.http import make_app
from cachefs.coordinator.process import CoordinatorProcess, HttpServer
from cachefs.core.manifest import Manifest, VersionId
from cachefs.errors import ConfigError, DeniedError, NotKnownError
from cachefs.transport.control import ControlChannel, coordinator_channel
from cachefs.wire import failures, messages
from cachefs.wire.http import decode_version, decode_view
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc

TOKEN = Secret("a token")
BEARER = {"Authorization": "Bearer a token"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"m" * 1000)
    (folder / "sub" / "empty").touch()
    return folder


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    store = tmp_path_factory.mktemp("store") / "store.db"
    config = CoordinatorConfig(store_url=f"sqlite:///{store}", request_limit_bytes=100_000)
    running = CoordinatorProcess(config, ClusterConfig(block_size=400), TOKEN)
    yield running
    running.close()


@pytest.fixture
def http(process: CoordinatorProcess) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"http://{process.http_address}", headers=BEARER, trust_env=False
    ) as client:
        yield client


@pytest.fixture
def channel(process: CoordinatorProcess) -> Iterator[ControlChannel]:
    with coordinator_channel(process.control_address, TOKEN) as opened:
        yield opened


def test_a_dataset_lives_its_whole_life_over_http(http: httpx.Client, data: Path):
    body = {"name": "life/model", "origin": {"url": f"file://{data}"}, "replicas": 2}
    added = http.post("/v1/datasets", json=body)
    assert added.status_code == 201
    assert added.json()["replicas"] == 2
    assert http.get("/v1/datasets").json()["datasets"] == [added.json()]
    (version,) = http.get("/v1/datasets/life/model/versions").json()["versions"]
    assert (version["file_count"], version["size"], version["client"]) == (2, 1000, "local")
    head = decode_version(http.get("/v1/versions", params={"dataset": "life/model"}).content)
    assert (head.version, head.replicas) == (version["id"], 2)
    assert head.listed_at == version["listed_at"]
    encoded = http.get(f"/v1/manifests/{head.version}").content
    manifest = Manifest.decode(encoded, VersionId(head.version))
    file = manifest.find("model.bin").file_version
    assert http.get(f"/v1/digests/{file}").content == bytes(3 * 16)
    changed = http.patch("/v1/datasets/life/model", json={"pin": ["model.bin"]})
    assert changed.json()["pins"] == ["model.bin"]
    (data / "more").write_bytes(b"1")
    updated = http.post("/v1/datasets/life/model/update")
    assert updated.json()["file_count"] == 3
    explained = http.get("/v1/explain", params={"dataset": "life/model", "path": "model.bin"})
    assert [block["bytes"] for block in explained.json()["blocks"]] == [400, 400, 200]
    assert http.get("/v1/residency/life/model").json()["ratio"] == 0
    job = http.post("/v1/warm", json={"dataset": "life/model"}).json()
    assert http.get(f"/v1/warm/{job['id']}").json()["bytes_total"] == 1001
    assert http.delete(f"/v1/warm/{job['id']}").json()["state"] == "cancelled"
    assert http.post("/v1/evict", json={"dataset": "life/model"}).json()["bytes"] == 0
    assert http.delete("/v1/datasets/life/model").status_code == 204
    gone = http.get("/v1/datasets/life/model")
    assert gone.status_code == 404
    assert isinstance(failures.decode(gone.content), NotKnownError)
    kinds = [event["kind"] for event in http.get("/v1/events").json()["events"]]
    assert kinds[0] == "dataset-added"
    assert kinds[-1] == "dataset-removed"


def test_who_reads_some_datasets_is_told_nothing_of_anothers_by_its_ids(
    process: CoordinatorProcess, http: httpx.Client, data: Path, tmp_path_factory
):
    (other := tmp_path_factory.mktemp("other")).joinpath("else").write_bytes(b"1")
    for name, folder in (("team-a/secret", data), ("team-b/own", other)):
        http.post("/v1/datasets", json={"name": name, "origin": {"url": f"file://{folder}"}})
    head = decode_version(http.get("/v1/versions?dataset=team-a/secret").content)
    manifest = Manifest.decode(http.get(f"/v1/manifests/{head.version}").content, head.version)
    file = manifest.find("model.bin").file_version
    # A version's file may be asked for by one that came after it, as long as both are kept.
    (data / "later").write_bytes(b"2")
    newer = http.post("/v1/datasets/team-a/secret/update").json()["id"]
    asked = [f"/v1/manifests/{head.version}?", f"/v1/digests/{file}?version={newer}&"]

    def answers(scope, dataset):
        token = TOKEN if scope is None else reading_token(TOKEN, [scope])
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        query = f"dataset={dataset}" if dataset else ""
        return [http.get(path + query, headers=headers).status_code for path in asked]

    assert answers(None, "") == [200, 200]
    assert answers("team-a/*", "team-a/secret") == [200, 200]
    assert answers("team-a/*", "") == [401, 401]
    for dataset in ("team-a/secret", "team-b/own", "team-b/nothing"):
        assert answers("team-b/*", dataset) == [404, 404], dataset
    for name in ("team-a/secret", "team-b/own"):
        http.delete(f"/v1/datasets/{name}")


def test_listings_come_in_pages(http: httpx.Client, data: Path):
    for name in ("page/a", "page/b", "page/c"):
        http.post("/v1/datasets", json={"name": name, "origin": {"url": f"file://{data}"}})
    seen, after = [], ""
    while after is not None:
        page = http.get("/v1/datasets", params={"limit": 2, "after": after}).json()
        seen += [one["name"] for one in page["datasets"]]
        after = page["next"]
    assert seen == ["page/a", "page/b", "page/c"]
    for name in seen:
        http.delete(f"/v1/datasets/{name}")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("PUT", "/v1/view", None, 405),
        ("POST", "/v1/datasets", {"name": "x"}, 400),
        ("POST", "/v1/datasets", {"name": "x", "origin": {"url": "file:///x"}, "no": 1}, 400),
        ("POST", "/v1/datasets", {"name": "../x", "origin": {"url": "file:///x"}}, 400),
        ("POST", "/v1/datasets", {"name": "x", "origin": {"url": "file:///no/such"}}, 502),
        ("POST", "/v1/datasets", {"name": "x", "origin": {"url": "http://169.254.169.254/"}}, 502),
        ("GET", "/v1/events?limit=100000", None, 400),
        ("GET", "/v1/manifests/none", None, 404),
        ("GET", "/v1/digests/none", None, 404),
        ("GET", "/v1/warm/none", None, 404),
        ("POST", "/v1/members/none/drain", {"dry_run": True}, 404),
    ],
)
def test_every_failure_is_a_document(http: httpx.Client, method, path, body, status):
    answer = http.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]
    assert answer.json()["message"]


def test_a_long_body_is_refused_whether_announced_or_not(http: httpx.Client):
    announced = http.post("/v1/datasets", content=b" " * 200_000)
    assert announced.status_code == 507
    chunks = (b" " * 10_000 for _ in range(20))
    unannounced = http.post("/v1/datasets", content=chunks)
    assert unannounced.status_code >= 400
    assert http.get("/v1/view").status_code == 200


def test_a_refusal_for_the_token_says_where_the_token_is(process: CoordinatorProcess):
    answer = httpx.get(f"http://{process.http_address}/v1/view", trust_env=False)
    refusal = failures.decode(answer.content)
    assert isinstance(refusal, DeniedError)
    assert "CACHEFS_TOKEN_FILE" in refusal.hint


def test_a_port_that_is_taken_is_named_with_what_to_do():
    first = HttpServer("127.0.0.1", 0)
    try:
        with pytest.raises(ConfigError) as caught:
            HttpServer("127.0.0.1", first.port)
    finally:
        first.close()
    assert caught.value.message == "cannot listen: address already in use"
    assert "coordinator.http_port" in caught.value.hint


def test_every_route_but_health_needs_the_token(process: CoordinatorProcess):
    gate = make_app(process.coordinator, None, TOKEN, exposition=lambda: b"", request_limit_bytes=1)
    routes = [
        (method, route.path.replace("{", "").replace("}", ""))
        for route in _leaves(gate._app.routes)
        for method in getattr(route, "methods", None) or ()
    ]
    assert ("POST", "/v1/datasets") in routes
    assert ("GET", "/openapi.json") in routes
    assert len(routes) > 20
    with httpx.Client(base_url=f"http://{process.http_address}", trust_env=False) as client:
        for method, path in routes:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a token"}):
                status = client.request(method, path, headers=headers).status_code
                assert status == (200 if path == "/healthz" else 401), (method, path, headers)


def _leaves(routes):
    for route in routes:
        if isinstance(route, APIRoute) or hasattr(route, "path"):
            yield route
        else:
            router = getattr(route, "original_router", None) or route.router
            yield from _leaves(router.routes)


def test_every_call_but_health_needs_the_token(process: CoordinatorProcess):
    with grpc.insecure_channel(process.control_address) as channel:
        for name in _rpcs():
            call = channel.unary_unary(name)
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=5, metadata=(("authorization", "Bearer wrong"),))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, name
            assert isinstance(failures.decode(caught.value.details().encode()), DeniedError)
        healthy = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="cachefs.v1.Coordinator"), timeout=5
        )
        assert healthy.status == health_pb2.HealthCheckResponse.SERVING


def _rpcs() -> list[str]:
    service = pb.DESCRIPTOR.services_by_name["Coordinator"]
    own = [f"/{service.full_name}/{method.name}" for method in service.methods]
    reflection = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    return [*own, f"/{reflection.full_name}/ServerReflectionInfo"]


def test_reflection_lists_the_service_to_who_has_the_token(channel: ControlChannel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(
        iter([request]), timeout=5, metadata=(("authorization", "Bearer a token"),)
    )
    names = [service.name for service in answer.list_services_response.service]
    assert "cachefs.v1.Coordinator" in names


def test_a_worker_registers_renews_and_leaves_over_grpc(
    process: CoordinatorProcess, channel: ControlChannel, http: httpx.Client, data: Path
):
    stub = rpc.CoordinatorStub(channel.channel)
    member = pb.Member(
        worker="w1",
        incarnation="1",
        node="n",
        pool="default",
        weight=1.0,
        data_address="127.0.0.1:1",
        control_address="127.0.0.1:2",
    )
    fingerprint = ClusterConfig(block_size=400).fingerprint()
    admitted = channel.call(
        stub.Register, pb.RegisterRequest(member=member, fingerprint=fingerprint)
    )
    assert admitted.lease_seconds == 10.0
    url = f"file://{data}"
    dataset = pb.Dataset(name="grpc/d", origin=pb.OriginSpec(url=url), pins=["model.bin"])
    added = channel.call(stub.AddDataset, pb.AddDatasetRequest(dataset=dataset))
    parts = channel.stream(stub.GetManifest, pb.GetManifestRequest(version=added.current))
    encoded = b"".join(part.encoded for part in parts)
    file = Manifest.decode(encoded, VersionId(added.current)).find("model.bin").file_version
    renewed = channel.call(
        stub.Renew,
        pb.RenewRequest(
            worker="w1",
            incarnation="1",
            epoch=admitted.view.epoch,
            residency_is_whole=True,
            residency=[
                pb.Residency(file_version=file, tier="disk", resident=b"\x05", digests=b"d" * 32)
            ],
            statistics='{"a": 1}',
        ),
    )
    assert not renewed.HasField("view")
    assert messages.retention_from_message(renewed.pins).pinned == {file}
    again = pb.RenewRequest(
        worker="w1", incarnation="1", epoch=1, pins_revision=renewed.pins.revision
    )
    assert not channel.call(stub.Renew, again).HasField("pins")
    digests = channel.call(stub.GetDigests, pb.GetDigestsRequest(file_version=file)).digests
    assert digests == b"d" * 16 + bytes(16) + b"d" * 16
    assert [one.worker for one in decode_view(http.get("/v1/view").content).members] == ["w1"]
    assert http.get("/v1/members").json()["members"][0]["statistics"] == {"a": 1}
    assert http.get("/v1/residency/grpc/d").json()["bytes_resident"] == 600
    assert b"cachefs_coordinator_resident_bytes 600" in http.get("/metrics").content
    job = channel.call(stub.StartWarm, pb.StartWarmRequest(dataset="grpc/d"))
    channel.call(stub.CancelWarm, pb.GetWarmRequest(id=job.id))
    (last,) = channel.stream(stub.WatchWarm, pb.GetWarmRequest(id=job.id))
    assert last.state == "cancelled"
    channel.call(stub.RemoveDataset, pb.RemoveDatasetRequest(name="grpc/d"))
    channel.call(stub.Leave, pb.LeaveRequest(worker="w1", incarnation="1"))
    assert not channel.call(stub.GetView, pb.GetViewRequest()).members
    with pytest.raises(NotKnownError):
        channel.call(stub.Resolve, pb.ResolveRequest(dataset="grpc/d"))


def start(
    folder: Path, config: CoordinatorConfig
) -> "tuple[subprocess.Popen[str], dict[str, str]]":
    token = folder / "token"
    if not token.exists():
        make_token(token)
    write_process_config(folder / "coordinator.json", "coordinator", ClusterConfig(), config)
    with (folder / "log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "cachefs.coordinator", "--config", folder / "coordinator.json"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "CACHEFS_TOKEN_FILE": str(token)},
        )
    word, _, ready = started.stdout.readline().partition(" ")
    assert word == "ready", (folder / "log").read_text()
    return started, json.loads(ready)


@pytest.mark.slow
def test_a_killed_process_starts_again_with_all_it_knew_and_ends_on_sigterm(
    tmp_path: Path, data: Path
):
    config = CoordinatorConfig(store_url=f"sqlite:///{tmp_path / 'store.db'}")
    started, ready = start(tmp_path, config)
    bearer = {"Authorization": f"Bearer {(tmp_path / 'token').read_text().strip()}"}
    try:
        body = {"name": "d", "origin": {"url": f"file://{data}"}}
        added = httpx.post(
            f"http://{ready['http']}/v1/datasets", json=body, headers=bearer, trust_env=False
        )
        assert added.status_code == 201
        started.kill()
        started.wait(10)
        started, ready = start(tmp_path, config)
        url = f"http://{ready['http']}/v1/datasets/default/d"
        assert httpx.get(url, headers=bearer, trust_env=False).json() == added.json()
        started.send_signal(signal.SIGTERM)
        assert started.wait(10) == 0
    finally:
        started.kill()
        started.wait(10)
        started.stdout.close()
    assert bearer["Authorization"].partition(" ")[2] not in (tmp_path / "log").read_text()
