"""The programs that are injected, as processes beside a real system, with a token that only reads."""

import hashlib
import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cachefs.benchmarks.processes import Process
from cachefs.client.connecting import connect
from cachefs.config.discovery import Endpoint
from cachefs.config.reading import reading_token
from cachefs.config.schema import ReaderConfig
from cachefs.errors import DeniedError, NotKnownError
from cachefs.k8s.webhook.showing import is_shown
from cachefs.transport.api import Api
from tests.fuse.mounting import why_no_mounts
from tests.integration.systems import PacedOrigin, System, wait_for

pytestmark = pytest.mark.slow

BLOCK = 64 * 1024
FILES = {
    "config.json": b"{}",
    "empty": b"",
    "weights/a.bin": os.urandom(20 * BLOCK + 7),
    "weights/b.bin": os.urandom(3 * BLOCK),
}
SECONDS = 60


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    with PacedOrigin(tmp_path_factory.mktemp("bucket")) as origin:
        yield origin


@pytest.fixture(scope="module")
def system(tmp_path_factory, origin):
    folder = tmp_path_factory.mktemp("programs")
    with System(folder, block_size=BLOCK, duties=True) as system:
        system.start_coordinator()
        for name in ("w1", "w2"):
            system.start_worker(name)
        system.wait_for_members("w1", "w2")
        files = folder / "files"
        for path, content in FILES.items():
            (files / path).parent.mkdir(parents=True, exist_ok=True)
            (files / path).write_bytes(content)
        system.add("team-a/llama", f"file://{files}")
        (folder / "others").mkdir()
        (folder / "others" / "b.bin").write_bytes(os.urandom(BLOCK))
        system.add("team-b/secret", f"file://{folder}/others")
        (origin.folder / "slow.bin").write_bytes(os.urandom(40 * BLOCK))
        system.add("team-a/slow", f"{origin.url}/slow.bin")
        yield system


@pytest.fixture
def environment(system, tmp_path):
    """Return the environment of an injected container of the namespace team-a."""
    token = tmp_path / "reader"
    token.write_text(reading_token(system.token, ["team-a/*"]).reveal() + "\n")
    token.chmod(0o444)
    return {
        "CACHEFS_COORDINATOR": system.processes["coordinator"].addresses["http"],
        "CACHEFS_READER_FILE": str(token),
    }


@pytest.fixture
def volume(tmp_path):
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


def copying(environment, *words):
    command = [sys.executable, "-m", "cachefs.k8s.webhook.copying", *words]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )


def ended(process):
    _, errors = process.communicate(timeout=SECONDS)
    return process.returncode, errors


def shown(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


RIGHT = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}


def test_files_are_the_datasets_own(environment, volume, tmp_path):
    part = tmp_path / "part"
    part.mkdir()
    (volume / "leftover").write_bytes(b"of a start that was interrupted")
    words = [f"team-a/llama={volume}", f"team-a/llama/weights={part}"]
    assert ended(copying(environment, *words))[0] == 0
    assert shown(volume) == RIGHT
    assert shown(part) == {"a.bin": RIGHT["weights/a.bin"], "b.bin": RIGHT["weights/b.bin"]}
    # The pod's programs run as other users.
    for path in volume.rglob("*"):
        assert path.stat().st_mode & 0o004


def test_a_copy_that_is_killed_shows_nothing_and_the_next_one_all(environment, volume, origin):
    origin.gate.clear()
    process = copying(environment, f"team-a/slow={volume}")
    try:
        wait_for(lambda: list(volume.rglob("slow.bin")), what="it does not begin")
        assert [each for each in volume.iterdir() if not each.name.startswith(".")] == []
        process.kill()
        process.communicate(timeout=SECONDS)
        assert [each for each in volume.iterdir() if not each.name.startswith(".")] == []
    finally:
        origin.gate.set()
    assert ended(copying(environment, f"team-a/slow={volume}"))[0] == 0
    expected = hashlib.sha256((origin.folder / "slow.bin").read_bytes()).hexdigest()
    assert shown(volume) == {"slow.bin": expected}


@pytest.mark.parametrize(
    "word",
    ["team-a/llama@0000", "team-a/llama/none", "llama"],
)
def test_what_cannot_be_copied_is_said_in_one_line_and_nothing_is_shown(environment, volume, word):
    status, errors = ended(copying(environment, f"{word}={volume}"))
    assert status == 1
    assert len([line for line in errors.splitlines() if not line.startswith("{")]) == 1
    assert list(volume.iterdir()) == []


def test_anothers_dataset_is_as_one_that_is_not_there(environment, volume):
    answers = [
        ended(copying(environment, f"{name}={volume}"))[1].replace(name, "NAME")
        for name in ("team-b/secret", "team-b/none")
    ]
    assert answers[0] == answers[1]


def test_a_reading_token_reads_its_datasets_from_workers_and_nothing_else(system):
    token = reading_token(system.token, ["team-a/*"])
    api = Api(system.processes["coordinator"].addresses["http"], token)
    with connect(Endpoint(api.address, token, (), None, None), ReaderConfig(local=False)) as reader:
        dataset = reader.open("team-a/llama")
        with dataset.file("weights/b.bin") as file:
            assert file.read(0, file.size) == FILES["weights/b.bin"]
        with pytest.raises(NotKnownError):
            reader.open("team-b/secret")
    for path in ("/v1/datasets", "/v1/members", "/metrics", "/v1/events"):
        with pytest.raises(DeniedError):
            api.get(path)
    for call in (
        lambda: api.post("/v1/datasets", {"name": "team-a/x", "origin": {"url": "file:///"}}),
        lambda: api.delete("/v1/datasets/team-a/llama"),
        lambda: api.post("/v1/evict", {"dataset": "team-a/llama", "paths": []}),
    ):
        with pytest.raises(DeniedError):
            call()
    secret = system.api.get("/v1/versions?dataset=team-b/secret")
    worker = system.processes["w1"].addresses["data"]
    entry = next(each for each in dataset.files if each.path == "weights/b.bin")
    for query, status in (
        (f"dataset=team-a/llama&version={dataset.version}", 200),
        (f"dataset=team-b/secret&version={secret['version']}", 404),
        (f"dataset=team-a/llama&version={secret['version']}", 404),
        (f"dataset=team-a/llama&version={dataset.version}&unproven=1", 401),
        (f"version={dataset.version}", 401),
    ):
        connection = http.client.HTTPConnection(worker, timeout=SECONDS)
        header = {"Authorization": f"Bearer {token.reveal()}"}
        connection.request("GET", f"/v1/files/{entry.file_version}?{query}", headers=header)
        assert connection.getresponse().status == status, query
        connection.close()


SERVE = """
import os, sys
from pathlib import Path
from cachefs.k8s.webhook.endpoint import serve
from cachefs.transport.runtime import ThreadRuntime
sys.exit(serve(sys.argv[2:], os.environ, ThreadRuntime(), folder=Path(sys.argv[1]), ports=(0, 0)))
"""


def test_the_endpoint_serves_what_the_pod_names_to_programs_that_know_s3(environment, tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    words = ["team-a/llama", "team-a/none", "team-b/secret"]
    process = Process(
        [sys.executable, "-c", SERVE, str(folder), *words],
        log=tmp_path / "endpoint.log",
        environment=environment,
    )
    try:
        assert (folder / "ready").exists()
        lines = (folder / "s3-credentials").read_text().splitlines()
        assert (folder / "s3-credentials").stat().st_mode & 0o777 == 0o644
        keys = dict(line.split(" = ") for line in lines if " = " in line)
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://{process.addresses['s3']}",
            region_name="us-east-2",
            config=Config(retries={"max_attempts": 1}, proxies={}),
            **keys,
        )
        listed = s3.list_objects_v2(Bucket="team-a", Prefix="llama/")["Contents"]
        assert {each["Key"].removeprefix("llama/") for each in listed} == set(FILES)
        body = s3.get_object(Bucket="team-a", Key="llama/weights/b.bin")["Body"].read()
        assert body == FILES["weights/b.bin"]
        assert "team-b" not in [each["Name"] for each in s3.list_buckets()["Buckets"]]
        with pytest.raises(ClientError):
            s3.get_object(Bucket="team-b", Key="secret/b.bin")
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.stop()


@pytest.mark.fuse
@pytest.mark.skipif(bool(why_no_mounts()), reason=why_no_mounts() or "")
def test_a_dataset_is_mounted_until_the_container_ends(environment, volume, tmp_path):
    run = tmp_path / "run"
    run.mkdir(mode=0o750)  # as the kubelet makes one
    program = [sys.executable, "-m", "cachefs.k8s.webhook.showing"]
    command = [*program, "team-a/llama", str(volume)]

    def checked():
        return subprocess.run([*program, "--check", volume], check=False).returncode == 0

    def mounted():
        process = subprocess.Popen(command, env={**os.environ, **environment, "CACHEFS_RUN": run})
        wait_for(lambda: is_shown(volume), SECONDS, what="it is not mounted")
        assert (volume / "weights" / "b.bin").read_bytes() == FILES["weights/b.bin"]
        return process

    try:
        process = mounted()
        assert checked()
        assert (run / "mount" / "token").stat().st_mode & 0o777 == 0o600
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert not volume.is_mount()
        # A container that was killed leaves a mount that serves nobody; the next one clears it away.
        process = mounted()
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.kill()
        process.wait(SECONDS)
        assert not checked()
        process = mounted()
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert list(volume.iterdir()) == []
    finally:
        process.kill()
        subprocess.run(["umount", "-l", str(volume)], check=False, capture_output=True)
