"""SGLang reads models of datasets, as far as a machine without a GPU can show it.

Where SGLang can be imported, its own arguments, configuration, hooks, connector and loader are run.
Besides, what we build on is looked for in the source of whatever versions CACHEFS_SGLANG_SOURCES
lists.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cachefs
from cachefs.sdk.folders import pin
from tests.integration.engines.sources import check_functions, environment_of, packages

pytestmark = [pytest.mark.slow, pytest.mark.frameworks, pytest.mark.timeout(300)]

ROOT = Path(cachefs.__file__).parent.parent
LOAD = "tests.integration.engines.sglang_load"
SIZES = {"num_hidden_layers": 3}
EXPECTED = {
    "srt/plugins/hook_registry.py": {
        "HookRegistry.register": ["cls", "target", "hook", "hook_type"]
    },
    "srt/connector/__init__.py": {"create_remote_connector": ["url", "device"]},
    "srt/connector/base_connector.py": {
        "BaseConnector.get_local_dir": ["self"],
        "BaseConnector.weight_iterator": ["self", "rank"],
        "BaseConnector.pull_files": ["self", "allow_pattern", "ignore_pattern"],
        "BaseConnector.close": ["self"],
        "BaseFileConnector.glob": ["self", "allow_pattern"],
    },
    "srt/distributed/parallel_state.py": {
        "get_tensor_model_parallel_world_size": [],
        "model_parallel_is_initialized": [],
    },
    "srt/utils/common.py": {"is_remote_url": ["url"]},
    "srt/configs/model_config.py": {
        "ModelConfig._maybe_pull_model_tokenizer_from_remote": ["self"]
    },
    "srt/model_loader/loader.py": {"RemoteModelLoader._get_weights_iterator_fs": ["self", "client"]},
}  # fmt: skip


def can_import():
    """Say whether SGLang's loader can be imported, which wants packages that want a GPU."""
    if importlib.util.find_spec("sglang") is None:
        return False
    program = "import sglang.srt.model_loader.loader, sglang.srt.server_args"
    return subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0  # noqa: PLW1510


@pytest.mark.parametrize("package", packages("sglang"), ids=lambda each: each and each.parent.name)
def test_what_the_plug_in_builds_on_is_there(package):
    check_functions(package, EXPECTED)
    arguments = (package / "srt/server_args.py").read_text()
    assert "add_load_format_choices" in arguments
    assert "def __post_init__(self)" in arguments or "def resolve_once(self)" in arguments
    assert '"sglang.srt.plugins"' in (package / "srt/plugins/__init__.py").read_text()
    assert "client.weight_iterator()" in (package / "srt/model_loader/loader.py").read_text()


@pytest.fixture(scope="module")
def sglang():
    if not can_import():
        pytest.skip("SGLang cannot be imported")


@pytest.fixture(scope="module")
def origin(sglang, origin):
    """Return the folder of a model, which is not made in vain."""
    return origin


def load(system, place, **arguments):
    from safetensors.torch import load_file  # noqa: PLC0415

    done = subprocess.run(
        [sys.executable, "-m", LOAD, str(place), json.dumps(arguments)],
        cwd=ROOT, env=environment_of(system, place), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((place / "told.json").read_text()), load_file(place / "given.safetensors")


def test_tensors_and_configuration_are_the_dataset_s(system, origin, tmp_path):
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    extra = {"memory_bytes": 4 * 2**20, "concurrency": 2}
    told, given = load(
        system, tmp_path, model_path="cachefs://llama", load_format="cachefs",
        model_loader_extra_config=json.dumps(extra),
    )  # fmt: skip
    reference = pin("cachefs://llama", state=system.folder)
    settings = str(tmp_path / "cache/cachefs/settings")
    assert told.pop("config").startswith(settings)
    assert told == {
        "loader": "RemoteModelLoader", "format": "remote", "served": "llama",
        "path": reference, "weights": reference, "layers": 3,
    }  # fmt: skip
    wanted = {}
    for shard in origin.glob("*.safetensors"):
        wanted |= load_file(shard)
    assert given.keys() == wanted.keys()
    assert all(torch.equal(given[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"revision": "main"}, "--revision is for the Hub's models"),
        ({"model_loader_extra_config": '{"memory": 1}'}, "has no 'memory'"),
        ({"model_loader_extra_config": '{"dataset": "cachefs://a"}'}, "model path names the dataset"),
        ({"model_loader_extra_config": "{"}, "is no JSON"),
        ({"model_path": "org/name"}, "load format cachefs wants a dataset"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_clear_error(whole, monkeypatch, arguments, message):
    from types import SimpleNamespace  # noqa: PLC0415

    from cachefs.errors import ConfigError  # noqa: PLC0415
    from cachefs.sdk.sglang import OPTIONS_VARIABLE, prepare_arguments  # noqa: PLC0415

    monkeypatch.setenv(OPTIONS_VARIABLE, "{}")
    typed = {
        "model_path": "cachefs://llama", "tokenizer_path": None, "revision": None,
        "load_format": "cachefs", "model_loader_extra_config": "{}", "served_model_name": None,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        prepare_arguments(SimpleNamespace(**typed | arguments))
