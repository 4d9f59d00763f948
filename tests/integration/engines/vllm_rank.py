"""Load a model as a rank of vLLM does, on the CPU, and save its parameters and what was read.

Arguments: the rank, how many ranks, a folder that they share, where to save, and the engine's
arguments as JSON. The plug-in is called as vLLM calls it, and everything is vLLM's own: arguments,
configuration, the model and how its layers take weights.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from vllm.config import set_current_vllm_config
from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader import get_model_loader
from vllm.utils.torch_utils import set_default_torch_dtype

from cachefs.sdk import engines, vllm

rank, ranks, shared, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
vllm.register()
vllm.register()
arguments = EngineArgs(
    **json.loads(sys.argv[5]), skip_tokenizer_init=True, enforce_eager=True,
    tensor_parallel_size=ranks, distributed_executor_backend="mp",
)  # fmt: skip
config = arguments.create_engine_config()
readers = []
opened = engines.open_reference


def watched(*arguments, **options):
    found = opened(*arguments, **options)
    readers.append(found[0].reader)
    return found


engines.open_reference = watched
with set_current_vllm_config(config):
    init_distributed_environment(
        world_size=ranks, rank=rank, local_rank=rank,
        distributed_init_method=f"file://{shared}/rendezvous", backend="gloo",
    )  # fmt: skip
    ensure_model_parallel_initialized(ranks, 1)
    loader = get_model_loader(config.load_config)
    loader.download_model(config.model_config)
    with set_default_torch_dtype(config.model_config.dtype):
        model = loader.create_model(vllm_config=config, model_config=config.model_config)
        loader.load_weights(model, config.model_config)
parameters = {name: each.detach().clone() for name, each in model.named_parameters()}
save_file(parameters, place / f"rank{rank}.safetensors")
told = {
    "loader": type(loader).__module__,
    "model": config.model_config.model,
    "weights": config.model_config.model_weights,
    "served": config.model_config.served_model_name,
    "dataset": config.load_config.model_loader_extra_config.get("dataset"),
    "bytes": sum(reader.statistics().bytes_delivered for reader in readers),
}
(place / f"rank{rank}.json").write_text(json.dumps(told))
torch.distributed.destroy_process_group()
