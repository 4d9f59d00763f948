"""vLLM loads models of datasets, as far as a machine without a GPU can show it.

Where vLLM can be imported, its own classes are run: arguments, configuration, loader registry, the
model and its layers, with several ranks. Besides, what we build on is looked for in the source of
whatever versions CACHEFS_VLLM_SOURCES lists.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cachefs
from cachefs.sdk.folders import pin
from tests.integration.engines.sources import check_functions, environment_of, packages

pytestmark = [pytest.mark.slow, pytest.mark.frameworks, pytest.mark.timeout(300)]

ROOT = Path(cachefs.__file__).parent.parent
RANK = "tests.integration.engines.vllm_rank"
LAYERS = 2
SIZES = {
    "vocab_size": 2048, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": LAYERS,
    "num_key_value_heads": 4, "shard_size": "6MB",
}  # fmt: skip

needs_vllm = pytest.mark.skipif(
    not importlib.util.find_spec("vllm"), reason="vLLM is not installed"
)

EXPECTED = {
    "model_executor/model_loader/__init__.py": {"register_model_loader": ["load_format"]},
    "model_executor/model_loader/base_loader.py": {
        "BaseModelLoader.download_model": ["self", "model_config"],
        "BaseModelLoader.load_weights": ["self", "model", "model_config"],
    },
    "model_executor/model_loader/default_loader.py": {
        "DefaultModelLoader.__init__": ["self", "load_config"],
        "DefaultModelLoader.download_model": ["self", "model_config"],
        "DefaultModelLoader.load_weights": ["self", "model", "model_config"],
        "DefaultModelLoader._get_weights_iterator": ["self", "source"],
    },
    "model_executor/model_loader/ep_weight_filter.py": {
        "should_skip_weight": ["weight_name", "local_expert_ids"]
    },
    "config/model.py": {
        "ModelConfig.maybe_pull_model_tokenizer_for_runai": ["self", "model", "tokenizer"]
    },
    "engine/arg_utils.py": {"EngineArgs.create_load_config": ["self"]},
    "distributed/parallel_state.py": {"get_tensor_model_parallel_world_size": []},
    "transformers_utils/utils.py": {"is_cloud_storage": ["model_or_path"]},
}


@pytest.mark.parametrize("package", packages("vllm"), ids=lambda each: each and each.parent.name)
def test_what_the_plug_in_builds_on_is_there(package):
    check_functions(package, EXPECTED)
    arguments = (package / "engine/arg_utils.py").read_text()
    assert "if not is_cloud_storage(self.model)" in arguments
    loader = (package / "model_executor/model_loader/default_loader.py").read_text()
    fields = {"model_or_path", "prefix", "allow_patterns_overrides"}
    assert all(f"    {each}: " in loader for each in fields)
    assert "self.local_expert_ids" in loader
    assert '"vllm.general_plugins"' in (package / "plugins/__init__.py").read_text()


@pytest.fixture(scope="module")
def origin(origin):
    """Return the folder of the model, which is a pickle in ``pickled``, too."""
    import torch  # noqa: PLC0415
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    model = LlamaForCausalLM.from_pretrained(origin, dtype=torch.bfloat16)
    (origin / "pickled").mkdir()
    shutil.copy(origin / "config.json", origin / "pickled")
    torch.save(model.state_dict(), origin / "pickled/pytorch_model.bin")
    return origin


def load(system, place, ranks=1, **arguments):
    """Load as so many ranks; return what each says, and its parameters."""
    from safetensors.torch import load_file  # noqa: PLC0415

    environment = environment_of(system, place, HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1")
    arguments = {"load_format": "cachefs", **arguments}
    command = [sys.executable, "-m", RANK]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(ranks), str(place), str(place), json.dumps(arguments)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-4000:]
    return [
        (json.loads((place / f"rank{rank}.json").read_text()), load_file(place / f"rank{rank}.safetensors"))
        for rank in range(ranks)
    ]  # fmt: skip


def weights(origin):
    from safetensors.torch import load_file  # noqa: PLC0415

    found = {}
    for shard in origin.glob("*.safetensors"):
        found |= load_file(shard)
    return found


def share(origin, rank, ranks):
    """Return a rank's parameters as vLLM's Llama has them, from the checkpoint."""
    import torch  # noqa: PLC0415

    whole = weights(origin)

    def part(name, dimension=0):
        return whole[name].chunk(ranks, dimension)[rank]

    mine = {name: part(name) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    mine["model.norm.weight"] = whole["model.norm.weight"]
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        for joined, names in {"self_attn.qkv": "qkv", "mlp.gate_up": ("gate_", "up_")}.items():
            group = joined.partition(".")[0]
            suffix = "_proj.weight" if group == "self_attn" else "proj.weight"
            parts = [part(f"{layer}.{group}.{name}{suffix}") for name in names]
            mine[f"{layer}.{joined}_proj.weight"] = torch.cat(parts)
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            mine[f"{layer}.{name}.weight"] = part(f"{layer}.{name}.weight", 1)
        for name in ("input_layernorm", "post_attention_layernorm"):
            mine[f"{layer}.{name}.weight"] = whole[f"{layer}.{name}.weight"]
    return mine


def assert_same(ours, wanted):
    import torch  # noqa: PLC0415

    assert ours.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(ours[name], tensor), name


@needs_vllm
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_model_s_parameters_are_those_of_the_checkpoint(system, origin, tmp_path, ranks):
    loaded = load(system, tmp_path, ranks, model="cachefs://llama")
    reference = pin("cachefs://llama", state=system.folder)
    for rank, (told, parameters) in enumerate(loaded):
        assert told["loader"] == "cachefs.sdk.vllm"
        assert told["weights"] == reference
        assert told["served"] == "cachefs://llama"
        assert Path(told["model"]).is_relative_to(tmp_path / "cache/cachefs/settings")
        assert_same(parameters, share(origin, rank, ranks))


@needs_vllm
def test_a_rank_reads_only_the_rows_that_are_its_own(spread, origin, tmp_path):
    """Of two ranks, each reads half of what is split by rows, and the rest whole."""
    loaded = load(spread, tmp_path, 2, model="cachefs://llama")
    split, whole = 0, 0
    for name, tensor in weights(origin).items():
        by_rows = not any(part in name for part in ("norm", "o_proj", "down_proj"))
        split += tensor.nbytes if by_rows else 0
        whole += 0 if by_rows else tensor.nbytes
    for told, _ in loaded:
        settings = 64 * 1024  # and headers
        assert split / 2 + whole <= told["bytes"] <= 1.02 * (split / 2 + whole) + settings


@needs_vllm
def test_a_dataset_can_be_named_beside_a_model(system, origin, tmp_path):
    ((told, parameters),) = load(
        system, tmp_path, model=str(origin),
        model_loader_extra_config={"dataset": "cachefs://llama", "memory_bytes": 12 * 2**20,
                                   "concurrency": 2, "deadline_seconds": 30, "backend": "pread"},
    )  # fmt: skip
    assert told["model"] == str(origin)
    assert told["dataset"] == pin("cachefs://llama", state=system.folder)
    assert_same(parameters, share(origin, 0, 1))


@needs_vllm
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_loader_extra_config": {"memory": 1}}, "has no 'memory' (it has dataset,"),
        ({"revision": "main"}, "--revision is for the Hub's models"),
    ],
)
def test_wrong_arguments_are_one_clear_error(whole, tmp_path, arguments, message):
    with pytest.raises(AssertionError) as failure:
        load(whole, tmp_path, model="cachefs://llama", **arguments)
    assert message in str(failure.value)


LACKING = """
from vllm.config import ModelConfig
from vllm.model_executor import model_loader
from cachefs.sdk import vllm
del ModelConfig.maybe_pull_model_tokenizer_for_runai
vllm.register()
assert "cachefs" not in model_loader._LOAD_FORMAT_TO_MODEL_LOADER
"""


@needs_vllm
def test_a_version_that_lacks_something_is_left_alone():
    done = subprocess.run(
        [sys.executable, "-c", LACKING],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "this vLLM has no maybe_pull_model_tokenizer_for_runai" in done.stderr


@needs_vllm
def test_a_pickle_is_loaded_only_when_asked(whole, origin, tmp_path):
    with pytest.raises(AssertionError, match="a pickle can run any code"):
        load(whole, tmp_path, model="cachefs://llama/pickled")
    ((_, parameters),) = load(
        whole, tmp_path, model="cachefs://llama/pickled",
        model_loader_extra_config={"allow_pickle": True},
    )  # fmt: skip
    assert_same(parameters, share(origin, 0, 1))
