"""huggingface_hub, and what is built on it, reads a dataset as if it were the Hub."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.integration.gateway.conftest import FILES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def api(site):
    return HfApi(endpoint=site.hub, token=site.hub_token)


def test_a_snapshot_is_downloaded(site, api, tmp_path):
    folder = Path(
        snapshot_download("m", endpoint=site.hub, token=site.hub_token, cache_dir=tmp_path)
    )
    assert folder.name == api.model_info("m").sha
    for path, content in FILES.items():
        assert (folder / path).read_bytes() == content
    again = snapshot_download("m", endpoint=site.hub, token=site.hub_token, cache_dir=tmp_path)
    assert Path(again) == folder


def test_a_file_of_a_version_is_downloaded(site, api, tmp_path):
    version = api.model_info("default/m").sha
    for revision in (None, "main", version):
        got = hf_hub_download(
            "default/m",
            "sub/a b+c%.txt",
            revision=revision,
            endpoint=site.hub,
            token=site.hub_token,
            cache_dir=tmp_path,
        )
        assert Path(got).read_bytes() == FILES["sub/a b+c%.txt"]


def test_a_known_digest_is_the_etag(site, tmp_path):
    digest = hashlib.sha256(FILES["weights.bin"]).hexdigest()
    site.system.add(
        "known",
        f"file://{site.folder}",
        include=["weights.bin"],
        checksums={"weights.bin": f"sha256:{digest}"},
    )
    got = hf_hub_download(
        "known", "weights.bin", endpoint=site.hub, token=site.hub_token, cache_dir=tmp_path
    )
    assert Path(got).read_bytes() == FILES["weights.bin"]
    assert Path(got).resolve().name == digest


def test_the_tree_is_listed(api):
    every = {each.path for each in api.list_repo_tree("m", recursive=True)}
    assert every == {*FILES, "sub", "sub/deep"}
    assert {each.path for each in api.list_repo_tree("m", "sub")} == {"sub/a b+c%.txt", "sub/deep"}
    (info,) = api.get_paths_info("m", ["weights.bin", "none"])
    assert info.size == len(FILES["weights.bin"])
    assert api.list_repo_files("m") == sorted(FILES)
    assert "m" in [each.id for each in api.list_models()]
    assert [each.name for each in api.list_repo_refs("m").branches] == ["main"]
    assert api.whoami()["name"] == "cachefs"


def test_what_is_not_there_raises_what_programs_catch(site, api, tmp_path):
    def download(repo, path, **options):
        return hf_hub_download(
            repo, path, endpoint=site.hub, cache_dir=tmp_path, token=site.hub_token, **options
        )

    with pytest.raises(EntryNotFoundError):
        download("m", "none")
    with pytest.raises(RepositoryNotFoundError):
        download("none", "x")
    with pytest.raises(RevisionNotFoundError):
        download("m", "config.json", revision="v9")
    with pytest.raises(HfHubHTTPError) as caught:
        api.model_info("m", token="hf_wrong")
    assert caught.value.response.status_code == 401
    assert api.file_exists("m", "empty")
    assert not api.file_exists("m", "none")
    assert not api.repo_exists("none")


def run(site, program, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**site.environment(), "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_file_system_of_the_hub_reads_with_nothing_but_the_environment(site, tmp_path):
    program = """
from huggingface_hub import HfFileSystem
fs = HfFileSystem()
print(sorted(fs.ls("default/m", detail=False)))
with fs.open("default/m/weights.bin") as file:
    file.seek(-5, 2)
    print(file.read().hex())
"""
    listed, end = run(site, program, tmp_path).splitlines()
    assert "default/m/config.json" in listed
    assert end == FILES["weights.bin"][-5:].hex()


@pytest.mark.frameworks
def test_transformers_loads_a_configuration(site, tmp_path):
    pytest.importorskip("transformers")
    program = """
from transformers import AutoConfig
print(AutoConfig.from_pretrained("bert").hidden_size)
"""
    data = tmp_path / "bert"
    data.mkdir()
    (data / "config.json").write_text('{"model_type": "bert", "hidden_size": 96}')
    site.system.add("bert", f"file://{data}")
    assert run(site, program, tmp_path / "home") == "96\n"
