"""The recipes of docs/SDK.md work as they stand there."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

import cachefs
from tests.integration import sdk_models
from tests.integration.sdk_systems import running
from tests.unit.sdk.safetensors.files import safetensors_file

pytestmark = pytest.mark.slow

CHECKOUT = Path(cachefs.__file__).parent.parent
TEXT = (CHECKOUT / "docs" / "SDK.md").read_text()
RECIPES = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
NEEDS = (("jax", '"jax"'), ("torch", "pt"), ("numpy", '"numpy"'))
PRESENT = {"cachefs", "fsspec", "numpy", *sys.stdlib_module_names}
"""What `make test` has; recipes with other packages are for `make test-frameworks`."""


def needed(recipe):
    """Return the packages that a recipe needs."""
    found = set()
    for node in ast.walk(ast.parse(recipe)):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    if "cachefs.sdk.safetensors" in recipe:
        found.add(next((package for package, word in NEEDS if word in recipe), "torch"))
    return found


def marked(recipe, number):
    marks = [] if needed(recipe) <= PRESENT else [pytest.mark.frameworks]
    return pytest.param(recipe, id=str(number), marks=marks)


def write_tables(folder):
    (folder / "words.csv").write_text("number,word\n1,one\n2,two\n")
    if is_installed("pyarrow"):
        parquet = importlib.import_module("pyarrow.parquet")
        table = importlib.import_module("pyarrow").table({"number": range(9), "half": [0.5] * 9})
        parquet.write_to_dataset(table, str(folder / "parts"))
    return folder


def write_checkpoint(folder):
    if is_installed("torch"):
        torch = importlib.import_module("torch")
        checkpoint = importlib.import_module("torch.distributed.checkpoint")
        writer = checkpoint.FileSystemWriter(folder / "step-7")
        with warnings.catch_warnings(action="ignore"):
            checkpoint.save({"weight": torch.ones(4, 6)}, storage_writer=writer, no_dist=True)
    (folder / "readme").write_text("checkpoints")
    return folder


def write_models(chat, pictures):
    if is_installed("torch") and is_installed("transformers"):
        sdk_models.save_llama(chat)
    if is_installed("torch") and is_installed("diffusers"):
        sdk_models.save_pipeline(pictures)
    for folder in (chat, pictures):
        (folder / "readme").write_text("models")
    return {"chat": chat, "pictures": pictures}


def is_installed(package):
    return importlib.util.find_spec(package) is not None


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
    origins = {
        "llama": folder,
        "tables": write_tables(tmp_path_factory.mktemp("tables")),
        "checkpoints": write_checkpoint(tmp_path_factory.mktemp("checkpoints")),
        **write_models(tmp_path_factory.mktemp("chat"), tmp_path_factory.mktemp("pictures")),
    }
    folder = tmp_path_factory.mktemp("run")
    with running(folder, origins, ("llama",), duties=True) as system:
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
    "AutoTokenizer": "assert tokenizer('a b')['input_ids'] == [1, 2] and not model.training",
    "DiffusionPipeline": "assert pipeline.unet.dtype == torch.float16",
    "LocalFolder": "assert sorted(names)[0] == 'config.json' and len(names) == 5",
    "names=lambda": 'assert sorted(experts) == ["layers.0.q", "layers.1.q"]',
    "fsspec.open(": 'assert notes == "notes" and len(heads) == 2 and len(heads[0]) == 8',
    "pandas": "assert list(table.word) == ['one', 'two'] and numbers.number.sum() == 36",
    "pyarrow": "assert few.num_rows == 3",
    "FsspecReader": "assert float(state['weight'].sum()) == 24",
    "ray.data": "assert rows == 9 and len(files) == 1",
    "hint(": "assert advice.nodes[0].node == node and advice.id",
}


def check_of(recipe):
    # The rank's recipe also has get_slice: the last that fits is the most particular.
    return [check for word, check in CHECKS.items() if word in recipe][-1]


@pytest.mark.parametrize("recipe", [marked(each, at) for at, each in enumerate(RECIPES)])
def test_a_recipe_of_the_documentation_works(system, recipe):
    missing = [package for package in sorted(needed(recipe)) if not is_installed(package)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    environment = {name: value for name, value in os.environ.items() if "CACHEFS" not in name}
    with tempfile.TemporaryDirectory(prefix="ray") as home:  # whose sockets want a short path
        environment |= {"HOME": home, "RAY_TMPDIR": home, "RAY_AUTH_MODE": "disabled"}
        subprocess.run(
            [sys.executable, "-c", f"{recipe}\n{check_of(recipe)}\n"],
            cwd=home,
            env={**environment, "CACHEFS_STATE": str(system.folder), "PYTHONPATH": str(CHECKOUT)},
            check=True,
            timeout=110,
        )


def test_every_recipe_is_checked():
    assert len(RECIPES) == len(CHECKS)
    assert len({check_of(recipe) for recipe in RECIPES}) == len(CHECKS)
