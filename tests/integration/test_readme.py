"""What the README tells people to type works, in the order in which it says so."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cachefs

README = (Path(cachefs.__file__).parent.parent / "README.md").read_text()
SHARDS = [f"model-{number:05}-of-00004.safetensors" for number in range(1, 5)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def bucket(tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    (folder / "config.json").write_text('{"layers": 1}')
    (folder / "notes.txt").write_text("not included")
    for number, name in enumerate(SHARDS):
        (folder / name).write_bytes(bytes([number]) * 3_000_000)
    return folder


@pytest.fixture
def environment(tmp_path):
    clean = {name: value for name, value in os.environ.items() if "CACHEFS" not in name}
    return {**clean, "CACHEFS_STATE": str(tmp_path / "state")}


def commands(bucket) -> list[list[str]]:
    (block,) = (block for block in blocks("console") if "cachefs up" in block)
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in block.splitlines()]
    origin = {"s3://models/llama-3.1-8b/": f"file://{bucket}"}
    return [
        [sys.executable, "-m", "cachefs.cli", *(origin.get(word, word) for word in line[1:])]
        for line in words
    ]


@pytest.mark.slow
def test_the_commands_and_the_python_of_the_readme_work(bucket, environment, tmp_path):
    *before, down = commands(bucket)

    def run(command):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    try:
        printed = [run(command) for command in before]
        assert "notes.txt" not in printed[3]
        assert (tmp_path / "config.json").read_text() == '{"layers": 1}'
        (program,) = blocks("python")
        check = "\nassert config == b'{\"layers\": 1}'\nassert bytes(weights) == bytes(3_000_000)\n"
        run([sys.executable, "-c", program + check])
    finally:
        run(down)
