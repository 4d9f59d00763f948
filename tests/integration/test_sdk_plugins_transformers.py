"""transformers and diffusers load models by reference: the library's own, weight for weight."""

import importlib.util
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import cachefs
from cachefs.errors import ConfigError
from tests.integration.sdk_models import save_llama, save_pipeline
from tests.integration.sdk_systems import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def is_installed(*packages):
    return all(importlib.util.find_spec(each) for each in packages)


needs_transformers = pytest.mark.skipif(
    not is_installed("torch", "transformers"), reason="transformers is not installed"
)
needs_diffusers = pytest.mark.skipif(
    not is_installed("torch", "diffusers", "accelerate"), reason="diffusers is not installed"
)
needs_accelerate = pytest.mark.skipif(
    not is_installed("accelerate"), reason="accelerate is not installed"
)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """Return folders of a model of several shards, the same as a pickle, and a pipeline."""
    folder = tmp_path_factory.mktemp("origin")
    for name in ("llama", "pickled", "pipeline"):
        (folder / name).mkdir()
    if is_installed("torch", "transformers"):
        import torch  # noqa: PLC0415

        model = save_llama(folder / "llama")
        shutil.copy(folder / "llama/config.json", folder / "pickled")
        torch.save(model.state_dict(), folder / "pickled/pytorch_model.bin")
    if is_installed("torch", "diffusers"):
        save_pipeline(folder / "pipeline")
    return folder


@pytest.fixture(scope="module", params=[1, 2], ids=["whole", "spread"])
def system(request, origin, tmp_path_factory):
    """With one worker, files are whole on this node; of two, each has some blocks."""
    run = tmp_path_factory.mktemp("run")
    origins = {each.name: each for each in origin.iterdir() if any(each.iterdir())}
    with running(run, origins, tuple(origins), workers=request.param) as system:
        yield system


def assert_same(ours, theirs):
    import torch  # noqa: PLC0415

    mine, wanted = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert mine[name].dtype == tensor.dtype, name
        assert torch.equal(mine[name].cpu(), tensor), name


@needs_transformers
@pytest.mark.parametrize("options", [{}, {"dtype": "float32"}], ids=["as is", "as float32"])
def test_a_model_is_the_library_s_own(system, origin, options):
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: PLC0415

    from cachefs.sdk.transformers import load  # noqa: PLC0415

    theirs = LlamaForCausalLM.from_pretrained(origin / "llama", **options)
    for kind in (AutoModelForCausalLM, LlamaForCausalLM):
        ours = load(kind, "cachefs://llama", state=system.folder, **options)
        assert type(ours) is LlamaForCausalLM
        assert_same(ours, theirs)
        assert ours.generation_config.max_new_tokens == 7
        assert ours.config._name_or_path.startswith("cachefs://llama@")
        assert not ours.training


@needs_transformers
def test_a_model_s_parameters_are_what_was_read(system):
    """No parameter has memory of its own: those of a shard lie in one buffer or one mapping."""
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    from cachefs.sdk.transformers import load  # noqa: PLC0415

    model = load(LlamaForCausalLM, "cachefs://llama", state=system.folder)
    places = sorted((each.data_ptr(), each.nbytes) for each in model.parameters())
    neighbours = sum(
        0 <= following - (start + size) <= 64 for (start, size), (following, _) in pairwise(places)
    )
    assert neighbours >= len(places) - 8  # of four shards, and what is between their mappings


@needs_transformers
def test_options_reach_the_configuration_and_the_model(system):
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    from cachefs.sdk.transformers import load  # noqa: PLC0415

    model, report = load(
        AutoModelForCausalLM, "cachefs://llama", state=system.folder,
        attn_implementation="eager", output_hidden_states=True, output_loading_info=True,
    )  # fmt: skip
    assert model.config._attn_implementation == "eager"
    assert model.config.output_hidden_states is True
    assert not report["missing_keys"]


@needs_transformers
@needs_accelerate
def test_a_model_that_goes_elsewhere_is_the_same(system, origin):
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    from cachefs.sdk.transformers import load  # noqa: PLC0415

    theirs = LlamaForCausalLM.from_pretrained(origin / "llama")
    ours = load(LlamaForCausalLM, "cachefs://llama", state=system.folder, device_map="cpu")
    assert_same(ours, theirs)


@needs_transformers
def test_tokenizers_and_configurations_come_without_the_weights(system):
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415

    from cachefs.sdk.transformers import load  # noqa: PLC0415

    assert load(AutoConfig, "cachefs://llama", state=system.folder).num_hidden_layers == 3
    tokenizer = load(AutoTokenizer, "cachefs://llama", state=system.folder)
    assert tokenizer("a b c")["input_ids"] == [1, 2, 0]


@needs_transformers
def test_a_pickle_is_loaded_only_when_asked(system, origin, caplog):
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    from cachefs.sdk.transformers import load  # noqa: PLC0415

    with pytest.raises(ConfigError, match="a pickle can run any code"):
        load(LlamaForCausalLM, "cachefs://pickled", state=system.folder)
    ours = load(LlamaForCausalLM, "cachefs://pickled", state=system.folder, allow_pickle=True)
    assert "trusting the pickle" in caplog.text
    assert_same(ours, LlamaForCausalLM.from_pretrained(origin / "llama"))


@needs_transformers
def test_options_that_do_not_fit_are_refused(system):
    from transformers import AutoModel  # noqa: PLC0415

    from cachefs.sdk.transformers import load  # noqa: PLC0415

    with pytest.raises(ConfigError, match="does not take revision="):
        load(AutoModel, "cachefs://llama", state=system.folder, revision="main")
    with pytest.raises(ConfigError, match="does not take state_dict="):
        load(AutoModel, "cachefs://llama", state=system.folder, state_dict={})


@needs_transformers
def test_remote_code_is_not_run_unless_asked(system, origin, tmp_path):
    from transformers import AutoModel  # noqa: PLC0415

    from cachefs.sdk.transformers import load  # noqa: PLC0415

    evil = tmp_path / "evil"
    shutil.copytree(origin / "llama", evil)
    config = json.loads((evil / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (evil / "config.json").write_text(json.dumps(config))
    (evil / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    system.add(f"evil{tmp_path.name}", f"file://{evil}")
    with pytest.raises(ValueError, match=r"trust_remote_code|custom code"):
        load(AutoModel, f"cachefs://evil{tmp_path.name}", state=system.folder)
    assert not (tmp_path / "ran").exists()


PEAK = """
import sys
from pathlib import Path
import torch
from transformers import LlamaForCausalLM
from cachefs.sdk.transformers import load

def resident():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024

reference, state, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
load(LlamaForCausalLM, reference.replace("large", "llama"), state=state, **options)
before, peak = resident(), 0
import threading
ended = threading.Event()
def look():
    global peak
    while not ended.wait(0.002):
        peak = max(peak, resident())
watcher = threading.Thread(target=look)
watcher.start()
model = load(LlamaForCausalLM, reference, state=state, **options)
ended.set(); watcher.join()
print(peak - before, sum(each.nbytes for each in model.parameters()))
"""


@needs_transformers
@pytest.mark.parametrize("options", [{}, {"device_map": "cpu"}], ids=["as is", "one by one"])
def test_loading_takes_no_more_memory_than_the_checkpoint(request, system, tmp_path, options):
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    if options and not is_installed("accelerate"):
        pytest.skip("accelerate is not installed")
    config = LlamaConfig(
        vocab_size=8192, hidden_size=1024, intermediate_size=4096, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=8,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(
        tmp_path / "o", max_shard_size="100MB"
    )
    name = f"large{len(str(options))}"
    system.add(name, f"file://{tmp_path / 'o'}")
    assert system.wait_for_job(system.warm(name))["state"] == "done"
    done = subprocess.run(
        [sys.executable, "-c", PEAK.replace("large", name), f"cachefs://{name}", system.folder,
         repr(options)],
        cwd=Path(cachefs.__file__).parent.parent, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peak, size = map(int, done.stdout.split()[-2:])
    most = 1.05 if request.node.callspec.params["system"] == 2 else 0.05  # views take none
    assert peak <= most * size, f"{peak / 1e6} MB for {size / 1e6} MB of weights"


@needs_diffusers
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_pipeline_is_the_library_s_own(system, origin, variant):
    import torch  # noqa: PLC0415
    from diffusers import DDPMPipeline, DiffusionPipeline, UNet2DModel  # noqa: PLC0415

    from cachefs.sdk.diffusers import load  # noqa: PLC0415

    options = {"variant": variant, "torch_dtype": torch.float16 if variant else torch.float32}
    theirs = DDPMPipeline.from_pretrained(origin / "pipeline", **options)
    ours = load(DiffusionPipeline, "cachefs://pipeline", state=system.folder, **options)
    assert type(ours) is DDPMPipeline
    assert_same(ours.unet, theirs.unet)
    unet = load(UNet2DModel, "cachefs://pipeline/unet", state=system.folder, **options)
    assert_same(unet, theirs.unet)


@needs_diffusers
def test_a_pipeline_s_pickles_are_never_loaded(system):
    from diffusers import DiffusionPipeline  # noqa: PLC0415

    from cachefs.sdk.diffusers import load  # noqa: PLC0415

    with pytest.raises(ConfigError, match="safetensors only"):
        load(DiffusionPipeline, "cachefs://pipeline", state=system.folder, use_safetensors=False)
    with pytest.raises(ConfigError, match="does not take revision="):
        load(DiffusionPipeline, "cachefs://pipeline", state=system.folder, revision="main")
