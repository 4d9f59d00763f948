"""``mirror.yaml`` as people submit it: from a Hub into a bucket, with a profile's credentials, and served from there."""

import random
from pathlib import Path

import pytest

from cachefs.sdk import open_dataset
from cachefs.testing.hub import FakeHub
from cachefs.testing.s3 import REGION, s3_server
from tests.integration.flows.local_systems import BLOCK_SIZE, LocalSystem, states_of, step_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIRROR = (Path(__file__).parents[3] / "dataflow" / "examples" / "mirror.yaml").read_text()
WEIGHTS = random.Random(1).randbytes(5 * BLOCK_SIZE + 17)
FILES = {
    "model.safetensors": WEIGHTS,
    "config.json": b'{"layers": 2}',
    "tokenizer.model": b"words",
    "README.md": b"not wanted",
}
WANTED = {path: content for path, content in FILES.items() if path != "README.md"}


def profile(folder, endpoint_url):
    """Write the AWS configuration of a user who has a store of their own; return its variables."""
    config, credentials = folder / "config", folder / "credentials"
    config.write_text(f"[profile models]\nregion = {REGION}\nendpoint_url = {endpoint_url}\n")
    credentials.write_text(
        "[models]\naws_access_key_id = testing\naws_secret_access_key = testing\n"
    )
    return {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture
def hub():
    with FakeHub("org/model", FILES) as made:
        yield made


@pytest.fixture
def bucket():
    with s3_server() as server:
        server.make_bucket("models")
        yield server


@pytest.fixture
def system(tmp_path, hub, bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    made = LocalSystem(tmp_path)
    made.environment |= profile(tmp_path, bucket.endpoint_url) | {"HF_ENDPOINT": hub.url}
    with made:
        yield made


def objects(bucket):
    listed = bucket.client.list_objects_v2(Bucket="models").get("Contents", ())
    return {
        one["Key"]: bucket.client.get_object(Bucket="models", Key=one["Key"])["Body"].read()
        for one in listed
    }


def mirror(system, label):
    return system.wait(system.submit(MIRROR, {"repository": "org/model", "label": label}))


def read(system, path):
    with open_dataset("llama", state=system.state.path) as dataset, dataset.open(path) as file:
        into = bytearray(file.size)
        file.read_into(0, memoryview(into))
        return bytes(into)


def test_a_mirror_is_in_the_bucket_resident_and_current(system, hub, bucket):
    first = mirror(system, "v1")
    assert first["run"]["state"] == "Succeeded", [one["failure"] for one in first["steps"]]
    assert set(states_of(first).values()) == {"Succeeded"}
    assert objects(bucket) == {f"llama/v1/{path}": content for path, content in WANTED.items()}
    assert read(system, "model.safetensors") == WEIGHTS
    asked = len(hub.authorizations)

    again = mirror(system, "v1")
    assert again["run"]["state"] == "Succeeded"
    assert step_of(again, "warm")["progress"]["origin_bytes"] == 0
    assert not [path for path, _ in hub.authorizations[asked:] if path.startswith("/storage/")]

    hub.commit({**FILES, "config.json": b'{"layers": 3}'})
    second = mirror(system, "v2")
    assert second["run"]["state"] == "Succeeded"
    assert objects(bucket)["llama/v2/config.json"] == b'{"layers": 3}'
    assert read(system, "config.json") == b'{"layers": 3}'
