"""The wheel holds real folders in place of the links, with everything that runs need."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import cachefs

ROOT = Path(cachefs.__file__).parent.parent
NEEDED = (
    "cachefs/config/defaults.yaml",
    "cachefs/workers/__main__.py",
    "cachefs/coordinator/__main__.py",
    "cachefs/sdk/__init__.py",
    "cachefs/dataflow/__init__.py",
    "cachefs/k8s/__init__.py",
    "cachefs/wire/proto/cachefs_pb2.py",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("cachefs_ai-*.whl")
    return built


def test_the_wheel_has_one_top_level_name_and_all_that_is_needed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"cachefs"}
    assert [needed for needed in NEEDED if needed not in names] == []
    assert any("/migrations/" in name and name.endswith(".py") for name in names)


def test_the_unpacked_wheel_starts_the_command_outside_of_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import cachefs.workers, cachefs.sdk;"
        "assert cachefs.workers.__file__.startswith(sys.argv[1]), cachefs.workers.__file__;"
        "from cachefs.cli.main import run; sys.argv[1:] = ['version']; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert cachefs.__version__ in done.stdout


def test_the_sdk_imports_without_server_packages(tmp_path):
    heavy = [
        "grpc",
        "fastapi",
        "uvicorn",
        "sqlalchemy",
        "pydantic",
        "typer",
        "rich",
        "numpy",
        "fsspec",
    ]
    script = (
        "import sys, cachefs.sdk;"
        f"loaded = [name for name in {heavy!r} if name in sys.modules];"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
