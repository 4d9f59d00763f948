"""The recipes of docs/SDK.md work as they stand there."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cachefs
from tests.integration.sdk_systems import running
from tests.unit.sdk.safetensors.files import safetensors_file

pytestmark = pytest.mark.slow

TEXT = (Path(cachefs.__file__).parent.parent / "docs" / "SDK.md").read_text()
RECIPES = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
NEEDS = (("jax", '"jax"'), ("torch", "pt"), ("numpy", '"numpy"'))


def needed(recipe):
    """Return the package that a recipe needs besides ours."""
    if "cachefs.sdk.safetensors" not in recipe:
        return "cachefs"
    return next((package for package, word in NEEDS if word in recipe), "torch")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin")
    weights = {}
    for number in range(2):
        name = f"model-{number + 1:05}-of-00002.safetensors"
        tensors = {
            f"layers.{number}.{part}": ("F32", (8, 6), bytes(range(192))) for part in ("q", "k")
        }
        (folder / name).write_bytes(safetensors_file(tensors))
        weights |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    (folder / "config.json").write_text('{"layers": 2}')
    (folder / "notes.txt").write_text("notes")
    with running(tmp_path_factory.mktemp("run"), {"llama": folder}, ("llama",)) as system:
        yield system


CHECKS = {
    "llama.open(": 'assert names and bytes(head) == config[:8] and bytes(other) == b"notes"',
    "local_path": 'assert text == "notes"',
    "asyncio.run": "assert config == b'{\"layers\": 2}'",
    'load_file("cachefs://llama", framework="numpy")': "assert total == 4 * 192",
    "get_slice(": "assert list(rows.shape) == [4, 6] and first.numel() == 48",
    '"jax"': "assert len(weights) == 4",
    "budget_bytes": "assert sum(sizes.values()) == 4 * 192",
    "rank_slices": "assert all(tensor.shape == (2, 6) for tensor in mine.values())",
    "names=lambda": 'assert sorted(experts) == ["layers.0.q", "layers.1.q"]',
}


def check_of(recipe):
    # The rank's recipe also has get_slice: the last that fits is the most particular.
    return [check for word, check in CHECKS.items() if word in recipe][-1]


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_of_the_documentation_works(system, recipe):
    if importlib.util.find_spec(needed(recipe)) is None:
        pytest.skip(f"{needed(recipe)} is not installed")
    environment = {name: value for name, value in os.environ.items() if "CACHEFS" not in name}
    subprocess.run(
        [sys.executable, "-c", f"{recipe}\n{check_of(recipe)}\n"],
        cwd=Path(cachefs.__file__).parent.parent,
        env={**environment, "CACHEFS_STATE": str(system.folder)},
        check=True,
        timeout=60,
    )


def test_every_recipe_is_checked():
    assert len(RECIPES) == len(CHECKS)
    assert len({check_of(recipe) for recipe in RECIPES}) == len(CHECKS)
