"""The image's recipe: what it copies is there, what it installs is pinned, and it ends as nobody in particular.

No image is built here; the wheel that it holds is, by ``tests/integration/test_wheel.py``.
"""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cachefs
from cachefs.k8s.manifests.parts import USER

ROOT = Path(cachefs.__file__).parent.parent
FOLDER = ROOT / "k8s" / "image"
KNOWN = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "ENTRYPOINT", "CMD"}
EXTRAS = ("postgres", "blake3", "hub", "gcs", "azure", "kubernetes")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _instructions():
    """Return the recipe's instructions: their word, and what follows."""
    text = (FOLDER / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def _pins(file):
    """Return the packages of a file of requirements with their versions, and how many hashes each has."""
    joined = file.read_text().replace("\\\n", " ")
    found = {}
    for line in joined.splitlines():
        text, *hashes = line.split("--hash=")
        requirement = Requirement(text.strip())
        (only,) = requirement.specifier
        assert only.operator == "=="
        found.setdefault(canonicalize_name(requirement.name), (only.version, len(hashes)))
    return found


def test_every_instruction_is_one_that_there_is():
    words = [word for word, _ in _instructions()]
    assert set(words) == KNOWN
    assert words[:2] == ["ARG", "FROM"]


def test_every_stage_begins_with_the_image_that_whoever_builds_pins():
    stages = [rest.split() for word, rest in _instructions() if word == "FROM"]
    assert len(stages) == 2
    assert {stage[0] for stage in stages} == {"${PYTHON}"}
    assert ("ARG", "PYTHON") in _instructions(), "it has no default, which would not be pinned"


def test_what_is_copied_is_there_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    stages = {rest.split()[2] for word, rest in _instructions() if word == "FROM" and "AS" in rest}
    for word, rest in _instructions():
        if word != "COPY":
            continue
        words = shlex.split(rest)
        if words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages
            continue
        for source in words[:-1]:
            if source == "wheelhous[e]":  # a pattern may match nothing, a name may not
                assert "wheelhouse" in sent
                continue
            assert (ROOT / source).exists(), source
            assert source.partition("/")[0] in sent
    assert not sent & {".git", ".venv", ".cache", "dist", "tests", "bench"}


def test_it_runs_as_whom_the_pods_run_as():
    last = max(at for at, (word, _) in enumerate(_instructions()) if word == "FROM")
    (user,) = (rest for word, rest in _instructions()[last:] if word == "USER")
    assert user == f"{USER}:{USER}"


def test_commands_are_said_as_lists():
    for word, rest in _instructions():
        if word in ("CMD", "ENTRYPOINT"):
            assert isinstance(json.loads(rest), list)


def test_shell_lines_can_be_read_by_a_shell():
    for word, rest in _instructions():
        if word == "RUN":
            subprocess.run(["/bin/sh", "-n", "-c", rest], check=True)


def test_everything_is_pinned_by_hash_at_the_version_that_is_tested():
    tested = (ROOT / "constraints.txt").read_text().replace(" ", "\n").splitlines()
    known = {canonicalize_name(line.split("==")[0]) for line in tested if "==" in line}
    for file in ("requirements.txt", "build.txt"):
        for name, (version, hashes) in _pins(FOLDER / file).items():
            assert hashes > 0, name
            if name in known:
                there = {
                    canonicalize_name(line.split("==")[0]) + line.partition("==")[2]
                    for line in tested
                }
                assert name + version in there, name


def test_what_the_extras_need_is_installed():
    extras = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]
    pins = _pins(FOLDER / "requirements.txt")
    assert [
        one
        for one in map(Requirement, needed)
        if not one.specifier.contains(pins.get(canonicalize_name(one.name), ("0", 0))[0])
    ] == []
    assert "hatchling" in _pins(FOLDER / "build.txt")


@pytest.mark.slow
def test_the_list_of_parts_names_each_with_its_version_and_hash(tmp_path):
    pytest.importorskip("cyclonedx_py", reason="needs the group check")
    command = [
        *(sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"),
        *("--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--no-validate"),
        *("--output-file", str(tmp_path / "sbom.json"), str(FOLDER / "requirements.txt")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "sbom.json").read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == "cachefs-ai"
    listed = {(canonicalize_name(one["name"]), one["version"]) for one in document["components"]}
    pins = _pins(FOLDER / "requirements.txt")
    assert {(name, version) for name, (version, _) in pins.items()} <= listed
    assert all(one["externalReferences"][0]["hashes"] for one in document["components"])
