"""Load a model's tensors as SGLang does, on the CPU, and save them and what SGLang made of its arguments.

Arguments: where to save, and the server's arguments as JSON. The plug-in is called as SGLang calls it;
arguments, configuration, connector and loader are SGLang's own. Only the model is not: its layers
want a GPU's kernels, and what they are given is kept as it comes.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from sglang.srt.plugins.hook_registry import HookRegistry

from cachefs.sdk import sglang

place = Path(sys.argv[1])
sglang.register()
HookRegistry.apply_hooks()

from sglang.srt.configs.device_config import DeviceConfig  # noqa: E402 - as SGLang: hooks come first
from sglang.srt.configs.load_config import LoadConfig  # noqa: E402
from sglang.srt.configs.model_config import ModelConfig  # noqa: E402
from sglang.srt.model_loader import loader as loaders  # noqa: E402
from sglang.srt.server_args import ServerArgs  # noqa: E402


class Model(torch.nn.Module):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.given = {}

    def load_weights(self, weights):
        for name, tensor in weights:
            assert name not in self.given
            self.given[name] = tensor.clone()


loaders._initialize_model = lambda *_, **__: Model()
arguments = ServerArgs(**json.loads(sys.argv[2]), device="cpu", skip_tokenizer_init=True)
if hasattr(arguments, "resolve_once"):
    arguments.resolve_once()
model_config = ModelConfig(arguments.model_path)
load_config = LoadConfig(
    load_format="remote", model_loader_extra_config=arguments.model_loader_extra_config
)
loader = loaders.get_model_loader(load_config, model_config)
model = loader.load_model(model_config=model_config, device_config=DeviceConfig("cpu"))
save_file(model.given, place / "given.safetensors")
told = {
    "loader": type(loader).__name__,
    "format": arguments.load_format,
    "served": arguments.served_model_name,
    "path": arguments.model_path,
    "config": model_config.model_path,
    "weights": model_config.model_weights,
    "layers": model_config.hf_config.num_hidden_layers,
}
(place / "told.json").write_text(json.dumps(told))
